/**
 * Activations that TensorFlow.js names within a matrix product or a convolution (_FusedMatMul, FusedConv2D,
 * FusedDepthwiseConv2D). What oneDNN computes alike for every number is its post-operation. Its ReLU and its clip make numbers
 * of NaN: they are applied to the result afterwards, by who looks first whether there is one (unary.ts).
 */
import { Alg } from '../ffi/constants.js';
import type { PostOp } from '../ffi/dnnl.js';

/** How an activation is computed: within the primitive, or by a kernel in place of the result. */
export interface Activation {
  readonly postOps: readonly PostOp[];
  readonly apply: 'Relu' | 'Relu6' | null;
}

export const LINEAR: Activation = { postOps: [], apply: null };

const eltwise = (alg: number, alpha: number): Activation => ({
  postOps: [{ kind: 'eltwise', alg, alpha, beta: 0 }],
  apply: null,
});

/** By TensorFlow.js' name; null for one that is left to TensorFlow.js. */
export function activationOf(activation: string | undefined, alpha = 0.2): Activation | null {
  switch (activation) {
    case undefined:
    case 'linear':
      return LINEAR;
    case 'relu':
      return { postOps: [], apply: 'Relu' };
    case 'relu6':
      return { postOps: [], apply: 'Relu6' };
    case 'leakyrelu':
      // Without a slope it is oneDNN's ReLU; TensorFlow.js multiplies by 0.
      return alpha === 0 ? null : eltwise(Alg.relu, alpha);
    case 'elu':
      return eltwise(Alg.elu, 1);
    case 'sigmoid':
      return eltwise(Alg.logistic, 0);
    default:
      return null;
  }
}

/** Tells post-operations apart in a cache's key. */
export function keyOf(postOps: readonly PostOp[]): string {
  return postOps.map((op) => (op.kind === 'eltwise' ? `${op.alg},${op.alpha}` : op.kind)).join(' ');
}
