/**
 * What unary and binary kernels share: how a tensor looks when only its elements matter, whether oneDNN's algorithm gives
 * TensorFlow.js' results, and whether the elements are all finite.
 *
 * oneDNN's code is fast where numbers are numbers. Some of it loses NaN (ReLU, clip, maximum: the vector instruction returns
 * the other operand), some is less exact (the logarithm of 2.6 near 1). What a version of the library does is not written
 * anywhere, so each algorithm is tried once on numbers that tell, beside TensorFlow.js' own formula.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, BYTES, Prop } from '../ffi/constants.js';
import type { MemoryDescriptor, PostOp } from '../ffi/dnnl.js';
import type { Verdict } from '../memory/step-listener.js';
import type { TensorStorage } from '../memory/storage.js';
import type { Primitive } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import type { BinaryOperation, UnaryOperation, Values } from './loops.js';
import { fastPrimitive, optional } from './tools.js';

/** One description for all: the native layout if there is one, else the elements in a row. */
export function elementwiseView(
  backend: OneDnnBackend,
  tensor: TensorInfo,
): { plain: MemoryDescriptor; current: MemoryDescriptor } {
  const { layout } = backend.storage(tensor);
  if (layout && matchesShape(layout.plain, tensor.shape)) return layout;
  if (layout) backend.storage(tensor).makePlain();
  const plain = backend.runtime.rowMajor([util.sizeFromShape(tensor.shape)]);
  return { plain, current: plain };
}

/** A native layout describes dimensions in oneDNN's order; a reshaped tensor no longer has them. */
function matchesShape(plain: MemoryDescriptor, shape: readonly number[]): boolean {
  const { dims } = plain;
  const last = shape.length - 1;
  return (
    dims.length === shape.length &&
    dims[0] === shape[0] &&
    dims[1] === shape[last] &&
    dims.slice(2).every((size, axis) => size === shape[axis + 1])
  );
}

/**
 * Elements in the order in which they lie, if they are f32 without padding, so that a loop can work in any layout.
 * null for other native layouts.
 */
export function elementsInPlace(storage: TensorStorage, size: number): Values | null {
  if (storage.layout === null) return storage.view() as Values;
  const { current } = storage.layout;
  if (current.dataType !== 'f32' || current.byteLength !== 4 * size) return null;
  return storage.native(size);
}

export type Trust =
  /** Gives TensorFlow.js' results for every input. */
  | 'exact'
  /** Does so for finite inputs. */
  | 'finite'
  /** Does not. */
  | 'none';

const SPECIAL = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
/** Signs, zeros, denormals, both ends of the range, around 1, where exp overflows, and numbers that networks see. */
const FINITE = [
  ...[0, -0, 1e-40, -1e-40, 1e-30, -1e-30, 1e-7, -1e-7, 1e-3, -1e-3, 0.999, 1.001, 1, -1, 1.5, -1.5, 2, -2, 2.5, -2.5],
  ...[3, -3, 5.99, 6, 6.01, -6, 10, -10, 17, -17, 20, -20, 50, -50, 80, -80, 87, -87, 90, -90, 120, -120, 1e4, -1e4],
  ...Array.from({ length: 40 }, (_, i) => Math.fround(0.173 * (i - 20))),
  ...[1e18, -1e18, 3e38, -3e38],
];
/** Rounding to f32 is 6e-8; vectorised functions are good to a few of these. */
const TOLERANCE = 1e-6;

const trusts = new WeakMap<Runtime, Map<string, Trust>>();
const TRUST_CAPACITY = 512;

function trustOf(runtime: Runtime, key: string, judge: () => Trust): Trust {
  let known = trusts.get(runtime);
  if (!known) {
    known = new Map();
    trusts.set(runtime, known);
  }
  let trust = known.get(key);
  if (trust === undefined) {
    if (known.size >= TRUST_CAPACITY) known.clear();
    trust = judge();
    known.set(key, trust);
  }
  return trust;
}

function agrees(actual: number, expected: number): boolean {
  const want = Math.fround(expected);
  if (Number.isNaN(want)) return Number.isNaN(actual);
  if (!Number.isFinite(want)) return actual === want;
  return Math.abs(actual - want) <= TOLERANCE * Math.abs(want) + 1.5e-7;
}

/** Tries a primitive on inputs of one or two rows. `expected` is TensorFlow.js' formula. */
function tryOut(
  runtime: Runtime,
  inputs: readonly (readonly number[])[],
  make: (layout: MemoryDescriptor) => Primitive | null,
  expected: (...values: number[]) => number,
): Trust {
  const count = (inputs[0] as readonly number[]).length;
  const primitive = make(runtime.rowMajor([count]));
  if (!primitive) return 'none';
  const buffers = [...inputs, []].map((values) => {
    const buffer = runtime.pool.acquire(4 * count);
    const view = new Float32Array(buffer.memory, buffer.byteOffset, count);
    view.set(values as number[]);
    return { buffer, view };
  });
  primitive.run(...buffers.map(({ buffer }) => buffer.address));
  const output = (buffers.at(-1) as { view: Float32Array }).view;
  let trust: Trust = 'exact';
  for (let i = 0; i < count && trust !== 'none'; i++) {
    const row = inputs.map((values) => Math.fround(values[i] as number));
    if (agrees(output[i] as number, expected(...row))) continue;
    trust = row.every(Number.isFinite) ? 'none' : 'finite';
  }
  for (const { buffer } of buffers) runtime.pool.release(buffer);
  primitive.destroy();
  return trust;
}

