/**
 * The all-reduces under way in one thread. `advance` asks Open MPI once which of the messages that they wait for are through,
 * however many runs there are, and resumes those runs. It waits for nothing and has no time-outs.
 */
import type { OpenMpi, Request } from '../native/open-mpi.js';
import type { AllReduceRun } from './all-reduce.js';

/** How one run stands. */
export interface RunState {
  isDone: boolean;
  /** What it threw; it has ended then, too. */
  failure: unknown;
}

interface Entry {
  readonly run: AllReduceRun;
  readonly state: RunState;
  awaited: Request;
}

/** See the file's head. */
export class Runs {
  #entries: Entry[] = [];

  constructor(private readonly mpi: OpenMpi) {}

  /** How many have not ended. */
  get size(): number {
    return this.#entries.length;
  }

  /** Starts a run: it goes on until it has to wait. */
  add(run: AllReduceRun): RunState {
    const entry: Entry = { run, state: { isDone: false, failure: null }, awaited: -1 };
    if (this.#resume(entry)) this.#entries.push(entry);
    return entry.state;
  }

  /** Moves every run on that can move. Returns whether any did. */
  advance(): boolean {
    if (this.#entries.length === 0) return false;
    let through: Set<Request>;
    try {
      through = new Set(this.mpi.testSome(this.#entries.map(({ awaited }) => awaited)));
    } catch (failure) {
      // Nobody can tell whose message it was, and after it nothing is certain.
      for (const { state } of this.#entries) state.failure = failure;
      this.#entries = [];
      return true;
    }
    if (through.size === 0) return false;
    this.#entries = this.#entries.filter((entry) => !through.has(entry.awaited) || this.#resume(entry));
    return true;
  }

  /** Drops all of them, where they stand. */
  clear(): void {
    this.#entries = [];
  }

  /** Until the run waits again. Returns false when it has ended, well or not. */
  #resume(entry: Entry): boolean {
    try {
      const { done, value } = entry.run.next();
      if (!done) entry.awaited = value;
      entry.state.isDone = done === true;
      return !done;
    } catch (failure) {
      entry.state.failure = failure;
      return false;
    }
  }
}
