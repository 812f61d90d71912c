/**
 * Reductions over any axes: Sum, Mean, Max, Min, Prod, All, Any, ArgMax, ArgMin.
 *
 * A tensor is seen as [outer, reduced, inner]; axes that do not lie side by side are brought together first. Large f32 sums
 * are oneDNN's: along the last axis a reduction, otherwise a product with a row of ones, for which oneDNN's own reduction
 * has no fast code. Both add in f32, so long sums are taken in pieces whose results are added in f64, as `cpu` adds.
 */
import { backend_util, type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, BYTES } from '../ffi/constants.js';
import { blocked, fillsBlocks } from '../layout.js';
import type { Primitive } from '../primitive.js';
import { type Runtime, rowMajorStrides } from '../runtime.js';
import { areFinite } from './elementwise.js';
import { type Kernel, kernel } from './kernel.js';
import type { TypedValues, Values } from './loops.js';
import { specializePerKind } from './loops.js';
import { copyTensor, rowMajorView } from './strided.js';
import { fastPrimitive, isNumeric, optional, SMALL, viewOf } from './tools.js';

interface Axes {
  readonly axis: number | number[];
  readonly keepDims: boolean;
}

/** Shapes of a reduction. */
interface Plan {
  readonly outer: number;
  readonly reduced: number;
  readonly inner: number;
  /** Dimensions in the order in which they must lie; null if they do. */
  readonly permutation: readonly number[] | null;
  readonly outShape: number[];
}

function planOf(shape: readonly number[], axes: readonly number[], keepDims: boolean): Plan {
  const last = shape.length - 1;
  if (axes.length === 1 && axes[0] === last) {
    const outShape = shape.slice(0, last);
    const outer = util.sizeFromShape(outShape);
    if (keepDims) outShape.push(1);
    return { outer, reduced: shape[last] as number, inner: 1, permutation: null, outShape };
  }
  const size = (dims: readonly number[]) => dims.reduce((product, axis) => product * (shape[axis] as number), 1);
  const all = shape.map((_, axis) => axis);
  const kept = all.filter((axis) => !axes.includes(axis));
  const outShape = keepDims
    ? shape.map((whole, axis) => (axes.includes(axis) ? 1 : whole))
    : kept.map((axis) => shape[axis] as number);
  // Axes of size 1 may stand anywhere.
  const real = all.filter((axis) => shape[axis] !== 1);
  const reducedAxes = real.filter((axis) => axes.includes(axis));
  const first = real.indexOf(reducedAxes[0] as number);
  const isTogether = reducedAxes.every((axis, i) => real[first + i] === axis);
  if (isTogether || reducedAxes.length === 0) {
    const begin = reducedAxes[0] ?? shape.length;
    const end = (reducedAxes.at(-1) ?? shape.length - 1) + 1;
    const before = all.filter((axis) => axis < begin);
    const after = all.filter((axis) => axis >= end);
    return { outer: size(before), reduced: size(reducedAxes), inner: size(after), permutation: null, outShape };
  }
  return { outer: size(kept), reduced: size([...axes]), inner: 1, permutation: [...kept, ...axes], outShape };
}

/** y[o, i] = what `reducer` makes of x[o, ·, i], divided by `divisor` before it is rounded. */
type Reducer = (x: Values, y: TypedValues, outer: number, reduced: number, inner: number, divisor: number) => void;

function foldTemplate(operation: { start: number | null; fold: (a: number, b: number) => number }): Reducer {
  const { start, fold } = operation;
  return (x, y, outer, reduced, inner, divisor) => {
    if (inner === 1) {
      for (let o = 0; o < outer; o++) {
        const base = o * reduced;
        let value = start ?? (x[base] as number);
        for (let r = start === null ? 1 : 0; r < reduced; r++) value = fold(value, x[base + r] as number);
        y[o] = value / divisor;
      }
      return;
    }
    // Row by row, in f64.
    const row = new Float64Array(inner);
    for (let o = 0; o < outer; o++) {
      let base = o * reduced * inner;
      for (let i = 0; i < inner; i++) row[i] = start ?? (x[base + i] as number);
      let r = 0;
      if (start === null) {
        base += inner;
        r = 1;
      }
      for (; r < reduced; r++, base += inner) {
        for (let i = 0; i < inner; i++) row[i] = fold(row[i] as number, x[base + i] as number);
      }
      for (let i = 0; i < inner; i++) y[o * inner + i] = (row[i] as number) / divisor;
    }
  };
}

