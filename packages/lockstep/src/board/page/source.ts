/** Where the page's figures come from: a server that pushes, or a report's own text. Everything else does not know which. */
import type { ChangeNote, RunDetails, RunsAnswer, SeriesAnswer } from '../protocol.js';

export interface SeriesQuery {
  readonly runs: readonly number[];
  readonly tags: readonly string[];
  readonly points: number;
  /** Steps. */
  readonly from?: number | undefined;
  readonly to?: number | undefined;
}

export type Runs = RunsAnswer & { readonly problem?: string };

export interface Source {
  readonly isReport: boolean;
  runs(): Promise<Runs>;
  series(query: SeriesQuery): Promise<SeriesAnswer[]>;
  details(run: number): Promise<RunDetails>;
  /** Of a picture. */
  imageUrl(run: number, tag: string, step: number): string | null;
  timeline(run: number, steps: string): Promise<unknown>;
  /** @param onState whether the server answers */
  follow(onChange: (runs: readonly number[]) => void, onState: (isConnected: boolean) => void): void;
}

export class ServerSource implements Source {
  readonly isReport = false;

  runs(): Promise<Runs> {
    return get('/api/runs');
  }

  series({ runs, tags, points, from, to }: SeriesQuery): Promise<SeriesAnswer[]> {
    if (runs.length === 0 || tags.length === 0) return Promise.resolve([]);
    const query = new URLSearchParams({ points: String(points), run: ranges(runs) });
    for (const tag of tags) query.append('tag', tag);
    if (from !== undefined) query.set('from', from.toFixed(3));
    if (to !== undefined) query.set('to', to.toFixed(3));
    return get(`/api/series?${query}`);
  }

  details(run: number): Promise<RunDetails> {
    return get(`/api/run?run=${run}`);
  }

  imageUrl(run: number, tag: string, step: number): string {
    return `/api/image?${new URLSearchParams({ run: String(run), tag, at: String(step) })}`;
  }

  timeline(run: number, steps: string): Promise<unknown> {
    return get(`/api/timeline?run=${run}&steps=${steps}`);
  }

  follow(onChange: (runs: readonly number[]) => void, onState: (isConnected: boolean) => void): void {
    const events = new EventSource('/api/changes');
    events.onmessage = ({ data }) => onChange((JSON.parse(String(data)) as ChangeNote).runs);
    events.onopen = () => onState(true);
    // The browser tries again by itself, unless it was told off.
    events.onerror = () => {
      onState(false);
      if (events.readyState !== EventSource.CLOSED) return;
      setTimeout(() => this.follow(onChange, onState), 3000);
    };
  }
}

/** What `lockstep report` writes into the page. */
export interface ReportData {
  readonly runs: Runs;
  readonly details: readonly RunDetails[];
  readonly series: readonly SeriesAnswer[];
  /** `data:` addresses by run, then by tag. */
  readonly images: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** By run, then by step. */
  readonly timelines: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Seconds since 1970. */
  readonly made: number;
}

export class ReportSource implements Source {
  readonly isReport = true;

  constructor(readonly data: ReportData) {}

  async runs(): Promise<Runs> {
    return this.data.runs;
  }

  async series({ runs, tags }: SeriesQuery): Promise<SeriesAnswer[]> {
    return this.data.series.filter(({ run, tag }) => runs.includes(run) && tags.includes(tag));
  }

  async details(run: number): Promise<RunDetails> {
    return this.data.details.find(({ id }) => id === run) ?? { id: run, parameters: {}, texts: {}, images: {} };
  }

  imageUrl(run: number, tag: string): string | null {
    return this.data.images[run]?.[tag] ?? null;
  }

  async timeline(run: number, steps: string): Promise<unknown> {
    return this.data.timelines[run]?.[steps] ?? null;
  }

  follow(): void {}
}

/** `1,4-7`. */
function ranges(runs: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const run of [...runs].sort((a, b) => a - b)) {
    const last = parts.at(-1);
    if (last && last[1] === run - 1) last[1] = run;
    else parts.push([run, run]);
  }
  return parts.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(',');
}

async function get<T>(address: string): Promise<T> {
  const answer = await fetch(address, { credentials: 'same-origin' });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return (await answer.json()) as T;
}
