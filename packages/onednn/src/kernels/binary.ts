/**
 * Element-wise functions of two tensors with broadcasting: arithmetic, maximum and minimum, comparisons, logic.
 *
 * `cpu` computes every index of a broadcast by division, at a tenth of a microsecond per element; here neighbouring
 * dimensions that broadcast alike are merged and walked with strides. Large f32 tensors go to oneDNN, in the layout in
 * which they are.
 */
import { broadcast_util, type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg, BYTES } from '../ffi/constants.js';
import type { MemoryDescriptor } from '../ffi/dnnl.js';
import { blocked, channelsLast, fillsBlocks } from '../layout.js';
import type { Verdict } from '../memory/step-listener.js';
import type { NativeLayout } from '../memory/storage.js';
import type { Primitive } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { allFinite, areFinite, binaryTrust, elementwiseView } from './elementwise.js';
import { type Kernel, kernel } from './kernel.js';
import {
  type BinaryLoop,
  type BinaryOperation,
  type BroadcastPlan,
  binaryLoop,
  broadcastPlan,
  specializePerKind,
  type TypedValues,
} from './loops.js';
import { fastPrimitive, isNumeric, optional, SMALL, viewOf } from './tools.js';

type ChooseLoop = (holds: TypedValues, a: TypedValues, b: TypedValues, y: TypedValues) => void;

function chooseTemplate(): ChooseLoop {
  return (holds, a, b, y) => {
    const n = y.length;
    for (let i = 0; i < n; i++) y[i] = (holds[i] === 1 ? a[i] : b[i]) as number;
  };
}

interface BinarySpec {
  readonly name: string;
  /** TensorFlow.js' formula. Refers to its arguments and `Math` only (see loops.ts). */
  readonly operation: BinaryOperation;
  /** oneDNN's algorithm for the same. */
  readonly alg?: number;
  readonly commutes?: boolean;
  /** Type of the result, if it is not the inputs'. */
  readonly dtype?: DataType;
  /** Names of the two inputs. Default a, b. */
  readonly inputs?: readonly [string, string];
}

const specs: readonly BinarySpec[] = [
  { name: 'Add', operation: (a, b) => a + b, alg: Alg.add, commutes: true },
  { name: 'Sub', operation: (a, b) => a - b, alg: Alg.sub },
  { name: 'Multiply', operation: (a, b) => a * b, alg: Alg.mul, commutes: true },
  { name: 'RealDiv', operation: (a, b) => a / b, alg: Alg.div },
  { name: 'Maximum', operation: (a, b) => Math.max(a, b), alg: Alg.max, commutes: true },
  { name: 'Minimum', operation: (a, b) => Math.min(a, b), alg: Alg.min, commutes: true },
  {
    name: 'SquaredDifference',
    operation: (a, b) => {
      const difference = a - b;
      return difference * difference;
    },
  },
  { name: 'Pow', operation: (a, b) => a ** b },
  { name: 'FloorDiv', operation: (a, b) => Math.floor(a / b), dtype: 'int32' },
  { name: 'Equal', operation: (a, b) => (a === b ? 1 : 0), dtype: 'bool' },
  { name: 'NotEqual', operation: (a, b) => (a !== b ? 1 : 0), dtype: 'bool' },
  { name: 'Less', operation: (a, b) => (a < b ? 1 : 0), dtype: 'bool' },
  { name: 'LessEqual', operation: (a, b) => (a <= b ? 1 : 0), dtype: 'bool' },
  { name: 'Greater', operation: (a, b) => (a > b ? 1 : 0), dtype: 'bool' },
  { name: 'GreaterEqual', operation: (a, b) => (a >= b ? 1 : 0), dtype: 'bool' },
  // As `cpu` has it: the operand itself is stored in a byte.
  { name: 'LogicalAnd', operation: (a, b) => a && b, dtype: 'bool' },
  { name: 'LogicalOr', operation: (a, b) => a || b, dtype: 'bool' },
  { name: 'Prelu', operation: (x, alpha) => (x < 0 ? alpha * x : x), dtype: 'float32', inputs: ['x', 'alpha'] },
];

type Inputs = Record<string, TensorInfo>;

function binaryKernel(spec: BinarySpec): Kernel {
  const loop = binaryLoop(spec.operation);
  const [left, right] = spec.inputs ?? ['a', 'b'];
  return kernel<Inputs, object>(spec.name, ({ inputs, backend }) => {
    const a = inputs[left] as TensorInfo;
    const b = inputs[right] as TensorInfo;
    if (!isNumeric(a) || a.dtype !== b.dtype) return null;
    const isSameShape = util.arraysEqual(a.shape, b.shape);
    const shape = isSameShape ? a.shape : broadcast_util.assertAndGetBroadcastShape(a.shape, b.shape);
    const size = util.sizeFromShape(shape);
    if (size === 0) return null;
    if (a.dtype === 'float32' && spec.alg !== undefined) {
      const y = primitive(backend, a, b, shape, size, isSameShape, spec, loop);
      if (y) return y;
    }
    const plan = isSameShape ? null : broadcastPlan(a.shape, b.shape, shape);
    return inLoop(backend, a, b, shape, plan, loop, spec.dtype ?? a.dtype);
  });
}

