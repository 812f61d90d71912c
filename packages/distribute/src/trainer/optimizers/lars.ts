/**
 * LARS, layer-wise adaptive rates (You, Gitman and Ginsburg, arXiv:1708.03888) as TensorFlow 1.14's contrib LARSOptimizer: momentum whose
 * rate is multiplied, variable by variable, by
 *
 *     eeta·‖w‖ / (‖g‖ + weightDecay·‖w‖ + epsilon)      where both norms are positive, else 1
 *
 * and weightDecay·w joins the gradient. Variables with one of `skip`'s texts in their names get plain momentum, without this decay.
 */
import { checkNumber, checkSwitch, type FlatOptimizer, isNotNegative, NOT_NEGATIVE } from './optimizer.js';

export interface LarsConfig {
  readonly kind: 'lars';
  /** Default 0.9. */
  readonly momentum?: number;
  /** Default false. */
  readonly nesterov?: boolean;
  /** Of the optimizer's own; what the trainer adds to the loss is apart from it. Default 1e-4. */
  readonly weightDecay?: number;
  /** Default 0.001. */
  readonly eeta?: number;
  /** Default 0. */
  readonly epsilon?: number;
  /** Parts of names. Default: none. The official ResNet's: 'batch_normalization', 'bias'. */
  readonly skip?: readonly string[];
}

export function lars(config: LarsConfig): FlatOptimizer {
  const {
    momentum = 0.9,
    nesterov = false,
    weightDecay: ownDecay = 1e-4,
    eeta = 0.001,
    epsilon = 0,
    skip = [],
  } = config;
  checkNumber('lars', 'momentum', momentum, isNotNegative, NOT_NEGATIVE);
  checkNumber('lars', 'weightDecay', ownDecay, isNotNegative, NOT_NEGATIVE);
  checkNumber('lars', 'eeta', eeta, isNotNegative, NOT_NEGATIVE);
  checkNumber('lars', 'epsilon', epsilon, isNotNegative, NOT_NEGATIVE);
  const skips = (name: string): boolean => skip.some((text) => name.includes(text));
  checkSwitch('lars', 'nesterov', nesterov);
  return {
    slots: ['momentum'],
    counts: false,
    ownDecay: (name) => (skips(name) ? 0 : ownDecay),
    factors(norms) {
      return Float64Array.from(norms, ({ name, weight, gradient }) => {
        if (skips(name) || !(weight > 0) || !(gradient > 0)) return 1;
        return (eeta * weight) / (gradient + ownDecay * weight + epsilon);
      });
    },
    apply: (kernels, { weights, slots, gradients, weightDecay, factor }, { gradientScale, learningRate }) =>
      kernels.update(nesterov ? 'nesterov' : 'momentum', weights, slots, gradients, [
        ...[gradientScale, weightDecay, learningRate * factor],
        momentum,
      ]),
  };
}
