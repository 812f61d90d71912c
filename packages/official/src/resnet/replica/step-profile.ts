/** Which steps of a run are traced, and what becomes of it: on every replica in step, because traces are brought together. */
import { collectTrace, type ReplicaContext, startTrace } from '@lockstep/distribute';
import type { Timeline } from '../../utils/logs/timeline.js';

export interface ProfileOptions {
  /** ProfilerHook: one step every so many of a train call; null: none. */
  readonly everySteps: number | null;
  /** --profile_steps: global steps, as they are counted when the step is over; null: none. */
  readonly steps: { readonly first: number; readonly last: number } | null;
}

/** See the file's head. */
export class StepProfile {
  #steps = 0;
  #last = 0;
  #trace: {
    readonly first: number;
    readonly isAsked: boolean;
    add(name: string, begin: number, end?: number): void;
  } | null = null;

  constructor(
    private readonly options: ProfileOptions,
    private readonly context: ReplicaContext,
  ) {}

  callBegins(): void {
    this.#steps = 0;
  }

  /** @param step the global step that it will be when it is over */
  before(step: number): void {
    this.#steps++;
    if (this.#trace !== null) return;
    const { everySteps, steps } = this.options;
    const isAsked = steps !== null && step >= steps.first && step <= steps.last;
    if (!isAsked && (everySteps === null || this.#steps % everySteps !== 0)) return;
    const trace = startTrace();
    this.#trace = {
      first: step,
      isAsked,
      add: (name, begin, end) => trace.add(name, 'step', begin, { step }, end),
    };
  }

  /**
   * The step is over. Collective where it was the last to be traced.
   * @param begin of the step, and when its batch was there: times of performance.now()
   */
  after(step: number, begin: number, inputDone: number): Timeline | null {
    const trace = this.#trace;
    if (trace === null) return null;
    trace.add('input', begin, inputDone);
    trace.add(`step ${step}`, begin);
    this.#last = step;
    const { steps } = this.options;
    return trace.isAsked && step < (steps?.last ?? 0) ? null : this.finish();
  }

  /** What has been traced until now, where the train call ends before the last step that was asked for. Collective then. */
  finish(): Timeline | null {
    const trace = this.#trace;
    this.#trace = null;
    const replicas = trace && collectTrace(this.context);
    // Begun, and no step came.
    if (trace === null || replicas === null || this.#last < trace.first) return null;
    return { first: trace.first, last: this.#last, isAsked: trace.isAsked, replicas };
  }
}