function inLoop(
  backend: OneDnnBackend,
  a: TensorInfo,
  b: TensorInfo,
  shape: number[],
  plan: BroadcastPlan | null,
  loop: BinaryLoop,
  dtype: DataType,
): TensorInfo {
  const y = backend.allocate(shape, dtype);
  const left = viewOf(backend, a);
  const right = viewOf(backend, b);
  const output = viewOf(backend, y);
  backend.runtime.host(() => loop(left, right, output, plan));
  return y;
}

function primitive(
  backend: OneDnnBackend,
  a: TensorInfo,
  b: TensorInfo,
  shape: number[],
  size: number,
  isSameShape: boolean,
  spec: BinarySpec,
  loop: BinaryLoop,
): TensorInfo | null {
  const hasLayout = backend.storage(a).layout !== null || backend.storage(b).layout !== null;
  if (size < SMALL && !hasLayout) return null;
  const alg = spec.alg as number;
  const trust = binaryTrust(backend.runtime, alg, spec.operation);
  if (trust === 'none') return null;
  const task: Task = {
    backend,
    alg,
    label: spec.name.toLowerCase(),
    needsFinite: trust === 'finite',
    // Which operand comes first does not matter to what is done by this road only if both are finite.
    loop: (x, y) =>
      inLoop(backend, x, y, shape, isSameShape ? null : broadcastPlan(x.shape, y.shape, shape), loop, 'float32'),
  };
  if (isSameShape) return same(task, a, b, spec.commutes === true);
  // oneDNN repeats the second operand only.
  if (util.sizeFromShape(a.shape) === size) return broadcast(task, a, b, shape);
  if (util.sizeFromShape(b.shape) === size && spec.commutes) return broadcast(task, b, a, shape);
  return null;
}

interface Task {
  readonly backend: OneDnnBackend;
  readonly alg: number;
  readonly label: string;
  readonly needsFinite: boolean;
  /** TensorFlow.js' formula, for operands that are not finite. */
  readonly loop: (a: TensorInfo, b: TensorInfo) => TensorInfo;
}

function compile(
  { backend: { runtime }, alg, label }: Task,
  a: MemoryDescriptor,
  b: MemoryDescriptor,
): Primitive | null {
  return optional(runtime, `binary ${alg} ${a.id} ${b.id}`, () => {
    const descriptor = runtime.dnnl.binary(alg, a, b, a);
    const args = [[Arg.src, a] as const, [Arg.src1, b] as const, [Arg.dst, a] as const];
    return fastPrimitive(runtime, descriptor, args, `${label} [${a.dims}] [${b.dims}]`);
  });
}

function same(task: Task, a: TensorInfo, b: TensorInfo, commutes: boolean): TensorInfo | null {
  const { backend } = task;
  // The layout of whichever is native decides, so that only one of the two may need a conversion.
  const leads = backend.storage(a).layout !== null || backend.storage(b).layout === null;
  const { plain, current } = elementwiseView(backend, leads ? a : b);
  const compiled = compile(task, current, current);
  if (!compiled) return null;
  const leader = leads ? a : b;
  const follower = leads ? b : a;
  return backend.withLayout(follower, plain, current, (address) => {
    const leading = backend.storage(leader).address;
    const compute = (): [TensorInfo] => {
      const y = backend.allocateOver([leader, follower], a.shape, { plain, current });
      const target = backend.unresolved(y).address;
      if (leads || commutes) compiled.run(leading, address, target);
      else compiled.run(address, leading, target);
      return [y];
    };
    return unlessInfinite(
      task,
      a,
      b,
      () =>
        both(backend.runtime, allFinite(backend.runtime, leading, current), () =>
          allFinite(backend.runtime, address, current),
        ),
      compute,
    );
  });
}

/** Runs what is right for finite operands, or a loop that is right for all. */
function unlessInfinite(
  { backend, needsFinite, loop }: Task,
  a: TensorInfo,
  b: TensorInfo,
  judge: () => Verdict,
  compute: () => [TensorInfo],
): TensorInfo {
  const [y] = needsFinite ? backend.either(judge(), [a, b], compute, (left, right) => [loop(left, right)]) : compute();
  return y;
}

function both(runtime: Runtime, first: Verdict, other: () => Verdict): Verdict {
  if (!first.holds) return first;
  const second = other();
  return runtime.judge(() => first.holds && second.holds);
}

