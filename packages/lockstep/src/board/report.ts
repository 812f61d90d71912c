/**
 * Runs as one HTML file: the board's page with everything that it shows inside, thinned out. It asks nobody for anything, and says so in a
 * content security policy of its own, so that it may be sent to anybody and opened from anywhere.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunEntry, SeriesAnswer } from './protocol.js';
import type { Run } from './run.js';
import { Runs } from './runs.js';
import { imageType, PAGE_FOLDER, readTimeline } from './server.js';

/** A file begins with it; what does not is not written over. */
export const REPORT_BEGIN = '<!doctype html>\n<!-- made by lockstep report -->\n';
/** Of one series, if there are not too many. */
const MOST_POINTS = 400;
const FEWEST_POINTS = 40;
/** Of all series together: some 20 MB of text. */
const ALL_POINTS = 600_000;
const MOST_RUNS = 200;
/** Newest of each run; a larger one is left out. */
const TIMELINES = 2;
const TIMELINE_BYTES = 2 * 2 ** 20;

export interface Report {
  readonly html: string;
  readonly runs: number;
  /** What was left out, in words. */
  readonly notes: readonly string[];
}

/**
 * @param pattern of the runs' names; null: all
 * @param now seconds since 1970
 * @throws Error where there is no run
 */
export async function makeReport(folder: string, pattern: RegExp | null, now = Date.now() / 1000): Promise<Report> {
  const all = new Runs(folder);
  await all.refresh();
  const answer = all.answer();
  const found = answer.runs
    .filter(({ name }) => pattern?.test(name) ?? true)
    .sort((a, b) => (b.begin ?? 0) - (a.begin ?? 0));
  if (found.length === 0) {
    const what =
      all.problem ?? (answer.runs.length === 0 ? 'there are no event files in it' : `no run is called like ${pattern}`);
    throw new Error(
      `${folder}: ${what}.\nhelp: name a folder that runs have written into, or one of such folders: lockstep report MODEL_DIR`,
    );
  }
  const entries = found.slice(0, MOST_RUNS);
  const notes = found.length > MOST_RUNS ? [`${found.length - MOST_RUNS} older runs are left out.`] : [];
  const runs = entries.map(({ id }) => all.byId(id) as Run);
  const count = runs.reduce((sum, run) => sum + run.series.size, 0);
  const points = Math.max(FEWEST_POINTS, Math.min(MOST_POINTS, Math.floor(ALL_POINTS / Math.max(1, count))));
  const timelines = Object.fromEntries(runs.map((run) => [run.id, timelinesOf(run)]));
  const data = {
    // Nobody writes into a report.
    runs: {
      ...answer,
      isLoading: false,
      runs: entries.map(
        (run): RunEntry => ({ ...run, isLive: false, timelines: Object.keys(timelines[run.id] ?? {}) }),
      ),
    },
    details: runs.map(({ details }) => details),
    series: runs.flatMap((run) =>
      [...run.series].map(([tag, series]) => shortened({ run: run.id, tag, ...series.sample(points) })),
    ),
    images: Object.fromEntries(runs.map((run) => [run.id, imagesOf(run)])),
    timelines,
    made: now,
  };
  return { html: page(JSON.stringify(data)), runs: entries.length, notes };
}

/** What a plot can show of a number. */
function shortened(answer: SeriesAnswer): SeriesAnswer {
  const values = (list: readonly (number | null)[]) => list.map((value) => value && Number(value.toPrecision(6)));
  return {
    ...answer,
    times: answer.times.map((time) => Number(time.toFixed(2))),
    values: values(answer.values),
    ...(answer.low && { low: values(answer.low) }),
    ...(answer.high && { high: values(answer.high) }),
  };
}

function imagesOf(run: Run): Record<string, string> {
  return Object.fromEntries(
    [...run.images].flatMap(([tag, { bytes }]) => {
      const type = imageType(bytes);
      return type ? [[tag, `data:${type};base64,${Buffer.from(bytes).toString('base64')}`]] : [];
    }),
  );
}

function timelinesOf(run: Run): Record<string, unknown> {
  return Object.fromEntries(
    run.timelines.slice(-TIMELINES).flatMap((steps) => {
      try {
        const bytes = readTimeline(run, steps);
        return bytes.length <= TIMELINE_BYTES ? [[steps, JSON.parse(bytes.toString('utf8')) as unknown]] : [];
      } catch {
        // Half written, or gone.
        return [];
      }
    }),
  );
}

function page(data: string): string {
  const [script, style] = ['page.js', 'page.css'].map((name) => readFileSync(join(PAGE_FOLDER, name), 'utf8')) as [
    string,
    string,
  ];
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  const policy = `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; img-src data:; base-uri 'none'; form-action 'none'`;
  // Whatever a run's name or text says, it ends no element.
  const inert = data.replaceAll('<', '\\u003c').replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
  return `${REPORT_BEGIN}<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Lockstep report</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
<noscript>The report draws with JavaScript.</noscript>
<script type="application/json" id="report">${inert}</script>
<script>${script}</script>
</body>
</html>
`;
}
