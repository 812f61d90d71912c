/**
 * RMSProp (Tieleman and Hinton, Coursera 2012, lecture 6.5) as TensorFlow.js' RMSPropOptimizer computes it, also centered: epsilon within
 * the root, the rate within the momentum, the mean square from 0 on.
 */
import {
  checkNumber,
  checkSwitch,
  type FlatOptimizer,
  isNotNegative,
  isRate,
  NOT_NEGATIVE,
  RATE,
} from './optimizer.js';

export interface RmsPropConfig {
  readonly kind: 'rmsprop';
  /** Of the mean square. Default 0.9. */
  readonly decay?: number;
  /** Default 0. */
  readonly momentum?: number;
  /** Default 1e-7, TensorFlow.js' for f32. */
  readonly epsilon?: number;
  /** Divide by the deviation from the mean gradient instead of by the size. Default false. */
  readonly centered?: boolean;
}

export function rmsprop(config: RmsPropConfig): FlatOptimizer {
  const { decay = 0.9, momentum = 0, epsilon = 1e-7, centered = false } = config;
  checkNumber('rmsprop', 'decay', decay, isRate, RATE);
  checkNumber('rmsprop', 'momentum', momentum, isNotNegative, NOT_NEGATIVE);
  checkNumber('rmsprop', 'epsilon', epsilon, isNotNegative, NOT_NEGATIVE);
  checkSwitch('rmsprop', 'centered', centered);
  return {
    slots: centered ? ['rms', 'momentum', 'mg'] : ['rms', 'momentum'],
    counts: false,
    apply: (kernels, { weights, slots, gradients, weightDecay, factor }, { gradientScale, learningRate }) =>
      kernels.update(centered ? 'rmspropCentered' : 'rmsprop', weights, slots, gradients, [
        ...[gradientScale, weightDecay, learningRate * factor],
        ...[decay, 1 - decay, momentum, epsilon],
      ]),
  };
}