/** Which element is the first of the greatest, or of the smallest: index of the first that `wins` against all before it. */
function argTemplate(wins: (candidate: number, best: number) => boolean): Reducer {
  return (x, y, outer, reduced, inner) => {
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const base = o * reduced * inner + i;
        let best = x[base] as number;
        let index = 0;
        let at = base;
        for (let r = 1; r < reduced; r++) {
          at += inner;
          const value = x[at] as number;
          if (wins(value, best)) {
            best = value;
            index = r;
          }
        }
        y[o * inner + i] = index;
      }
    }
  };
}

// The templates' arguments are made part of their copies' source, so operations are source themselves here.
const reducer = (start: number | null, fold: (a: number, b: number) => number) => {
  const operation = { start, fold, toString: () => `{ start: ${start}, fold: ${fold} }` };
  const loops = specializePerKind(foldTemplate, operation);
  const floats = loops('f32');
  return (x: Values) => (x instanceof Float32Array ? floats : loops(x.constructor.name));
};
const argReducer = (wins: (candidate: number, best: number) => boolean) => {
  const loops = specializePerKind(argTemplate, wins);
  const floats = loops('f32');
  return (x: Values) => (x instanceof Float32Array ? floats : loops(x.constructor.name));
};

const add = reducer(0, (a, b) => a + b);
const multiply = reducer(1, (a, b) => a * b);
const greatest = reducer(null, (a, b) => Math.max(a, b));
const smallest = reducer(null, (a, b) => Math.min(a, b));
const all = reducer(null, (a, b) => a && b);
const any = reducer(null, (a, b) => a || b);
const firstGreatest = argReducer((candidate, best) => candidate > best);
const firstSmallest = argReducer((candidate, best) => candidate < best);

/** The tensor's values with the reduced axes together. `release` gives temporary memory back. */
function arranged(
  backend: OneDnnBackend,
  x: TensorInfo,
  { permutation }: Plan,
): { tensor: TensorInfo; release(): void } {
  if (permutation === null) return { tensor: x, release: () => {} };
  const shape = permutation.map((axis) => x.shape[axis] as number);
  const strides = rowMajorStrides(x.shape);
  const tensor = backend.allocate(shape, x.dtype);
  copyTensor(backend, x, tensor, {
    dims: shape,
    from: { offset: 0, strides: permutation.map((axis) => strides[axis] as number) },
    to: rowMajorView(shape),
  });
  return { tensor, release: () => backend.disposeData(tensor.dataId) };
}

/** Elements one behind the other that a loop reduces as fast as oneDNN, which begins each time anew. */
const SHORT = 24;

/** Elements that are added in f32 before f64 takes over: rounding stays near that of a single addition. */
const PIECE = 1024;

/** A part of a sum: `count` sums of `length` rows of `inner` elements, from `offset` (elements) on. */
interface SumPiece {
  readonly offset: number;
  readonly count: number;
  readonly length: number;
}

/** How [outer, reduced] is cut. A single long sum may leave a rest; sums side by side are cut where it comes out even. */
function piecesOf(outer: number, reduced: number): { pieces: SumPiece[]; perSum: number } {
  if (reduced <= PIECE) return { pieces: [{ offset: 0, count: outer, length: reduced }], perSum: 1 };
  if (outer === 1) {
    // oneDNN has no sum of a single element, so no rest of one.
    const length = reduced % PIECE === 1 ? PIECE - 1 : PIECE;
    const whole = Math.floor(reduced / length);
    const rest = reduced % length;
    const pieces = [{ offset: 0, count: whole, length }];
    if (rest > 0) pieces.push({ offset: whole * length, count: 1, length: rest });
    return { pieces, perSum: whole + (rest > 0 ? 1 : 0) };
  }
  let cuts = Math.ceil(reduced / PIECE);
  while (cuts < 64 && reduced % cuts !== 0) cuts++;
  if (reduced % cuts !== 0) cuts = 1;
  return { pieces: [{ offset: 0, count: outer * cuts, length: reduced / cuts }], perSum: cuts };
}

