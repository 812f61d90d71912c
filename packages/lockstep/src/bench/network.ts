/** What a benchmark of networks trains: a network with a batch of its own, which takes steps. Which ones there are: networks.ts. */
import type * as tf from '@tensorflow/tfjs-core';

/** See the file's head. */
export interface Network {
  /** Examples of a batch. */
  readonly batch: number;
  /** What is trained, each as it lies in memory. */
  weights(): Float32Array[];
  /** One step on the batch. @returns its loss, before the update */
  step(): Promise<number>;
}

/** What a network does with its optimizer first: `context.optimizer` makes it distributed. */
export type MakeOptimizer = (optimizer: tf.Optimizer) => tf.Optimizer;
