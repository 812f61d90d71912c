/**
 * The L2 penalty of one weight, L2Penalty, in one loop: TensorFlow.js' regularizer makes five kernels of it and eight of its
 * gradient, for every layer in every step, which small networks feel. For small weights only; large ones are oneDNN's.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { isFloat, kernel } from './kernel.js';

/** Elements up to which a loop is quicker than primitives. */
export const LARGEST = 2 ** 16;

/** x → rate · Σx², a scalar. */
const l2Penalty = kernel<{ x: TensorInfo }, { rate: number }>('L2Penalty', ({ inputs: { x }, attrs, backend }) => {
  if (!isFloat(x) || util.sizeFromShape(x.shape) > LARGEST) return null;
  const values = backend.storage(x).peek() as Float32Array;
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) ** 2;
  const result = backend.allocate([]);
  (backend.storage(result).peek() as Float32Array)[0] = attrs.rate * sum;
  return result;
});

export const l2PenaltyKernels = [l2Penalty];