/** Sums over the middle of [count, length, inner]; null where oneDNN has no fast code. `ones` is the second operand. */
function sumPrimitive(runtime: Runtime, count: number, length: number, inner: number): Primitive | null {
  return optional(runtime, `sum ${count} ${length} ${inner}`, () => {
    const label = `sum [${count},${length},${inner}]`;
    if (inner === 1) {
      const source = runtime.rowMajor([count, length]);
      const target = runtime.rowMajor([count, 1]);
      const descriptor = length === 1 ? null : runtime.dnnl.reduction(Alg.reductionSum, source, target);
      const args = [[Arg.src, source] as const, [Arg.dst, target] as const];
      return fastPrimitive(runtime, descriptor, args, label);
    }
    const ones = runtime.rowMajor([1, 1, length]);
    const source = runtime.rowMajor([count, length, inner]);
    const target = runtime.rowMajor([count, 1, inner]);
    const descriptor = runtime.dnnl.matmul(ones, source, null, target, []);
    const args = [[Arg.weights, source] as const, [Arg.dst, target] as const, [Arg.src, ones] as const];
    return fastPrimitive(runtime, descriptor, args, label);
  });
}

/** [outer, reduced, inner] at `address` → sums [outer, inner], times `scale`; false where oneDNN has no fast code. */
function sumNative(
  runtime: Runtime,
  address: number,
  { outer, reduced, inner }: Pick<Plan, 'outer' | 'reduced' | 'inner'>,
  scale: number,
  y: TypedValues,
): boolean {
  const { pieces, perSum } = piecesOf(outer, reduced);
  const primitives = pieces.map(({ count, length }) =>
    length === 1 && inner === 1 ? null : sumPrimitive(runtime, count, length, inner),
  );
  if (primitives.includes(null)) return false;
  const count = outer * perSum;
  const partial = runtime.pool.acquire(4 * count * inner);
  const longest = Math.max(...pieces.map(({ length }) => length));
  const ones = inner === 1 ? null : runtime.pool.acquire(4 * longest);
  if (ones) {
    const row = new Float32Array(ones.memory, ones.byteOffset, longest);
    runtime.host(() => row.fill(1));
  }
  let done = 0;
  pieces.forEach((piece, i) => {
    const from = address + 4 * piece.offset * inner;
    const to = partial.address + 4 * done * inner;
    if (ones) primitives[i]?.run(from, to, ones.address);
    else primitives[i]?.run(from, to);
    done += piece.count;
  });
  const sums = new Float32Array(partial.memory, partial.byteOffset, count * inner);
  runtime.host(() => {
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let total = 0;
        for (let p = 0; p < perSum; p++) total += sums[(o * perSum + p) * inner + i] as number;
        y[o * inner + i] = total * scale;
      }
    }
  });
  runtime.pool.release(partial);
  if (ones) runtime.pool.release(ones);
  return true;
}

