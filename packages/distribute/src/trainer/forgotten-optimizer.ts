/**
 * An optimizer that was not given to context.optimizer() trains every replica by itself, without an error: said once.
 *
 * All of TensorFlow.js' optimizers count their updates by one method of their base class, whichever way gradients come to them.
 */
import * as tf from '@tensorflow/tfjs-core';
import { isDistributed } from './distributed-optimizer.js';

interface Counting {
  incrementIterations(): void;
}

/** Who is told, in this thread; null: another replica tells. */
let told: { readonly replicas: number; readonly warn: (line: string) => void } | null = null;
let isWatching = false;
let isSaid = false;

/** From now on, in this thread; the last call counts. @param warn Receives a line, once. Null where another replica says it. */
export function watchForForgotten(replicas: number, warn: ((line: string) => void) | null): void {
  told = warn && { replicas, warn };
  if (isWatching) return;
  isWatching = true;
  const prototype = tf.Optimizer.prototype as unknown as Counting;
  const count = prototype.incrementIterations;
  prototype.incrementIterations = function (this: tf.Optimizer & Counting) {
    count.call(this);
    if (isSaid || told === null || isDistributed(this)) return;
    isSaid = true;
    told.warn(
      `An optimizer (${this.getClassName()}) updates weights without context.optimizer(): each of the ${told.replicas} replicas ` +
        'trains a network of its own.\n' +
        'help: context.optimizer(tf.train.adam()) averages gradients over replicas; where every replica is meant to train by ' +
        'itself, soloContext(context).optimizer(…) says so.',
    );
  };
}
