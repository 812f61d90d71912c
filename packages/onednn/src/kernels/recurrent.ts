/**
 * What the cells of recurrent layers share (lstm-cell.ts, gru-cell.ts, simple-rnn-cell.ts): their activations with slopes, and
 * products of matrices that are columns of a wider one.
 */
import { Alg, Arg } from '../ffi/constants.js';
import type { MemoryDescriptor } from '../ffi/dnnl.js';
import type { Primitive } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { eltwisePrimitive, eltwiseTrust } from './elementwise.js';
import { type UnaryOperation, unaryLoop } from './loops.js';
import { SMALL_COSTLY } from './tools.js';

export type RecurrentActivation = 'sigmoid' | 'hardSigmoid';

export interface CellAttrs {
  readonly recurrentActivation: RecurrentActivation;
}

interface ElementFunction {
  readonly alg: number;
  readonly operation: UnaryOperation;
}

export const TANH: ElementFunction = { alg: Alg.tanh, operation: (x) => Math.tanh(x) };
export const SIGMOID: ElementFunction = { alg: Alg.logistic, operation: (x) => 1 / (1 + Math.exp(-x)) };
const loops = new Map([TANH, SIGMOID].map(({ alg, operation }) => [alg, unaryLoop(operation)]));
const NONE = [0, 0] as const;

/** Applies a function to elements in place. */
export function apply(
  runtime: Runtime,
  { alg, operation }: ElementFunction,
  values: Float32Array,
  address: number,
): void {
  const layout = values.length >= SMALL_COSTLY ? runtime.rowMajor([values.length]) : null;
  const isExact = layout !== null && eltwiseTrust(runtime, alg, NONE, operation, NONE) === 'exact';
  const primitive = isExact ? eltwisePrimitive(runtime, alg, 0, 0, layout, 'recurrent_gates') : null;
  if (primitive) primitive.run(address, address);
  else runtime.host(() => loops.get(alg)?.(values, values, 0, 0), alg);
}

export function hardSigmoid(x: number): number {
  return Math.min(Math.max(0.5 + 0.2 * x, 0), 1);
}

/** Gradient through the recurrent activation, from its input and its result. */
export function throughGate(dy: number, isHard: boolean, x: number, y: number): number {
  if (!isHard) return dy * (y * (1 - y));
  // Inclusive, as TensorFlow.js' gradient of clipByValue is, which chooses: what is not finite does not pass where it is flat.
  const line = Math.fround(Math.fround(0.2 * x) + 0.5);
  return line >= 0 && line <= 1 ? dy * 0.2 : 0;
}

/**
 * Matrix [rows, columns] whose rows begin `stride` elements apart, because it is some columns of a wider matrix.
 * @param isTransposed describes the same memory as [columns, rows].
 */
export function matrix(
  runtime: Runtime,
  [rows, columns]: readonly [number, number],
  stride = columns,
  isTransposed = false,
): MemoryDescriptor {
  const dims = isTransposed ? [columns, rows] : [rows, columns];
  const strides = isTransposed ? [1, stride] : [stride, 1];
  // The stride along an axis of one element says nothing, but oneDNN 3.7 errs for one that is shorter than the row.
  if (dims[1] === 1) strides[1] = 1;
  if (dims[0] === 1) strides[0] = (dims[1] as number) * (strides[1] as number);
  return runtime.layout(`matrix ${dims} ${strides}`, () => runtime.dnnl.descriptor(dims, 'f32', { strides }));
}

/** c = a·b, or c += a·b. Run it with the addresses of a, b and c. */
export function product(
  runtime: Runtime,
  a: MemoryDescriptor,
  b: MemoryDescriptor,
  c: MemoryDescriptor,
  accumulate = false,
): Primitive {
  return runtime.compiled(`cell product ${a.id} ${b.id} ${c.id} ${accumulate}`, () => {
    const descriptor = runtime.dnnl.matmul(a, b, null, c, accumulate ? [{ kind: 'sum', scale: 1 }] : []);
    if (!descriptor) throw new Error(`oneDNN offers no matmul of [${a.dims}] and [${b.dims}].`);
    const args = [[Arg.src, a] as const, [Arg.weights, b] as const, [Arg.dst, c] as const];
    return runtime.primitive(descriptor, args, `matmul [${a.dims}] [${b.dims}]`);
  });
}
