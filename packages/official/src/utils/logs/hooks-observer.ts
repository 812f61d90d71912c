/** The Model Garden's hooks as an observer: begun and ended with each train call, asked before a step and told after it. */
import type { StepValues, TrainHook } from './hooks.js';
import type { RunObserver, StepReport } from './run-observer.js';
import type { Timeline } from './timeline.js';

export class HooksObserver implements RunObserver {
  readonly wantsEveryStep: boolean;
  #last: StepValues = {};

  constructor(private readonly hooks: readonly TrainHook[]) {
    this.wantsEveryStep = hooks.length > 0;
  }

  callBegins(globalStep: number): void {
    for (const hook of this.hooks) {
      hook.begin(globalStep);
      hook.beforeRun(globalStep);
    }
  }

  step({ globalStep, learningRate, crossEntropy, callAccuracy, phases }: StepReport): void {
    this.#last = { learning_rate: learningRate, cross_entropy: crossEntropy, train_accuracy: callAccuracy };
    for (const hook of this.hooks) {
      hook.afterRun(globalStep, this.#last, [phases]);
      // The next one.
      hook.beforeRun(globalStep);
    }
  }

  timeline(timeline: Timeline): void {
    for (const hook of this.hooks) hook.timeline?.(timeline);
  }

  callEnds(globalStep: number): void {
    for (const hook of this.hooks) hook.end(globalStep, this.#last);
  }
}
