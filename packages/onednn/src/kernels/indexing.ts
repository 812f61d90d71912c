/**
 * Kernels that find elements by index: GatherV2, its gradient UnsortedSegmentSum, OneHot.
 *
 * `cpu` sums segments by comparing every segment's number with every index, a pass over all data for each segment: the
 * gradient of an embedding of ten thousand words takes ten thousand passes. Here it is one.
 */
import { backend_util, type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { isFloat, type Kernel, kernel } from './kernel.js';
import type { TypedValues } from './loops.js';
import { isNumeric, viewOf } from './tools.js';

/** Elements from which copying a slice by `set` is faster than a loop. */
const BLOCK = 48;

/** @throws Error in TensorFlow.js' words for the first index that is out of range. */
function checkIndices(at: TypedValues, count: number, limit: number): void {
  for (let i = 0; i < count; i++) {
    const index = at[i] as number;
    if (!(index >= 0 && index < limit)) {
      throw new Error(`GatherV2: the index value ${index} is not in [0, ${limit - 1}]`);
    }
  }
}

const gather = kernel<{ x: TensorInfo; indices: TensorInfo }, { axis: number; batchDims?: number }>(
  'GatherV2',
  ({ inputs: { x, indices }, attrs, backend }) => {
    const count = util.sizeFromShape(indices.shape);
    if (!isNumeric(x) || util.sizeFromShape(x.shape) === 0 || count === 0) return null;
    const [axis] = util.parseAxisParam(attrs.axis, x.shape) as [number];
    const limit = x.shape[axis] as number;
    const { batchSize, outerSize, dimSize, sliceSize, outputShape } =
      backend_util.segment_util.collectGatherOpShapeInfo(x as never, indices as never, axis, attrs.batchDims ?? 0);
    const y = backend.allocate(outputShape, x.dtype);
    const at = viewOf(backend, indices);
    const source = viewOf(backend, x);
    const target = viewOf(backend, y);
    const perBatch = count / batchSize;
    const isBlock = sliceSize >= BLOCK && !Array.isArray(source);
    const collect = () => {
      checkIndices(at, count, limit);
      let to = 0;
      for (let batch = 0; batch < batchSize; batch++) {
        for (let outer = 0; outer < outerSize; outer++) {
          const base = (batch * outerSize + outer) * dimSize;
          for (let i = 0; i < perBatch; i++) {
            const from = (base + (at[batch * perBatch + i] as number)) * sliceSize;
            if (isBlock) target.set(source.subarray(from, from + sliceSize), to);
            else for (let k = 0; k < sliceSize; k++) target[to + k] = source[from + k] as number;
            to += sliceSize;
          }
        }
      }
    };
    backend.runtime.host(collect, axis, batchSize);
    return y;
  },
);

/** x [n, …], segmentIds [n] → [numSegments, …]: the sum of the slices with each number. Numbers out of range are left out. */
const unsortedSegmentSum = kernel<{ x: TensorInfo; segmentIds: TensorInfo }, { numSegments: number }>(
  'UnsortedSegmentSum',
  ({ inputs: { x, segmentIds }, attrs: { numSegments }, backend }) => {
    if (!isFloat(x) || segmentIds.shape.length !== 1 || segmentIds.shape[0] !== x.shape[0] || numSegments === 0) {
      return null;
    }
    const slice = x.shape.slice(1);
    const size = util.sizeFromShape(slice);
    const y = backend.allocate([numSegments, ...slice]);
    const [ids, source, target] = [segmentIds, x, y].map((tensor) => viewOf(backend, tensor)) as [
      TypedValues,
      TypedValues,
      TypedValues,
    ];
    const count = x.shape[0] as number;
    backend.runtime.host(() => {
      target.fill(0);
      for (let i = 0; i < count; i++) {
        const id = ids[i] as number;
        if (!(id >= 0 && id < numSegments)) continue;
        const to = id * size;
        const from = i * size;
        for (let k = 0; k < size; k++) target[to + k] = (target[to + k] as number) + (source[from + k] as number);
      }
    });
    return y;
  },
);

interface OneHotAttrs {
  readonly dtype: DataType;
  readonly depth: number;
  readonly onValue: number;
  readonly offValue: number;
}

const oneHot = kernel<{ indices: TensorInfo }, OneHotAttrs>('OneHot', ({ inputs: { indices }, attrs, backend }) => {
  const { dtype, depth, onValue, offValue } = attrs;
  const count = util.sizeFromShape(indices.shape);
  if (count === 0 || depth === 0 || (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool')) return null;
  const y = backend.allocate([...indices.shape, depth], dtype);
  const [at, target] = [viewOf(backend, indices), viewOf(backend, y)];
  const fill = () => {
    target.fill(offValue);
    for (let i = 0; i < count; i++) {
      const index = at[i] as number;
      if (index >= 0 && index < depth) target[i * depth + index] = onValue;
    }
  };
  backend.runtime.host(fill, onValue, offValue);
  return y;
});

export const indexingKernels: readonly Kernel[] = [gather, unsortedSegmentSum, oneHot];
