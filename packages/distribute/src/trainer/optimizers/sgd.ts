/** Stochastic gradient descent: w ← w − rate·g. TensorFlow.js' `tf.train.sgd`. */
import type { FlatOptimizer } from './optimizer.js';

export interface SgdConfig {
  readonly kind: 'sgd';
}

export function sgd(_config: SgdConfig): FlatOptimizer {
  return {
    slots: [],
    counts: false,
    apply: (kernels, { weights, slots, gradients, weightDecay, factor }, { gradientScale, learningRate }) =>
      kernels.update('sgd', weights, slots, gradients, [gradientScale, weightDecay, learningRate * factor]),
  };
}
