/**
 * Chained operations (`x.mul(y).sum()`), which TensorFlow.js promises of every tensor but registers in the package
 * `@tensorflow/tfjs` only. Its layers use them: without them an LSTM cannot be made. Whoever has registered one keeps it.
 */

import type { DataType, Tensor } from '@tensorflow/tfjs-core';
import * as core from '@tensorflow/tfjs-core';

/** Those that are the operation of the same name, with the tensor as its first argument. */
const SAME = `
  abs acos acosh add all any argMax argMin asin asinh atan atan2 atanh avgPool batchToSpaceND batchNorm broadcastTo cast ceil
  clipByValue conv1d conv2dTranspose conv2d cos cosh cumprod cumsum depthToSpace depthwiseConv2d dilation2d divNoNan div dot elu
  equal erf euclideanNorm exp expandDims expm1 fft floor floorDiv gather greaterEqual greater ifft irfft isFinite isInf isNaN
  leakyRelu lessEqual less localResponseNormalization logSigmoid logSoftmax logSumExp log log1p logicalAnd logicalNot logicalOr
  logicalXor matMul maxPool max maximum mean min minimum mirrorPad mod mul neg norm notEqual oneHot onesLike pad pool pow prelu
  prod reciprocal relu relu6 reshape reverse rfft round rsqrt selu separableConv2d sigmoid sign sin sinh slice softmax softplus
  spaceToBatchND split sqrt square squaredDifference squeeze step stridedSlice sub sum tan tanh tile topk transpose unique
  unsortedSegmentSum unstack zerosLike`
  .trim()
  .split(/\s+/);

type Operation = (...args: unknown[]) => unknown;
type Chained = (this: Tensor, ...args: never[]) => unknown;

const list = <T>(tensors: T | T[]): T[] => (Array.isArray(tensors) ? tensors : [tensors]);

/** A tensor of the given rank; as many sizes as that. */
function withRank(rank: number): Chained {
  return function (...sizes: number[]) {
    core.util.assert(sizes.length === rank, () => `as${rank}D() takes ${rank} sizes, got ${sizes.length}.`);
    return core.reshape(this, sizes);
  };
}

const OTHERS: Record<string, Chained> = {
  asScalar() {
    core.util.assert(this.size === 1, () => 'The array must have only 1 element.');
    return core.reshape(this, []);
  },
  asType(dtype: DataType) {
    return core.cast(this, dtype);
  },
  as1D() {
    return core.reshape(this, [this.size]);
  },
  as2D: withRank(2),
  as3D: withRank(3),
  as4D: withRank(4),
  as5D: withRank(5),
  concat(others: Tensor | Tensor[], axis?: number) {
    return core.concat([this, ...list(others)], axis);
  },
  flatten() {
    return core.reshape(this, [this.size]);
  },
  reshapeAs(other: Tensor) {
    return core.reshape(this, other.shape);
  },
  resizeBilinear(...args: [[number, number], boolean?, boolean?]) {
    return core.image.resizeBilinear(this as core.Tensor4D, ...args);
  },
  resizeNearestNeighbor(...args: [[number, number], boolean?, boolean?]) {
    return core.image.resizeNearestNeighbor(this as core.Tensor4D, ...args);
  },
  stack(others: Tensor | Tensor[], axis?: number) {
    return core.stack([this, ...list(others)], axis);
  },
  toBool() {
    return core.cast(this, 'bool');
  },
  toFloat() {
    return core.cast(this, 'float32');
  },
  toInt() {
    return core.cast(this, 'int32');
  },
  where(condition: Tensor, other: Tensor) {
    return core.where(condition, this, other);
  },
};

/** Names of all chained operations. */
export const chainedNames: readonly string[] = [...SAME, ...Object.keys(OTHERS)];

/** Gives tensors the chained operations that they lack, once per thread. */
export function registerChainedOperations(): void {
  const prototype = core.Tensor.prototype as unknown as Record<string, Operation>;
  const operations = core as unknown as Record<string, Operation>;
  const add = (name: string, run: (x: Tensor, args: unknown[]) => unknown) => {
    prototype[name] ??= function (this: Tensor & { throwIfDisposed(): void }, ...args: unknown[]) {
      this.throwIfDisposed();
      return run(this, args);
    };
  };
  for (const name of SAME) {
    const operation = operations[name] as Operation;
    add(name, (x, args) => operation(x, ...args));
  }
  for (const [name, chained] of Object.entries(OTHERS)) add(name, (x, args) => chained.apply(x, args as never[]));
}
