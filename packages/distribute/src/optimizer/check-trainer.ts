/** What no trainer takes, whatever the strategy: checked before anything is allocated or sent, on every replica alike. */
import type * as tf from '@tensorflow/tfjs-core';
import type { TrainerOptions } from './trainer.js';

/** @throws Error, RangeError naming the variable or the option, and what to give instead. */
export function checkTrainer(variables: readonly tf.Variable[], options: TrainerOptions): void {
  checkVariables(variables);
  checkOptions(options);
}

function checkVariables(variables: readonly tf.Variable[]): void {
  if (variables.length === 0) throw new Error('trainer() was given no variables.');
  for (const { name, trainable, dtype } of variables) {
    if (!trainable) {
      throw new Error(
        `Variable '${name}' is not trainable.\nhelp: give trainable variables only; moving statistics stay per replica, ` +
          'context.averageStatistics() combines them.',
      );
    }
    if (dtype !== 'float32') throw new Error(`Variable '${name}' is ${dtype}; trainer() takes float32 variables.`);
  }
  if (new Set(variables).size !== variables.length) throw new Error('trainer() was given a variable twice.');
}

function checkOptions({ optimizer }: TrainerOptions): void {
  if (optimizer.kind === 'momentum' && !Number.isFinite(optimizer.momentum)) {
    throw new RangeError(`momentum must be a number, got ${optimizer.momentum}.`);
  }
}
