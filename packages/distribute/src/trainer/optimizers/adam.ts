/**
 * Adam (Kingma and Ba, arXiv:1412.6980) and AdamW (Loshchilov and Hutter, arXiv:1711.05101).
 *
 * Adam is TensorFlow.js' AdamOptimizer: both moments corrected for their beginning at 0, epsilon outside of the root. Its weight decay
 * joins the gradient; AdamW's is taken off the weight, rate·decay·w, and does not pass through the moments (PyTorch's AdamW).
 */
import { checkNumber, type FlatOptimizer, isNotNegative, isRate, NOT_NEGATIVE, RATE } from './optimizer.js';

interface Betas {
  /** Default 0.9. */
  readonly beta1?: number;
  /** Default 0.999. */
  readonly beta2?: number;
  /** Default 1e-7, TensorFlow.js' for f32. */
  readonly epsilon?: number;
}

export interface AdamConfig extends Betas {
  readonly kind: 'adam';
}

export interface AdamWConfig extends Betas {
  readonly kind: 'adamw';
}

export const adam = ({ kind: _, ...betas }: AdamConfig): FlatOptimizer => make('adam', betas);
export const adamw = ({ kind: _, ...betas }: AdamWConfig): FlatOptimizer => make('adamw', betas);

function make(kind: 'adam' | 'adamw', { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7 }: Betas): FlatOptimizer {
  checkNumber(kind, 'beta1', beta1, isRate, RATE);
  checkNumber(kind, 'beta2', beta2, isRate, RATE);
  checkNumber(kind, 'epsilon', epsilon, isNotNegative, NOT_NEGATIVE);
  return {
    slots: ['m', 'v'],
    counts: true,
    apply(kernels, { weights, slots, gradients, weightDecay, factor }, { gradientScale, learningRate, count }) {
      const rate = learningRate * factor;
      return kernels.update(kind, weights, slots, gradients, [
        ...[gradientScale, kind === 'adamw' ? 1 - rate * weightDecay : weightDecay, rate],
        ...[beta1, 1 - beta1, beta2, 1 - beta2],
        ...[1 / (1 - beta1 ** count), 1 / (1 - beta2 ** count), epsilon],
      ]);
    },
  };
}
