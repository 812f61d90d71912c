/**
 * Kernels that move elements and compute nothing: Transpose, Slice, StridedSlice, PadV2, Tile, Reverse, Concat, SplitV, Pack,
 * Unpack. All are copies between strided views (strided.ts).
 *
 * Concatenating and splitting along the channels keeps channel blocks, as a DenseNet or a U-Net needs it; the others work in
 * row-major order.
 */
import { backend_util, slice_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { blocked, channelsLast, fillsBlocks } from '../layout.js';
import { rowMajorStrides } from '../runtime.js';
import { type Kernel, kernel } from './kernel.js';
import type { TypedValues } from './loops.js';
import { BLOCK, copyTensor, partView, rowMajorView } from './strided.js';
import { isNumeric, SMALL, viewOf } from './tools.js';

/** True for a tensor that these kernels take: numbers or booleans, and not empty. */
function suits(tensor: TensorInfo): boolean {
  return isNumeric(tensor) && util.sizeFromShape(tensor.shape) > 0;
}

const transpose = kernel<{ x: TensorInfo }, { perm: number[] }>('Transpose', ({ inputs: { x }, attrs, backend }) => {
  if (!suits(x)) return null;
  const shape = attrs.perm.map((axis) => x.shape[axis] as number);
  const strides = rowMajorStrides(x.shape);
  const y = backend.allocate(shape, x.dtype);
  copyTensor(backend, x, y, {
    dims: shape,
    from: { offset: 0, strides: attrs.perm.map((axis) => strides[axis] as number) },
    to: rowMajorView(shape),
  });
  return y;
});

function part(backend: OneDnnBackend, x: TensorInfo, begin: readonly number[], size: readonly number[]): TensorInfo {
  const y = backend.allocate([...size], x.dtype);
  copyTensor(backend, x, y, { dims: size, from: partView(x.shape, begin), to: rowMajorView(size) });
  return y;
}

/** `cpu` makes a view of a part in one piece, which is best of data that a user brought: a batch of a large set. */
function isFreeView(backend: OneDnnBackend, x: TensorInfo, begin: number[], size: number[]): boolean {
  return !backend.storage(x).isPooled && slice_util.isSliceContinous(x.shape, begin, size);
}

const slice = kernel<{ x: TensorInfo }, { begin: number | number[]; size: number | number[] }>(
  'Slice',
  ({ inputs: { x }, attrs, backend }) => {
    if (!suits(x)) return null;
    const [begin, size] = slice_util.parseSliceParams(x, attrs.begin, attrs.size) as [number[], number[]];
    slice_util.assertParamsValid(x, begin, size);
    if (util.sizeFromShape(size) === 0 || isFreeView(backend, x, begin, size)) return null;
    return part(backend, x, begin, size);
  },
  { isFallbackQuick: true },
);

interface StridedSliceAttrs {
  readonly begin: number[];
  readonly end: number[];
  readonly strides: number[];
  readonly beginMask: number;
  readonly endMask: number;
  readonly ellipsisMask: number;
  readonly newAxisMask: number;
  readonly shrinkAxisMask: number;
}

const stridedSlice = kernel<{ x: TensorInfo }, StridedSliceAttrs>(
  'StridedSlice',
  ({ inputs: { x }, attrs, backend }) => {
    if (!suits(x)) return null;
    const info = slice_util.sliceInfo(
      x.shape,
      attrs.begin,
      attrs.end,
      attrs.strides,
      attrs.beginMask,
      attrs.endMask,
      attrs.ellipsisMask,
      attrs.newAxisMask,
      attrs.shrinkAxisMask,
    );
    // Those two are views or plain slices for `cpu`.
    const isSimple = info.isIdentity || info.sliceDim0 || info.isSimpleSlice;
    if (isSimple || info.finalShapeSparse.some((size) => size <= 0)) return null;
    const from = partView(x.shape, info.begin);
    const y = backend.allocate(info.finalShape, x.dtype);
    copyTensor(backend, x, y, {
      dims: info.finalShapeSparse,
      from: {
        offset: from.offset,
        strides: from.strides.map((stride, axis) => stride * (info.strides[axis] as number)),
      },
      to: rowMajorView(info.finalShapeSparse),
    });
    return y;
  },
);

const pad = kernel<{ x: TensorInfo }, { paddings: [number, number][]; constantValue: number }>(
  'PadV2',
  ({ inputs: { x }, attrs: { paddings, constantValue }, backend }) => {
    if (!suits(x) || paddings.some(([before, after]) => before < 0 || after < 0)) return null;
    const shape = x.shape.map((size, axis) => {
      const [before, after] = paddings[axis] as [number, number];
      return before + size + after;
    });
    const y = backend.allocate(shape, x.dtype);
    if (util.sizeFromShape(shape) > util.sizeFromShape(x.shape)) {
      const output = viewOf(backend, y);
      backend.runtime.host(() => output.fill(constantValue), constantValue);
    }
    const begin = paddings.map(([before]) => before);
    copyTensor(backend, x, y, { dims: x.shape, from: rowMajorView(x.shape), to: partView(shape, begin) });
    return y;
  },
);

const tile = kernel<{ x: TensorInfo }, { reps: number[] }>('Tile', ({ inputs: { x }, attrs: { reps }, backend }) => {
  if (!suits(x) || reps.length !== x.shape.length || reps.some((rep) => rep < 1)) return null;
  const shape = x.shape.map((size, axis) => size * (reps[axis] as number));
  const strides = rowMajorStrides(x.shape);
  const targets = rowMajorStrides(shape);
  const y = backend.allocate(shape, x.dtype);
  // Every dimension as (repetition, position); a repetition starts again at the same source.
  copyTensor(backend, x, y, {
    dims: x.shape.flatMap((size, axis) => [reps[axis] as number, size]),
    from: { offset: 0, strides: strides.flatMap((stride) => [0, stride]) },
    to: {
      offset: 0,
      strides: targets.flatMap((stride, axis) => [stride * (x.shape[axis] as number), stride]),
    },
  });
  return y;
});

const reverse = kernel<{ x: TensorInfo }, { dims: number | number[] }>(
  'Reverse',
  ({ inputs: { x }, attrs, backend }) => {
    if (!suits(x) || x.shape.length === 0) return null;
    const axes = new Set(util.parseAxisParam(attrs.dims, x.shape));
    const strides = rowMajorStrides(x.shape);
    const offset = [...axes].reduce(
      (sum, axis) => sum + ((x.shape[axis] as number) - 1) * (strides[axis] as number),
      0,
    );
    const y = backend.allocate(x.shape, x.dtype);
    copyTensor(backend, x, y, {
      dims: x.shape,
      from: { offset, strides: strides.map((stride, axis) => (axes.has(axis) ? -stride : stride)) },
      to: rowMajorView(x.shape),
    });
    return y;
  },
);

/** True if every tensor lies in channel blocks, all of them full. */
function areBlocked(backend: OneDnnBackend, tensors: readonly TensorInfo[], channels: readonly number[]): boolean {
  const { runtime } = backend;
  return (
    backend.storage(tensors[0] as TensorInfo).layout !== null &&
    channels.every((count) => fillsBlocks(runtime, count)) &&
    tensors.every((tensor) => {
      const rank = tensor.shape.length;
      if (tensor.dtype !== 'float32' || (rank !== 4 && rank !== 5)) return false;
      return backend.storage(tensor).layout?.current === blocked(runtime, tensor.shape);
    })
  );
}

/** A tensor in channel blocks as examples in a row: all of an example's blocks lie together. */
function blocksOfExamples(shape: readonly number[]): [number, number] {
  const [examples] = shape as [number];
  return [examples, util.sizeFromShape([...shape]) / examples];
}

/** Puts one row of every source behind the other, again and again; a row of the target has `width` elements. */
function joinRows(sources: readonly TypedValues[], target: TypedValues, rows: number, width: number): void {
  let start = 0;
  for (const source of sources) {
    const n = source.length / rows;
    if (rows === 1) target.set(source, start);
    else for (let row = 0; row < rows; row++) copyRow(source, row * n, target, row * width + start, n);
    start += n;
  }
}

function copyRow(source: TypedValues, from: number, target: TypedValues, to: number, n: number): void {
  if (n >= BLOCK) target.set(source.subarray(from, from + n), to);
  else for (let i = 0; i < n; i++) target[to + i] = source[from + i] as number;
}

/** Joins tensors along `axis`. */
function join(backend: OneDnnBackend, tensors: readonly TensorInfo[], shape: number[], axis: number): TensorInfo {
  const first = tensors[0] as TensorInfo;
  const isLast = axis === shape.length - 1;
  const channels = tensors.map((tensor) => tensor.shape[axis] as number);
  if (isLast && areBlocked(backend, tensors, channels)) {
    const { runtime } = backend;
    const layout = { current: blocked(runtime, shape), plain: channelsLast(runtime, shape) };
    const y = backend.allocate(shape, 'float32', layout);
    const rows = blocksOfExamples(shape);
    const target = backend.unresolved(y).native(rows[0] * rows[1]);
    let start = 0;
    for (const tensor of tensors) {
      const [examples, size] = blocksOfExamples(tensor.shape);
      const source = backend.storage(tensor).native(examples * size);
      const to = start;
      runtime.host(() => {
        for (let n = 0; n < examples; n++) target.set(source.subarray(n * size, (n + 1) * size), n * rows[1] + to);
      });
      start += size;
    }
    return y;
  }
  const y = backend.allocate(shape, first.dtype);
  const size = util.sizeFromShape(shape);
  if (size < SMALL) {
    const sources = tensors.map((tensor) => viewOf(backend, tensor));
    const target = viewOf(backend, y);
    const rows = util.sizeFromShape(shape.slice(0, axis));
    backend.runtime.host(() => joinRows(sources, target, rows, size / rows), axis);
    return y;
  }
  const begin = shape.map(() => 0);
  for (const tensor of tensors) {
    const to = partView(shape, begin);
    copyTensor(backend, tensor, y, { dims: tensor.shape, from: rowMajorView(tensor.shape), to });
    begin[axis] = (begin[axis] as number) + (tensor.shape[axis] as number);
  }
  return y;
}

const concat = kernel<TensorInfo[], { axis: number }>('Concat', ({ inputs, attrs, backend }) => {
  const tensors = Object.values(inputs);
  const { dtype, shape } = tensors[0] as TensorInfo;
  if (tensors.length < 2 || !tensors.every((tensor) => suits(tensor) && tensor.dtype === dtype)) return null;
  const [axis] = util.parseAxisParam(attrs.axis, shape) as [number];
  const shapes = tensors.map((tensor) => tensor.shape);
  backend_util.assertParamsConsistent(shapes, axis);
  return join(backend, tensors, backend_util.computeOutShape(shapes, axis), axis);
});

const pack = kernel<TensorInfo[], { axis: number }>('Pack', ({ inputs, attrs, backend }) => {
  const tensors = Object.values(inputs);
  const { dtype, shape } = tensors[0] as TensorInfo;
  const isSame = (tensor: TensorInfo) =>
    suits(tensor) && tensor.dtype === dtype && util.arraysEqual(tensor.shape, shape);
  if (tensors.length < 2 || !tensors.every(isSame)) return null;
  const axis = attrs.axis < 0 ? attrs.axis + shape.length + 1 : attrs.axis;
  const expanded = tensors.map(({ dataId }) => ({ dataId, dtype, shape: insert(shape, axis, 1) }));
  return join(backend, expanded, insert(shape, axis, tensors.length), axis);
});

function insert(shape: readonly number[], axis: number, size: number): number[] {
  return [...shape.slice(0, axis), size, ...shape.slice(axis)];
}

const splitV = kernel<{ x: TensorInfo }, { numOrSizeSplits: number[] | number; axis: number }>(
  'SplitV',
  ({ inputs: { x }, attrs, backend }) => {
    if (!suits(x)) return null;
    const [axis] = util.parseAxisParam(attrs.axis, x.shape) as [number];
    const sizes = backend_util.prepareSplitSize(x as never, attrs.numOrSizeSplits, axis);
    if (sizes.some((size) => size <= 0)) return null;
    const shapes = sizes.map((size) => x.shape.map((whole, a) => (a === axis ? size : whole)));
    if (axis === x.shape.length - 1 && areBlocked(backend, [x], sizes)) return splitBlocks(backend, x, shapes);
    const begin = x.shape.map(() => 0);
    if (isFreeView(backend, x, begin, shapes[0] as number[])) return null;
    return shapes.map((shape) => {
      const y = part(backend, x, begin, shape);
      begin[axis] = (begin[axis] as number) + (shape[axis] as number);
      return y;
    });
  },
);

function splitBlocks(backend: OneDnnBackend, x: TensorInfo, shapes: readonly number[][]): TensorInfo[] {
  const { runtime } = backend;
  const [examples, whole] = blocksOfExamples(x.shape);
  const source = backend.storage(x).native(examples * whole);
  let start = 0;
  return shapes.map((shape) => {
    const layout = { current: blocked(runtime, shape), plain: channelsLast(runtime, shape) };
    const y = backend.allocate(shape, 'float32', layout);
    const size = blocksOfExamples(shape)[1];
    const target = backend.unresolved(y).native(examples * size);
    const from = start;
    runtime.host(() => {
      for (let n = 0; n < examples; n++) {
        target.set(source.subarray(n * whole + from, n * whole + from + size), n * size);
      }
    });
    start += size;
    return y;
  });
}

const unpack = kernel<{ value: TensorInfo }, { axis: number }>('Unpack', ({ inputs: { value }, attrs, backend }) => {
  if (!suits(value)) return null;
  const axis = attrs.axis < 0 ? attrs.axis + value.shape.length : attrs.axis;
  const size = value.shape.map((whole, a) => (a === axis ? 1 : whole));
  const begin = value.shape.map(() => 0);
  if (isFreeView(backend, value, begin, size)) return null;
  const shape = value.shape.filter((_, a) => a !== axis);
  return Array.from({ length: value.shape[axis] as number }, (_, i) => {
    begin[axis] = i;
    return { ...part(backend, value, begin, size), shape };
  });
});

export const arrayKernels: readonly Kernel[] = [
  ...[transpose, slice, stridedSlice, pad, tile],
  ...[reverse, concat, pack, splitV, unpack],
];