/** `a` has the result's size; `b` repeats along some of its dimensions. */
function broadcast(task: Task, a: TensorInfo, b: TensorInfo, shape: number[]): TensorInfo | null {
  const { backend } = task;
  const { runtime } = backend;
  const storage = backend.storage(a);
  const small = backend.storage(b);
  const attempt = inLayout(task, a, b, shape) ?? inRows(task, a, b, shape);
  if (attempt === null) return null;
  const { compiled, layouts, bLayout, view } = attempt;
  small.makePlain();
  return unlessInfinite(
    task,
    a,
    b,
    () => both(runtime, allFinite(runtime, storage.address, view), () => isFiniteOperand(backend, b, bLayout)),
    () => {
      const y = backend.allocate(shape, 'float32', layouts);
      compiled.run(storage.address, small.address, backend.unresolved(y).address);
      return [y];
    },
  );
}

/** A few elements are looked at one by one; a single one has no sum in oneDNN. */
function isFiniteOperand(backend: OneDnnBackend, b: TensorInfo, layout: MemoryDescriptor): Verdict {
  if (util.sizeFromShape(b.shape) < SMALL) return areFinite(backend.runtime, viewOf(backend, b) as Float32Array);
  return allFinite(backend.runtime, backend.storage(b).address, layout);
}

interface Attempt {
  readonly compiled: Primitive;
  /** The result's layout, which is the first operand's. */
  readonly layouts: NativeLayout;
  /** The first operand as the primitive sees it. */
  readonly view: MemoryDescriptor;
  readonly bLayout: MemoryDescriptor;
}

/** In the native layout of `a`, for a scalar or a vector along the channels; null where that does not fit. */
function inLayout(task: Task, a: TensorInfo, b: TensorInfo, shape: number[]): Attempt | null {
  const { backend } = task;
  const { runtime } = backend;
  const { layout } = backend.storage(a);
  if (layout === null || a.shape.length !== shape.length) return null;
  // Activations only: the native layouts of filters have their channels elsewhere.
  if (a.shape.length < 3 || layout.plain !== channelsLast(runtime, a.shape)) return null;
  const { current } = layout;
  const bSize = util.sizeFromShape(b.shape);
  if (bSize === 1) {
    // Padding would not stay zero.
    if (current.byteLength !== util.sizeFromShape(shape) * BYTES[current.dataType]) return null;
    const view = runtime.rowMajor([util.sizeFromShape(shape)], current.dataType);
    const bLayout = runtime.rowMajor([1]);
    const compiled = compile(task, view, bLayout);
    return compiled && { compiled, layouts: layout, view, bLayout };
  }
  const channels = shape.at(-1) as number;
  if (bSize !== channels || b.shape.at(-1) !== channels || !fillsBlocks(runtime, channels)) return null;
  // The same memory, described in the way in which oneDNN knows that it goes with the first operand.
  const vector = shape.map((_, axis) => (axis === shape.length - 1 ? channels : 1));
  for (const bLayout of [blocked(runtime, vector), channelsLast(runtime, vector)]) {
    const compiled = compile(task, current, bLayout);
    if (compiled) return { compiled, layouts: layout, view: current, bLayout };
  }
  return null;
}

/** In row-major order, dimensions that broadcast alike merged. */
function inRows(task: Task, a: TensorInfo, b: TensorInfo, shape: number[]): Attempt | null {
  const { backend } = task;
  const { dims, bStrides } = broadcastPlan(a.shape, b.shape, shape);
  const plain = backend.runtime.rowMajor(dims);
  const bLayout = backend.runtime.rowMajor(dims.map((size, axis) => (bStrides[axis] === 0 ? 1 : size)));
  const compiled = compile(task, plain, bLayout);
  if (!compiled) return null;
  backend.storage(a).makePlain();
  return { compiled, layouts: { plain, current: plain }, view: plain, bLayout };
}

const chooseLoop = specializePerKind(chooseTemplate, null);
const chooseFloats = chooseLoop('f32');

/** y = a where the condition is 1, else b. */
function choose(holds: TypedValues, a: TypedValues, b: TypedValues, y: TypedValues): void {
  const areFloats = y instanceof Float32Array && holds instanceof Uint8Array;
  const loop = areFloats ? chooseFloats : chooseLoop(holds.constructor.name + y.constructor.name);
  loop(holds, a, b, y);
}

/** condition, t, e of one shape → t where the condition holds, else e. */
const select = kernel<{ condition: TensorInfo; t: TensorInfo; e: TensorInfo }, object>(
  'Select',
  ({ inputs: { condition, t, e }, backend }) => {
    const fits = util.arraysEqual(condition.shape, t.shape) && util.arraysEqual(t.shape, e.shape);
    if (!isNumeric(t) || t.dtype !== e.dtype || !fits || util.sizeFromShape(t.shape) === 0) return null;
    const y = backend.allocate(t.shape, t.dtype);
    const output = viewOf(backend, y);
    const holds = viewOf(backend, condition);
    const yes = viewOf(backend, t);
    const no = viewOf(backend, e);
    backend.runtime.host(() => choose(holds, yes, no, output));
    return y;
  },
);

export const binaryKernels: readonly Kernel[] = [...specs.map(binaryKernel), select];
