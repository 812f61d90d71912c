/**
 * A Chrome trace as tracks of nested spans (a track is a replica: one process a worker, one thread a replica; what is on its way between
 * workers meanwhile is a track of its own), and what each replica spent on each phase. Whoever is slow shows in what it computes; the others show in what they wait for.
 */
import { PHASES } from './colors.js';

export interface Span {
  readonly name: string;
  /** Milliseconds since the trace's first. */
  readonly begin: number;
  readonly ms: number;
  /** Spans around it. */
  readonly depth: number;
  /** The phase that it is, or lies in; '' outside of all. */
  readonly phase: string;
}

export interface Track {
  readonly name: string;
  readonly spans: readonly Span[];
  readonly depth: number;
}

export interface Trace {
  readonly tracks: readonly Track[];
  readonly ms: number;
}

interface RawEvent {
  readonly ph: string;
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly id?: string;
  readonly args?: { readonly name?: unknown };
}

/** @param json whatever the file holds @returns null where it is no trace */
export function readTrace(json: unknown): Trace | null {
  const events = (Array.isArray(json) ? json : (json as { traceEvents?: unknown } | null)?.traceEvents) as unknown;
  if (!Array.isArray(events)) return null;
  const names = new Map<string, string>();
  const byTrack = new Map<string, RawEvent[]>();
  const open = new Map<string, RawEvent>();
  for (const event of events as RawEvent[]) {
    if (typeof event !== 'object' || event === null) continue;
    const key = `${event.pid}:${event.tid}`;
    if (event.ph === 'M' && event.name === 'thread_name') names.set(key, String(event.args?.name));
    if (event.ph === 'M' && event.name === 'process_name') names.set(`${event.pid}`, String(event.args?.name));
    if (event.ph === 'b' || event.ph === 'e') journey(event, open, byTrack);
    if (event.ph !== 'X' || !Number.isFinite(event.ts) || !(event.dur >= 0)) continue;
    add(byTrack, key, event);
  }
  if (byTrack.size === 0) return null;
  const all = [...byTrack.values()].flat();
  const origin = all.reduce((least, { ts }) => Math.min(least, ts), Number.POSITIVE_INFINITY);
  const end = all.reduce((most, { ts, dur }) => Math.max(most, ts + dur), 0);
  const pids = new Set(all.map(({ pid }) => pid));
  const tracks = [...byTrack].map(([key, raw]): Track => {
    const [pid, tid, network] = key.split(':') as [string, string, string | undefined];
    const own = names.get(`${pid}:${tid}`) ?? `replica ${tid}`;
    const thread = network === undefined ? own : `${own}, network`;
    const spans = nest(raw, origin);
    return {
      name: pids.size > 1 ? `${names.get(pid) ?? `worker ${pid}`}, ${thread}` : thread,
      spans,
      depth: spans.reduce((most, { depth }) => Math.max(most, depth + 1), 1),
    };
  });
  tracks.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  return { tracks, ms: (end - origin) / 1000 };
}

function add(byTrack: Map<string, RawEvent[]>, key: string, event: RawEvent): void {
  const track = byTrack.get(key);
  if (track) track.push(event);
  else byTrack.set(key, [event]);
}

/** From where something began on its way to where it arrived. */
function journey(event: RawEvent, open: Map<string, RawEvent>, byTrack: Map<string, RawEvent[]>): void {
  const id = `${event.pid}:${event.id}`;
  const begun = open.get(id);
  if (event.ph === 'b') open.set(id, event);
  else if (begun && event.ts >= begun.ts) {
    open.delete(id);
    const key = `${begun.pid}:${begun.tid}:network`;
    add(byTrack, key, { ...begun, dur: event.ts - begun.ts });
  }
}

function nest(raw: readonly RawEvent[], origin: number): Span[] {
  const sorted = [...raw].sort((a, b) => a.ts - b.ts || b.dur - a.dur);
  const around: { end: number; phase: string }[] = [];
  return sorted.map(({ name, ts, dur }) => {
    // Clocks tick in parts of a microsecond: a span may seem to begin just before its neighbour ends.
    while (around.length > 0 && (around.at(-1) as { end: number }).end < ts + Math.min(dur, 1)) around.pop();
    const phase = PHASES.includes(name as never) ? name : (around.at(-1)?.phase ?? '');
    const span = { name, begin: (ts - origin) / 1000, ms: dur / 1000, depth: around.length, phase };
    around.push({ end: ts + dur, phase });
    return span;
  });
}

export interface ReplicaTimes {
  readonly name: string;
  /** In {@link PHASES}' order, of one step. */
  readonly times: readonly (readonly [phase: string, ms: number])[];
  /** Input, forward, backward: nobody else's doing. */
  readonly own: number;
  /** `own` against the median of all; 0.1: a tenth slower. */
  readonly behind: number;
}

/** What each replica spent where, of one step on average. */
export function replicaTimes({ tracks }: Trace): ReplicaTimes[] {
  const all = tracks.map(({ name, spans }) => {
    const steps = Math.max(1, spans.filter((span) => /^step\b/.test(span.name)).length);
    const times = PHASES.flatMap((phase) => {
      const mine = spans.filter((span) => span.name === phase);
      return mine.length === 0 ? [] : [[phase, mine.reduce((sum, { ms }) => sum + ms, 0) / steps] as const];
    });
    const own = times.reduce((sum, [phase, ms]) => sum + (phase === 'reduce' || phase === 'update' ? 0 : ms), 0);
    return { name, times, own };
  });
  // What is on its way has no phases, and is nobody's time.
  const rows = all.filter(({ times }) => times.length > 0);
  const sorted = rows.map(({ own }) => own).sort((a, b) => a - b);
  const middle = ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2;
  return rows.map((row) => ({ ...row, behind: middle > 0 ? row.own / middle - 1 : 0 }));
}
