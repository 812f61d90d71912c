/**
 * Copies between strided views of memory: what transposing, slicing, padding, tiling, concatenating and reversing all are.
 *
 * `cpu` computes the index of every element by divisions; here dimensions that lie one behind the other in both views are
 * merged, and what is left is walked with additions. Large copies that are not simply one block are oneDNN reorders, which
 * use vectors and every thread.
 */
import { type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Arg, type DataTypeName } from '../ffi/constants.js';
import { bytesPerElement } from '../memory/storage.js';
import { type Runtime, rowMajorStrides } from '../runtime.js';
import { specializePerKind, type TypedValues, type Values } from './loops.js';
import { optional, SMALL } from './tools.js';

/** Where the elements of a copy lie, in elements from the first. Strides may be 0 (repeats) or negative (backwards). */
export interface StridedView {
  readonly offset: number;
  readonly strides: readonly number[];
}

interface Copy {
  readonly dims: readonly number[];
  readonly from: StridedView;
  readonly to: StridedView;
}

/** The same copy with fewer dimensions: none of size 1, and neighbours merged where both views allow it. */
export function merged({ dims, from, to }: Copy): Copy {
  const sizes: number[] = [];
  const sources: number[] = [];
  const targets: number[] = [];
  for (let axis = dims.length - 1; axis >= 0; axis--) {
    const size = dims[axis] as number;
    if (size === 1) continue;
    const source = from.strides[axis] as number;
    const target = to.strides[axis] as number;
    const last = sizes.length - 1;
    const span = sizes[last] as number;
    if (last >= 0 && source === span * (sources[last] as number) && target === span * (targets[last] as number)) {
      sizes[last] = span * size;
    } else {
      sizes.push(size);
      sources.push(source);
      targets.push(target);
    }
  }
  if (sizes.length === 0) return { dims: [1], from: { ...from, strides: [1] }, to: { ...to, strides: [1] } };
  return {
    dims: sizes.reverse(),
    from: { ...from, strides: sources.reverse() },
    to: { ...to, strides: targets.reverse() },
  };
}

/** Elements from which copying a block by `set` is faster than a loop. */
export const BLOCK = 48;

type CopyLoop = (source: Values, target: TypedValues, copy: Copy, block: number) => void;

function copyTemplate(): CopyLoop {
  return (source, target, { dims, from, to }, block) => {
    const last = dims.length - 1;
    const n = dims[last] as number;
    const sourceStep = from.strides[last] as number;
    const targetStep = to.strides[last] as number;
    const isBlock = sourceStep === 1 && targetStep === 1 && n >= block && !Array.isArray(source);
    const counters = new Int32Array(last);
    let outer = 1;
    for (let d = 0; d < last; d++) outer *= dims[d] as number;
    let s = from.offset;
    let t = to.offset;
    for (; outer > 0; outer--) {
      if (isBlock) target.set((source as TypedValues).subarray(s, s + n), t);
      else {
        let si = s;
        let ti = t;
        for (let i = 0; i < n; i++) {
          target[ti] = source[si] as number;
          si += sourceStep;
          ti += targetStep;
        }
      }
      for (let d = last - 1; d >= 0; d--) {
        s += from.strides[d] as number;
        t += to.strides[d] as number;
        if (++(counters[d] as number) < (dims[d] as number)) break;
        s -= (from.strides[d] as number) * (dims[d] as number);
        t -= (to.strides[d] as number) * (dims[d] as number);
        counters[d] = 0;
      }
    }
  };
}

const copyLoop = specializePerKind(copyTemplate, null);

/** Copies in JavaScript. */
export function copyValues(source: Values, target: TypedValues, copy: Copy): void {
  const simple = merged(copy);
  copyLoop(source.constructor.name + target.constructor.name)(source, target, simple, BLOCK);
}

const NATIVE_TYPE: Partial<Record<DataType, DataTypeName>> = { float32: 'f32', int32: 's32', bool: 'u8' };

/** Copies part of a tensor to part of another of the same dtype, both in row-major memory. */
export function copyTensor(backend: OneDnnBackend, source: TensorInfo, target: TensorInfo, copy: Copy): void {
  const simple = merged(copy);
  const from = backend.storage(source);
  const to = backend.storage(target);
  from.makePlain();
  const count = util.sizeFromShape([...simple.dims]);
  const type = NATIVE_TYPE[source.dtype];
  // A storage of another dtype is integers that `cpu` has relabelled; only the loop converts.
  if (type && count >= SMALL && simple.dims.length > 1 && from.dtype === source.dtype) {
    const bytes = bytesPerElement(source.dtype);
    const run = reorder(backend.runtime, simple, type);
    if (run) {
      run.run(from.address + bytes * simple.from.offset, to.address + bytes * simple.to.offset);
      return;
    }
  }
  const values = from.view() as Values;
  const output = to.view() as TypedValues;
  const loop = copyLoop(values.constructor.name + output.constructor.name);
  backend.runtime.host(() => loop(values, output, simple, BLOCK));
}

/** The copy as a primitive; null where oneDNN has no fast one. */
function reorder(runtime: Runtime, { dims, from, to }: Copy, type: DataTypeName) {
  if (!isNested(dims, from.strides) || !isNested(dims, to.strides)) return null;
  return optional(runtime, `copy ${type} ${dims} ${from.strides} ${to.strides}`, () => {
    // For rows that lie apart oneDNN has generated code only if the columns are named first.
    for (const order of [dims.map((_, axis) => axis), dims.map((_, axis) => dims.length - 1 - axis)]) {
      const ordered = (values: readonly number[]) => order.map((axis) => values[axis] as number);
      const source = runtime.dnnl.descriptor(ordered(dims), type, { strides: ordered(from.strides) });
      const target = runtime.dnnl.descriptor(ordered(dims), type, { strides: ordered(to.strides) });
      const descriptor = runtime.dnnl.reorder(source, target);
      if (descriptor?.implementation.startsWith('jit')) {
        const args = [[Arg.src, source] as const, [Arg.dst, target] as const];
        return runtime.primitive(descriptor, args, `copy [${dims}]`);
      }
      descriptor?.destroy();
    }
    return null;
  });
}

/**
 * True if every stride spans the dimensions below it, as oneDNN demands. Every second column of an odd number of columns does
 * not: the last step of a row would end beyond the next row's begin.
 */
function isNested(dims: readonly number[], strides: readonly number[]): boolean {
  const order = dims.map((_, axis) => axis).sort((a, b) => (strides[a] as number) - (strides[b] as number));
  let span = 1;
  for (const axis of order) {
    const stride = strides[axis] as number;
    if (stride < span) return false;
    span = stride * (dims[axis] as number);
  }
  return true;
}

/** A whole tensor in row-major order. */
export function rowMajorView(shape: readonly number[]): StridedView {
  return { offset: 0, strides: rowMajorStrides(shape) };
}

/** The part of `shape` that begins at `begin`. */
export function partView(shape: readonly number[], begin: readonly number[]): StridedView {
  const strides = rowMajorStrides(shape);
  return { offset: begin.reduce((sum, start, axis) => sum + start * (strides[axis] as number), 0), strides };
}
