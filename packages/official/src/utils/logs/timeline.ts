/**
 * A timeline of training steps as Chrome trace JSON (the Trace Event Format), which https://ui.perfetto.dev and chrome://tracing open: a
 * process for each worker, a track for each replica, and in it step, phases, layers, gradients and packs, nested. Arrows lead from the
 * gradient that was a pack's last to where the pack is taken on; packs on their way between workers have tracks of their own.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ReplicaTrace, Span } from '@lockstep/distribute';
import { reasonOf } from '../files/file-errors.js';
import { makeFolder } from '../files/make-folder.js';
import type { Log } from './log.js';

/** Steps that were looked at. */
export interface Timeline {
  /** Global steps, counted as they are when the step is over. */
  readonly first: number;
  readonly last: number;
  /** Of --profile_steps; otherwise ProfilerHook's, which wants one every so many steps. */
  readonly isAsked: boolean;
  readonly replicas: readonly ReplicaTrace[];
}

/** An event of the Trace Event Format; times in microseconds. */
export interface TraceEvent {
  /** X: complete, M: metadata, s and f: a flow's ends, b and e: an asynchronous one's. */
  readonly ph: 'X' | 'M' | 's' | 'f' | 'b' | 'e';
  readonly name: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly cat?: string;
  readonly id?: string;
  /** Of a flow's end: it is bound to the slice around it. */
  readonly bp?: 'e';
  readonly args?: Readonly<Record<string, string | number>>;
}

const MICROSECONDS = 1000;

/** What a file holds. Time begins with the first span. */
export function timelineJson({ replicas, first, last }: Timeline): {
  traceEvents: TraceEvent[];
  metadata: Readonly<Record<string, unknown>>;
} {
  const starts = replicas.flatMap(({ spans }) => spans.map(({ begin }) => begin));
  // Not Math.min(...starts): there may be more than one call takes.
  const zero = starts.reduce((first, begin) => Math.min(first, begin), Number.POSITIVE_INFINITY);
  const at = (ms: number) => Math.max(0, ms - zero) * MICROSECONDS;
  const traceEvents: TraceEvent[] = [];
  for (const worker of new Set(replicas.map((one) => one.worker))) {
    traceEvents.push(
      { ph: 'M', name: 'process_name', pid: worker, tid: 0, args: { name: `worker ${worker}` } },
      { ph: 'M', name: 'process_sort_index', pid: worker, tid: 0, args: { sort_index: worker } },
    );
  }
  for (const { worker: pid, replica: tid, spans, journeys } of replicas) {
    traceEvents.push({ ph: 'M', name: 'thread_name', pid, tid, args: { name: `replica ${tid}` } });
    for (const { name, category: cat, begin, end, args } of byNesting(spans)) {
      const dur = (end - begin) * MICROSECONDS;
      traceEvents.push({ ph: 'X', name, cat, pid, tid, ts: at(begin), dur, ...(args && { args }) });
    }
    for (const [i, { pack, bytes, begin, end }] of journeys.entries()) {
      const one = { name: `all-reduce pack ${pack}`, cat: 'network', id: `${pid}.${i}`, pid, tid };
      traceEvents.push({ ...one, ph: 'b', ts: at(begin), args: { pack, bytes } }, { ...one, ph: 'e', ts: at(end) });
    }
  }
  for (const arrow of arrows(replicas)) {
    const one = { name: 'gradient to pack', cat: 'flow', id: arrow.id };
    traceEvents.push(
      { ...one, ph: 's', pid: arrow.from.worker, tid: arrow.from.replica, ts: at(arrow.from.at) },
      { ...one, ph: 'f', bp: 'e', pid: arrow.to.worker, tid: arrow.to.replica, ts: at(arrow.to.at) },
    );
  }
  const clocks = replicas.map(({ worker, replica, clock }) => ({
    worker,
    replica,
    clock_offset_ms: clock.offset,
    clock_error_ms: clock.error,
  }));
  return { traceEvents, metadata: { first_step: first, last_step: last, replicas: clocks } };
}

/** The outer one first where two begin together. */
function byNesting(spans: readonly Span[]): Span[] {
  return spans.toSorted((a, b) => a.begin - b.begin || b.end - a.end);
}

interface Place {
  readonly worker: number;
  readonly replica: number;
  readonly at: number;
}

/** From each replica's last gradient of a pack to the first span of that pack in its process, after that. */
function arrows(replicas: readonly ReplicaTrace[]): { id: string; from: Place; to: Place }[] {
  const taken = replicas
    .flatMap(({ worker, replica, spans }) =>
      spans.filter(({ category }) => category === 'pack').map((span) => ({ ...span, worker, replica })),
    )
    .toSorted((a, b) => a.begin - b.begin);
  return replicas.flatMap(({ worker, replica, filled }) =>
    filled.flatMap(({ pack, at }, i) => {
      const to = taken.find((one) => one.worker === worker && one.args?.pack === pack && one.end >= at);
      if (!to) return [];
      // A pack that is taken on by whoever fills it last: within the gradient's own moment.
      const middle = Math.max(at, (to.begin + to.end) / 2);
      return [
        { id: `${replica}.${i}`, from: { worker, replica, at }, to: { worker, replica: to.replica, at: middle } },
      ];
    }),
  );
}

/** `timeline-STEP.json`, or `timeline-FIRST-LAST.json`. What cannot be written is said; the run goes on. */
export function writeTimeline(folder: string, timeline: Timeline, log: Log): void {
  const { first, last } = timeline;
  const steps = first === last ? `${first}` : `${first}-${last}`;
  const file = path.join(folder, `timeline-${steps}.json`);
  try {
    // A Keras run has made no folder so far.
    makeFolder(folder);
    writeFileSync(file, `${JSON.stringify(timelineJson(timeline))}\n`);
    log.info(`Saving timeline for ${steps} into '${file}'.`);
  } catch (error) {
    log.warning(`warning: ${file} cannot be written: ${reasonOf(error as Error)}`);
  }
}
