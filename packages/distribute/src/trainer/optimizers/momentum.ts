/**
 * Momentum: m ← momentum·m + g, w ← w − rate·m; with Nesterov w ← w − rate·(g + momentum·m). TensorFlow's MomentumOptimizer, which
 * `tf.train.momentum` is: the rate stands outside of m, other than in Polyak's and PyTorch's first papers.
 */
import { checkNumber, checkSwitch, type FlatOptimizer, isNotNegative, NOT_NEGATIVE } from './optimizer.js';

export interface MomentumConfig {
  readonly kind: 'momentum';
  readonly momentum: number;
  /** Default false. */
  readonly nesterov?: boolean;
}

export function momentum({ momentum: factorOfOld, nesterov = false }: MomentumConfig): FlatOptimizer {
  checkNumber('momentum', 'momentum', factorOfOld, isNotNegative, NOT_NEGATIVE);
  checkSwitch('momentum', 'nesterov', nesterov);
  return {
    slots: ['momentum'],
    counts: false,
    apply: (kernels, { weights, slots, gradients, weightDecay, factor }, { gradientScale, learningRate }) =>
      kernels.update(nesterov ? 'nesterov' : 'momentum', weights, slots, gradients, [
        ...[gradientScale, weightDecay, learningRate * factor],
        factorOfOld,
      ]),
  };
}
