/**
 * What a replica did when, in the steps that somebody wants to look at: spans of this thread, on a clock that all threads and processes
 * of a machine share. Trainers and reducers add theirs while a trace is on; while none is, they read one variable.
 */
import { observe } from '../devices/host-access.js';

/** Something that took time. Spans of a thread nest: of two, one contains the other, or they are apart. */
export interface Span {
  readonly name: string;
  /** What kind of thing: 'step', 'layer', 'gradient', 'pack'. */
  readonly category: string;
  /** Milliseconds of {@link traceClock}. */
  readonly begin: number;
  readonly end: number;
  /** What belongs to it: step, pack, bytes. */
  readonly args?: Readonly<Record<string, number>>;
}

/** A pack on its way between processes, while the thread does something else. */
export interface Journey {
  readonly pack: number;
  readonly bytes: number;
  readonly begin: number;
  readonly end: number;
}

/** What one replica did. */
export interface TraceData {
  readonly spans: readonly Span[];
  /** When the last gradient of a pack was final on this replica. */
  readonly filled: readonly { readonly pack: number; readonly at: number }[];
  readonly journeys: readonly Journey[];
}

/** See the file's head. */
export class Trace {
  readonly #spans: Span[] = [];
  readonly #filled: { pack: number; at: number }[] = [];
  readonly #journeys: Journey[] = [];
  /** Begun in the pass that runs, by time. */
  #marks: { readonly name: string; readonly at: number; readonly bytes?: number }[] = [];

  get data(): TraceData {
    return { spans: this.#spans, filled: this.#filled, journeys: this.#journeys };
  }

  /** Something that began then and ends now, or at `end`. Times are those of performance.now(). */
  add(name: string, category: string, begin: number, args?: Span['args'], end = performance.now()): void {
    const offset = clockOffset();
    this.#spans.push({ name, category, begin: begin + offset, end: end + offset, ...(args && { args }) });
  }

  /** As {@link add}; a span of the same name that ended just now goes on. */
  extend(name: string, category: string, begin: number, args?: Span['args']): void {
    const last = this.#spans.at(-1);
    const offset = clockOffset();
    const isNext = last?.name === name && begin + offset - last.end < SEAM_MS;
    if (isNext) this.#spans[this.#spans.length - 1] = { ...last, end: performance.now() + offset };
    else this.add(name, category, begin, args);
  }

  /** A layer's forward pass begins, or a gradient of so many bytes is final. */
  mark(name: string, bytes?: number): void {
    this.#marks.push({ name, at: performance.now(), ...(bytes !== undefined && { bytes }) });
  }

  /**
   * A step's two passes: the layers that were marked since the last call, each until the next, and the gradients, each from the one before.
   * Times are those of performance.now().
   */
  passes(begin: number, forwardDone: number, backwardDone: number): void {
    this.add('forward', 'step', begin, undefined, forwardDone);
    this.add('backward', 'step', forwardDone, undefined, backwardDone);
    const layers = this.#marks.filter(({ at }) => at < forwardDone);
    for (const [i, { name, at }] of layers.entries()) {
      this.add(name, 'layer', at, undefined, layers[i + 1]?.at ?? forwardDone);
    }
    let from = forwardDone;
    for (const { name, at, bytes = 0 } of this.#marks.slice(layers.length)) {
      this.add(name, 'gradient', from, { bytes }, at);
      from = at;
    }
    this.#marks = [];
  }

  /** Gradients of a pack are all final here. */
  fill(pack: number): void {
    this.#filled.push({ pack, at: traceClock() });
  }

  /** A pack was between processes from `begin` on, a time of performance.now(), until now. */
  travel(pack: number, bytes: number, begin: number): void {
    this.#journeys.push({ pack, bytes, begin: begin + clockOffset(), end: traceClock() });
  }
}

/** Spans of one thing that are not further apart are one. */
const SEAM_MS = 0.02;

let current: Trace | null = null;

/** The trace that is on in this thread; null: none. */
export function activeTrace(): Trace | null {
  return current;
}

/** From here on this thread's trainers tell what they do, until {@link stopTrace}. */
export function startTrace(): Trace {
  current = new Trace();
  return current;
}

/** @returns what was on. */
export function stopTrace(): Trace | null {
  const trace = current;
  current = null;
  return trace;
}

/** A layer's forward pass begins here: for a loss function, whether its step is recorded or not. */
export function traceLayer(name: string): void {
  observe([], () => current?.mark(name));
}

/** Milliseconds of the machine's monotonic clock (CLOCK_MONOTONIC on Linux): the same in all its threads and processes. */
export function traceClock(): number {
  return performance.now() + clockOffset();
}

let offset: number | null = null;

/** From performance.now(), which begins with the thread, to the machine's clock. */
function clockOffset(): number {
  offset ??= originOf(globalThis.process);
  return offset;
}

/** A page has no monotonic clock but its own; there it is the time of day. */
function originOf(process: Partial<Pick<NodeJS.Process, 'hrtime'>> | undefined): number {
  return process?.hrtime ? Number(process.hrtime.bigint()) / 1e6 - performance.now() : performance.timeOrigin;
}