/** y = alg(x) for elements in `layout`; null where oneDNN has no fast code for it. */
export function eltwisePrimitive(
  runtime: Runtime,
  alg: number,
  alpha: number,
  beta: number,
  layout: MemoryDescriptor,
  label: string,
): Primitive | null {
  return optional(runtime, `eltwise ${alg} ${alpha} ${beta} ${layout.id}`, () => {
    const descriptor = runtime.dnnl.eltwiseForward(Prop.forwardTraining, alg, layout, alpha, beta);
    const args = [[Arg.src, layout] as const, [Arg.dst, layout] as const];
    return fastPrimitive(runtime, descriptor, args, `${label} [${layout.dims}]`);
  });
}

/** How far oneDNN's algorithm can be trusted to give what `operation` gives. */
export function eltwiseTrust(
  runtime: Runtime,
  alg: number,
  [alpha, beta]: readonly [number, number],
  operation: UnaryOperation,
  [p, q]: readonly [number, number],
): Trust {
  return trustOf(runtime, `eltwise ${alg} ${alpha} ${beta} ${p} ${q}`, () =>
    tryOut(
      runtime,
      [[...SPECIAL, ...FINITE]],
      (layout) =>
        uncached(runtime, runtime.dnnl.eltwiseForward(Prop.forwardTraining, alg, layout, alpha, beta), layout, 1),
      (x) => operation(x as number, p, q),
    ),
  );
}

/** How far post-operations can be trusted to do to a result what `operation` does. */
export function postOpsTrust(
  runtime: Runtime,
  name: string,
  postOps: readonly PostOp[],
  operation: (x: number) => number,
): Trust {
  return trustOf(runtime, `post-operations ${name}`, () => {
    const all = [...SPECIAL, ...FINITE];
    const zeros = all.map(() => 0);
    return tryOut(
      runtime,
      [all, zeros],
      (layout) => uncached(runtime, runtime.dnnl.binary(Alg.add, layout, layout, layout, postOps), layout, 2),
      (x) => operation(x as number),
    );
  });
}

/** How far oneDNN's binary algorithm can be trusted to give what `operation` gives. */
export function binaryTrust(runtime: Runtime, alg: number, operation: BinaryOperation): Trust {
  return trustOf(runtime, `binary ${alg}`, () => {
    const all = [...SPECIAL, ...FINITE.slice(0, 60)];
    const left = all.flatMap((a) => all.map(() => a));
    const right = all.flatMap(() => all);
    return tryOut(
      runtime,
      [left, right],
      (layout) => uncached(runtime, runtime.dnnl.binary(alg, layout, layout, layout), layout, 2),
      (a, b) => operation(a as number, b as number),
    );
  });
}

function uncached(
  runtime: Runtime,
  descriptor: ReturnType<Runtime['dnnl']['binary']>,
  layout: MemoryDescriptor,
  inputs: 1 | 2,
): Primitive | null {
  if (!descriptor) return null;
  const sources =
    inputs === 2 ? [[Arg.src, layout] as const, [Arg.src1, layout] as const] : [[Arg.src, layout] as const];
  return runtime.primitive(descriptor, [...sources, [Arg.dst, layout]], 'trial');
}

/** Rows of the check below: enough for every thread. */
const ROWS = 64;

/**
 * Holds if no element is NaN or infinite; not where that cannot be told either (the sum overflows, or there is no fast sum).
 * The sum of all elements tells, at the speed of memory.
 */
export function allFinite(runtime: Runtime, address: number, layout: MemoryDescriptor): Verdict {
  return sumWhere(runtime, address, layout, Number.isFinite);
}

/** As {@link allFinite}, of a tensor: what is known of it, or what a pass over it tells. */
export function finiteness(backend: OneDnnBackend, tensor: TensorInfo): Verdict {
  const storage = backend.storage(tensor);
  if (storage.finite) return storage.finite;
  // The view first: it may move the elements.
  const { current } = elementwiseView(backend, tensor);
  return allFinite(backend.runtime, storage.address, current);
}

/** Holds if the sum of all elements is one that `suits`. */
export function sumWhere(
  runtime: Runtime,
  address: number,
  layout: MemoryDescriptor,
  suits: (sum: number) => boolean,
): Verdict {
  const count = layout.byteLength / BYTES[layout.dataType];
  const rows = count % ROWS === 0 && count >= 64 * ROWS ? ROWS : 1;
  // oneDNN has no sum of a single element.
  if (count === 1) return UNKNOWN;
  const sum = optional(runtime, `finite ${count} ${layout.dataType}`, () => {
    const source = runtime.rowMajor([rows, count / rows], layout.dataType);
    const destination = runtime.rowMajor([rows, 1]);
    const descriptor = runtime.dnnl.reduction(Alg.reductionSum, source, destination);
    const args = [[Arg.src, source] as const, [Arg.dst, destination] as const];
    return fastPrimitive(runtime, descriptor, args, `all_finite [${count}]`);
  });
  if (!sum) return UNKNOWN;
  const buffer = runtime.pool.acquire(4 * rows);
  sum.run(address, buffer.address);
  const sums = new Float32Array(buffer.memory, buffer.byteOffset, rows);
  const verdict = runtime.judge(() => {
    let total = 0;
    for (let row = 0; row < rows; row++) total += sums[row] as number;
    return suits(total);
  });
  runtime.pool.release(buffer);
  return verdict;
}

const UNKNOWN: Verdict = { holds: false };

/** Holds if none of a few elements is NaN or infinite. `values` must be where they are as long as a recording is. */
export function areFinite(runtime: Runtime, ...lists: Float32Array[]): Verdict {
  return runtime.judge(() =>
    lists.every((values) => {
      // A sum in f64 is finite exactly then.
      let total = 0;
      for (let i = 0; i < values.length; i++) total += values[i] as number;
      return Number.isFinite(total);
    }),
  );
}