/** Sums of a tensor in channel blocks that keep its channels, or nothing; null for other layouts and axes. */
function sumBlocked(
  backend: OneDnnBackend,
  x: TensorInfo,
  axes: readonly number[],
  scale: number,
  outShape: number[],
): TensorInfo | null {
  const { runtime } = backend;
  const storage = backend.storage(x);
  const rank = x.shape.length;
  const channels = x.shape[rank - 1] as number;
  const size = util.sizeFromShape(x.shape);
  if (storage.layout === null || (rank !== 4 && rank !== 5) || !fillsBlocks(runtime, channels)) return null;
  const { current } = storage.layout;
  if (current !== blocked(runtime, x.shape) || current.byteLength !== size * BYTES.f32) return null;
  const keepsChannels = axes.length === rank - 1 && !axes.includes(rank - 1);
  if (axes.length !== rank && !keepsChannels) return null;
  const block = runtime.channelBlock;
  const examples = x.shape[0] as number;
  const blocks = channels / block;
  const space = size / (examples * channels);
  // In memory: [examples, blocks of channels, space, channels of a block].
  const sums = new Float32Array(examples * channels);
  const view = { outer: examples * blocks, reduced: space, inner: block };
  if (space > 1 && !sumNative(runtime, storage.address, view, 1, sums)) return null;
  if (space === 1) {
    const values = storage.native(size);
    runtime.host(() => sums.set(values));
  }
  const y = backend.allocate(outShape);
  const output = viewOf(backend, y);
  const target = new Float64Array(output.length);
  runtime.host(() => {
    target.fill(0);
    for (let n = 0; n < examples; n++) {
      for (let c = 0; c < channels; c++) {
        const at = keepsChannels ? c : 0;
        target[at] = (target[at] as number) + (sums[n * channels + c] as number);
      }
    }
    for (let i = 0; i < output.length; i++) output[i] = (target[i] as number) * scale;
  });
  return y;
}

/** Sum times `scale`, or mean. */
function sum(backend: OneDnnBackend, x: TensorInfo, attrs: Axes, dtype: DataType, isMean: boolean): TensorInfo {
  const axes = util.parseAxisParam(attrs.axis, x.shape);
  const plan = planOf(x.shape, axes, attrs.keepDims);
  const scale = isMean ? 1 / plan.reduced : 1;
  const size = util.sizeFromShape(x.shape);
  const isLarge = x.dtype === 'float32' && size >= SMALL && plan.reduced >= (plan.inner === 1 ? SHORT : 2);
  const inLoop = (source: TensorInfo): TensorInfo => {
    const { tensor, release } = arranged(backend, source, plan);
    const y = backend.allocate(plan.outShape, dtype);
    const [values, output] = [viewOf(backend, tensor), viewOf(backend, y)];
    backend.runtime.host(() =>
      add(values)(values, output, plan.outer, plan.reduced, plan.inner, isMean ? plan.reduced : 1),
    );
    release();
    return y;
  };
  const quick = isLarge
    ? (sumBlocked(backend, x, axes, scale, plan.outShape) ?? sumArranged(backend, x, plan, scale, dtype))
    : null;
  if (quick === null) return inLoop(x);
  // What is not finite may have overflowed on the way, which f64 does not.
  const verdict = areFinite(backend.runtime, viewOf(backend, quick) as Float32Array);
  return backend.keepIf(verdict, [x], [quick], (source) => [inLoop(source)])[0];
}

/** As oneDNN adds, in row-major order; null where it has no fast code. */
function sumArranged(
  backend: OneDnnBackend,
  x: TensorInfo,
  plan: Plan,
  scale: number,
  dtype: DataType,
): TensorInfo | null {
  const { tensor, release } = arranged(backend, x, plan);
  const y = backend.allocate(plan.outShape, dtype);
  backend.storage(tensor).makePlain();
  const isDone = sumNative(backend.runtime, backend.storage(tensor).address, plan, scale, viewOf(backend, y));
  release();
  if (isDone) return y;
  backend.disposeData(y.dataId);
  return null;
}

function suits(x: TensorInfo): boolean {
  return isNumeric(x) && util.sizeFromShape(x.shape) > 0;
}

const sumKernel = kernel<{ x: TensorInfo }, Axes>('Sum', ({ inputs: { x }, attrs, backend }) =>
  suits(x) ? sum(backend, x, attrs, backend_util.upcastType(x.dtype, 'int32'), false) : null,
);

const mean = kernel<{ x: TensorInfo }, Axes>('Mean', ({ inputs: { x }, attrs, backend }) =>
  suits(x) ? sum(backend, x, attrs, 'float32', true) : null,
);

