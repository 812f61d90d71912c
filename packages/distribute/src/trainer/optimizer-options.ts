/** What `context.optimizer()` can do beside averaging gradients, and whether what a user asks for makes sense. */
import type * as tf from '@tensorflow/tfjs-core';
import { describe } from '../describe.js';
import { checkAccumulateSteps, checkClip, checkLearningRate } from './check-trainer.js';
import type { Clip } from './reducer.js';

export interface OptimizerOptions {
  /** Limits the mean gradient, the same on all replicas, before it is applied. Default: none. */
  readonly clip?: Clip;
  /**
   * Calls whose gradients are added up here before they are averaged and applied; what is applied is their mean. Only the last of so
   * many calls communicates and changes weights. Default 1.
   */
  readonly accumulateSteps?: number;
  /**
   * The learning rate of each update, by the number of updates made so far (the optimizer's `iterations`, which are saved with it): 0 in
   * the first. Default: the optimizer's own.
   */
  readonly learningRate?: (updates: number) => number;
}

/** @throws TypeError, RangeError naming the option and what to give instead. */
export function checkOptimizerOptions(optimizer: tf.Optimizer, options: OptimizerOptions): void {
  const { clip, accumulateSteps = 1, learningRate } = (options ?? {}) as OptimizerOptions;
  checkClip(clip);
  checkAccumulateSteps(accumulateSteps);
  if (learningRate === undefined) return;
  if (typeof learningRate !== 'function') {
    throw new TypeError(
      `learningRate of context.optimizer() must be a function of the number of updates, got ${describe(learningRate)}.\n` +
        'help: a fixed one is given to the optimizer itself: tf.train.adam(0.001).',
    );
  }
  if ('learningRate' in optimizer) return;
  throw new TypeError(
    `${optimizer.getClassName()} has no learning rate that could follow a schedule.\nhelp: leave out learningRate.`,
  );
}

/** Sets the optimizer's learning rate, where there is a schedule. @throws RangeError for one that is no rate. */
export function followSchedule(optimizer: tf.Optimizer, { learningRate }: OptimizerOptions): void {
  if (!learningRate) return;
  const rate = learningRate(optimizer.iterations);
  checkLearningRate(rate);
  const settable = optimizer as unknown as { learningRate: number; setLearningRate?(rate: number): void };
  if (settable.learningRate === rate) return;
  // SGD and momentum keep a tensor of it.
  if (settable.setLearningRate) settable.setLearningRate(rate);
  else settable.learningRate = rate;
}
