/**
 * Activations that TensorFlow.js names within a matrix product or a convolution (_FusedMatMul, FusedConv2D,
 * FusedDepthwiseConv2D). What oneDNN computes alike for every number is its post-operation. Its ReLU and its clip make numbers
 * of NaN: they are applied to the result afterwards, by who looks first whether there is one (unary.ts). That is two passes, which
 * take longer to start than they last where the result is small; there ReLU is ELU with α = 0, which keeps NaN and costs an
 * exponential for each element.
 */
import { Alg } from '../ffi/constants.js';
import type { PostOp } from '../ffi/dnnl.js';
import type { Runtime } from '../runtime.js';
import { postOpsTrust } from './elementwise.js';

/** How an activation is computed: within the primitive, or by a kernel in place of the result. */
interface Activation {
  readonly postOps: readonly PostOp[];
  readonly apply: 'Relu' | 'Relu6' | null;
}

const LINEAR: Activation = { postOps: [], apply: null };

/** Elements up to which an exponential for each costs less than two passes. */
const FEW = 2 ** 14;
/** x or NaN where x > 0 or is NaN, else −0, to which 0 is added. */
const SAFE_RELU: readonly PostOp[] = [
  { kind: 'eltwise', alg: Alg.elu, alpha: 0, beta: 0 },
  { kind: 'eltwise', alg: Alg.linear, alpha: 1, beta: 0 },
];

function relu(runtime: Runtime, size: number): Activation {
  const isSafe = size <= FEW && postOpsTrust(runtime, 'safe relu', SAFE_RELU, (x) => Math.max(0, x)) === 'exact';
  return isSafe ? { postOps: SAFE_RELU, apply: null } : { postOps: [], apply: 'Relu' };
}

const eltwise = (alg: number, alpha: number): Activation => ({
  postOps: [{ kind: 'eltwise', alg, alpha, beta: 0 }],
  apply: null,
});

/**
 * By TensorFlow.js' name; null for one that is left to TensorFlow.js.
 * @param size elements of the result; Infinity if no post-operation but a plain one may be asked for.
 */
export function activationOf(
  runtime: Runtime,
  size: number,
  activation: string | undefined,
  alpha = 0.2,
): Activation | null {
  switch (activation) {
    case undefined:
    case 'linear':
      return LINEAR;
    case 'relu':
      return relu(runtime, size);
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
