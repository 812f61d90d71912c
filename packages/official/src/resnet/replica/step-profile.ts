/** Which steps of a run are traced, and what becomes of it: on every replica in step, because traces are brought together. */
import { collectTrace, type ReplicaContext, startTrace, type Trace } from '@lockstep/distribute';
import type { Timeline } from '../../utils/logs/timeline.js';

export interface ProfileOptions {
  /** ProfilerHook: one step every so many of a train call; null: none. */
  readonly everySteps: number | null;
  /** --profile_steps: global steps, as they are counted when the step is over; null: none. */
  readonly steps: { readonly first: number; readonly last: number } | null;
}

/** See the file's head. */
export class StepProfile {
  /** Global step with which the train call began. */
  #callBegan = 0;
  #last = 0;
  #current: { readonly first: number; readonly isAsked: boolean; readonly trace: Trace } | null = null;

  constructor(
    private readonly options: ProfileOptions,
    private readonly context: ReplicaContext,
  ) {}

  callBegins(globalStep: number): void {
    this.#callBegan = globalStep;
  }

  /** @param step the global step that it will be when it is over */
  before(step: number): void {
    if (this.#current !== null) return;
    const { everySteps, steps } = this.options;
    const isAsked = steps !== null && step >= steps.first && step <= steps.last;
    if (!isAsked && (everySteps === null || (step - this.#callBegan) % everySteps !== 0)) return;
    this.#current = { first: step, isAsked, trace: startTrace() };
  }

  /**
   * The step is over. Collective where it was the last to be traced.
   * @param begin of the step, and when its batch was there: times of performance.now()
   */
  after(step: number, begin: number, inputDone: number): Timeline | null {
    if (this.#current === null) return null;
    const { trace, isAsked } = this.#current;
    trace.add('input', 'step', begin, { step }, inputDone);
    trace.add(`step ${step}`, 'step', begin, { step });
    this.#last = step;
    const { steps } = this.options;
    return isAsked && step < (steps?.last ?? 0) ? null : this.finish();
  }

  /** What has been traced until now, where the train call ends before the last step that was asked for. Collective then. */
  finish(): Timeline | null {
    if (this.#current === null) return null;
    const { first, isAsked } = this.#current;
    this.#current = null;
    const replicas = collectTrace(this.context);
    // Begun, and no step came.
    return this.#last < first ? null : { first, last: this.#last, isAsked, replicas };
  }
}
