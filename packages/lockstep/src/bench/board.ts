/**
 * `lockstep bench board`: how long the board takes to open a long run: from the moment its files are looked for to the answers that a page
 * draws, every series thinned out. The run is made: event files of as many points, by the writer that runs have. Medians of turns count.
 */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EventFileWriter } from '@lockstep/official/summary/event-file';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { startBoard } from '../board/server.js';
import { flagMain } from '../flag-main.js';
import { summarize } from './statistics.js';

/** As a run of Lockstep writes them together. */
const TAGS = [
  'loss',
  'cross_entropy',
  'l2_loss',
  'learning_rate',
  'train_accuracy',
  'images_per_second',
  'step_ms',
  'step_ms/forward',
  'step_ms/backward',
  'step_ms/reduce',
];
const POINTS = 500;

export interface BoardBenchReport {
  readonly points: number;
  readonly bytes: number;
  /** Files found, read and taken in. */
  readonly read_ms: number;
  /** All series, for a plot each. */
  readonly series_ms: number;
  /** The same again with a tenth of the run in view. */
  readonly zoom_ms: number;
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-board-'));
    try {
      const isOneByOne = flags.get('one_by_one' as never) as boolean;
      const points = flags.get('points' as never) as number;
      write(folder, points, isOneByOne);
      const report = await measure(folder, points, flags.get('turns' as never) as number);
      process.stdout.write(flags.get('json' as never) ? `${JSON.stringify(report)}\n` : format(report));
      return 0;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench board',
    summary: 'Opens a long run in the board: time until its files are read, and until every plot has its points.',
  });
  const key = true;
  flags.DEFINE_integer({
    name: 'points',
    default: 1_000_000,
    lowerBound: 100,
    key,
    help: 'Points of all series together.',
  });
  flags.DEFINE_bool({
    name: 'one_by_one',
    default: false,
    key,
    help: 'An event for each point, as other tools write them, not one for all of a step.',
  });
  flags.DEFINE_integer({ name: 'turns', default: 5, lowerBound: 1, key, help: 'How often it is opened.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one line of JSON.' });
  return flags;
}

function write(folder: string, points: number, isOneByOne: boolean): void {
  const writer = new EventFileWriter(folder, {
    warn: (line) => {
      throw new Error(line);
    },
  });
  for (let step = 1; step <= points / TAGS.length; step++) {
    const scalars = Object.fromEntries(TAGS.map((tag, i) => [tag, Math.sin(step / (1000 + i)) + i]));
    if (!isOneByOne) writer.add({ step, scalars });
    else for (const tag of TAGS) writer.add({ step, scalars: { [tag]: scalars[tag] as number } });
  }
  writer.close();
}

async function measure(folder: string, points: number, turns: number): Promise<BoardBenchReport> {
  const times = { read: [] as number[], series: [] as number[], zoom: [] as number[] };
  const query = new URLSearchParams({ run: '0', points: String(POINTS) });
  for (const tag of TAGS) query.append('tag', tag);
  const last = points / TAGS.length;
  for (let turn = 0; turn < turns; turn++) {
    const board = await startBoard({ folder, port: 0 });
    try {
      const timed = async (list: number[], action: () => Promise<unknown>) => {
        const begin = performance.now();
        await action();
        list.push(performance.now() - begin);
      };
      await timed(times.read, () => board.runs.refresh());
      const ask = async (address: string) => await (await fetch(`${board.url}${address}`)).json();
      await timed(times.series, () => ask(`api/series?${query}`));
      await timed(times.zoom, () => ask(`api/series?${query}&from=${0.4 * last}&to=${0.5 * last}`));
    } finally {
      await board.close();
    }
  }
  const [file] = readdirSync(folder) as [string];
  const median = (list: readonly number[]) => summarize(list).median;
  const { size } = statSync(join(folder, file));
  return {
    points,
    bytes: size,
    read_ms: median(times.read),
    series_ms: median(times.series),
    zoom_ms: median(times.zoom),
  };
}

function format({ points, bytes, read_ms: read, series_ms: series, zoom_ms: zoom }: BoardBenchReport): string {
  const row = (what: string, ms: number) => `${what.padEnd(34)}${ms.toFixed(0).padStart(7)} ms\n`;
  return (
    `${points.toLocaleString('en-US')} points, ${(bytes / 1e6).toFixed(1)} MB of event files\n` +
    row('files found and read', read) +
    row('all series, thinned out', series) +
    row('the same, a tenth in view', zoom)
  );
}
