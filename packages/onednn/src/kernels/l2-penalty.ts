/**
 * The L2 penalty of one weight, L2Penalty, in one loop: TensorFlow.js' regularizer makes five kernels of it and eight of its
 * gradient, for every layer in every step, which small networks feel. For small weights only; large ones are oneDNN's.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { isFloat, kernel } from './kernel.js';
import { viewOf } from './tools.js';

/** Elements up to which a loop is quicker than primitives. */
export const LARGEST = 2 ** 16;

/** x → rate · Σx², a scalar. */
const l2Penalty = kernel<{ x: TensorInfo }, { rate: number }>('L2Penalty', ({ inputs: { x }, attrs, backend }) => {
  if (!isFloat(x) || util.sizeFromShape(x.shape) > LARGEST) return null;
  const result = backend.allocate([]);
  const [values, output] = [viewOf(backend, x), viewOf(backend, result)];
  backend.runtime.host(() => {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += (values[i] as number) ** 2;
    output[0] = attrs.rate * sum;
  }, attrs.rate);
  return result;
});

export const l2PenaltyKernels = [l2Penalty];