/** A reduction in a loop. */
function loopKernel(
  name: string,
  reducerFor: (x: Values) => Reducer,
  dtypeOf: (x: DataType) => DataType,
  primitive?: (
    backend: OneDnnBackend,
    x: TensorInfo,
    plan: Plan,
    inLoop: (x: TensorInfo) => TensorInfo,
  ) => TensorInfo | null,
  /** Along the last axis `cpu`'s loop is as fast. */
  leavesLastAxis = false,
): Kernel {
  return kernel<{ x: TensorInfo }, Partial<Axes> & { reductionIndices: number | number[] }>(name, (call) => {
    const {
      inputs: { x },
      attrs,
      backend,
    } = call;
    if (!suits(x)) return null;
    // Max calls its axes reductionIndices; ArgMax and ArgMin have one axis, and never keep it.
    const plan = planOf(
      x.shape,
      util.parseAxisParam(attrs.axis ?? attrs.reductionIndices, x.shape),
      attrs.keepDims ?? false,
    );
    if (leavesLastAxis && plan.inner === 1 && plan.permutation === null) return null;
    const { tensor, release } = arranged(backend, x, plan);
    const inLoop = (source: TensorInfo): TensorInfo => {
      const y = backend.allocate(plan.outShape, dtypeOf(x.dtype));
      const [values, output] = [viewOf(backend, source), viewOf(backend, y)];
      backend.runtime.host(() => reducerFor(values)(values, output, plan.outer, plan.reduced, plan.inner, 1));
      return y;
    };
    const y = primitive?.(backend, tensor, plan, inLoop) ?? inLoop(tensor);
    release();
    return y;
  });
}

/** Greatest or smallest along the last axis, if every sum along it is finite: oneDNN loses NaN. */
function extremum(alg: number) {
  return (
    backend: OneDnnBackend,
    x: TensorInfo,
    plan: Plan,
    inLoop: (x: TensorInfo) => TensorInfo,
  ): TensorInfo | null => {
    const { runtime } = backend;
    const { outer, reduced, inner } = plan;
    if (x.dtype !== 'float32' || inner !== 1 || reduced < SHORT || outer * reduced < SMALL) return null;
    const storage = backend.storage(x);
    storage.makePlain();
    const primitive = optional(runtime, `extremum ${alg} ${outer} ${reduced}`, () => {
      const source = runtime.rowMajor([outer, reduced]);
      const target = runtime.rowMajor([outer, 1]);
      const descriptor = runtime.dnnl.reduction(alg, source, target);
      const args = [[Arg.src, source] as const, [Arg.dst, target] as const];
      return fastPrimitive(runtime, descriptor, args, `extremum [${outer},${reduced}]`);
    });
    if (!primitive) return null;
    const y = backend.allocate(plan.outShape);
    const output = viewOf(backend, y);
    if (!sumNative(runtime, storage.address, plan, 1, output)) {
      backend.disposeData(y.dataId);
      return null;
    }
    const verdict = areFinite(runtime, output as Float32Array);
    if (!verdict.holds) backend.disposeData(y.dataId);
    const compute = (): [TensorInfo] => {
      primitive.run(storage.address, backend.storage(y).address);
      return [y];
    };
    return backend.either(verdict, [x], compute, (source) => [inLoop(source)])[0];
  };
}

const same = (dtype: DataType): DataType => dtype;

export const reductionKernels: readonly Kernel[] = [
  sumKernel,
  mean,
  loopKernel('Max', greatest, same, extremum(Alg.reductionMax)),
  loopKernel('Min', smallest, same, extremum(Alg.reductionMin)),
  loopKernel('Prod', multiply, (dtype) => backend_util.upcastType(dtype, 'int32')),
  loopKernel('All', all, same, undefined, true),
  loopKernel('Any', any, same, undefined, true),
  loopKernel('ArgMax', firstGreatest, () => 'int32'),
  loopKernel('ArgMin', firstSmallest, () => 'int32'),
];
