/**
 * Element-wise functions of one tensor (Relu, Sigmoid, Exp, ClipByValue, …) and the gradients that need the result alone
 * (EluGrad, SigmoidGrad, TanhGrad). They work in whatever layout the tensor has, and leave it there.
 *
 * Each is TensorFlow.js' own formula as a loop, and for large f32 tensors oneDNN's algorithm where that gives the same.
 */
import { type DataType, type NamedAttrMap, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg } from '../ffi/constants.js';
import { elementsInPlace, elementwiseView, eltwisePrimitive, eltwiseTrust, finiteness } from './elementwise.js';
import { isFloat, type Kernel, kernel } from './kernel.js';
import { binaryLoop, type UnaryLoop, type UnaryOperation, unaryLoop } from './loops.js';
import { SMALL, SMALL_COSTLY, viewOf } from './tools.js';

interface UnarySpec {
  readonly name: string;
  /** TensorFlow.js' formula. Refers to its arguments and `Math` only (see loops.ts). */
  readonly operation: UnaryOperation;
  /** The formula's p and q. Default 0, 0. */
  readonly parameters?: (attrs: NamedAttrMap) => readonly [number, number];
  /** oneDNN's algorithm for the same, and its alpha and beta. */
  readonly algorithm?: { readonly alg: number; readonly scales?: (p: number, q: number) => readonly [number, number] };
  /** Takes ten times as long as an addition. */
  readonly isCostly?: boolean;
  /** Takes int32 too, as `cpu` does: computed in f64, stored as an integer. */
  readonly takesIntegers?: boolean;
  /** Type of the result, if it is not the input's. */
  readonly dtype?: DataType;
  /** Makes no number of what is none, and none of a number. */
  readonly keepsFinite?: boolean;
}

const NONE: readonly [number, number] = [0, 0];

const specs: readonly UnarySpec[] = [
  {
    name: 'Relu',
    operation: (x) => Math.max(0, x),
    algorithm: { alg: Alg.relu },
    takesIntegers: true,
    keepsFinite: true,
  },
  {
    name: 'Relu6',
    operation: (x) => Math.min(Math.max(0, x), 6),
    algorithm: { alg: Alg.clip, scales: () => [0, 6] },
    takesIntegers: true,
    keepsFinite: true,
  },
  {
    name: 'LeakyRelu',
    operation: (x, alpha) => (x < 0 ? alpha * x : x),
    parameters: ({ alpha }) => [alpha as number, 0],
    algorithm: { alg: Alg.relu, scales: (alpha) => [alpha, 0] },
    dtype: 'float32',
  },
  {
    name: 'Elu',
    operation: (x) => (x >= 0 ? x : Math.exp(x) - 1),
    algorithm: { alg: Alg.elu, scales: () => [1, 0] },
    isCostly: true,
  },
  {
    name: 'Selu',
    operation: (x) => (x >= 0 ? 1.0507009873554805 * x : 1.7580993408473768 * (Math.exp(x) - 1)),
    isCostly: true,
  },
  {
    name: 'Sigmoid',
    operation: (x) => 1 / (1 + Math.exp(-x)),
    algorithm: { alg: Alg.logistic },
    isCostly: true,
  },
  { name: 'Tanh', operation: (x) => Math.tanh(x), algorithm: { alg: Alg.tanh }, isCostly: true },
  {
    name: 'Softplus',
    // The threshold is log(2⁻²³) + 2: beyond it one of the two terms is lost in rounding.
    operation: (x) => {
      const exp = Math.exp(x);
      if (x < -13.942385) return exp;
      return x > 13.942385 ? x : Math.log(1 + exp);
    },
    isCostly: true,
  },
  { name: 'Exp', operation: (x) => Math.exp(x), algorithm: { alg: Alg.exp }, isCostly: true },
  { name: 'Expm1', operation: (x) => Math.expm1(x), isCostly: true },
  { name: 'Log', operation: (x) => Math.log(x), algorithm: { alg: Alg.log }, isCostly: true },
  { name: 'Log1p', operation: (x) => Math.log1p(x), isCostly: true },
  { name: 'Sqrt', operation: (x) => Math.sqrt(x), algorithm: { alg: Alg.sqrt } },
  { name: 'Rsqrt', operation: (x) => 1 / Math.sqrt(x) },
  { name: 'Square', operation: (x) => x * x, algorithm: { alg: Alg.square } },
  { name: 'Abs', operation: (x) => Math.abs(x), algorithm: { alg: Alg.abs } },
  { name: 'Neg', operation: (x) => -1 * x, algorithm: { alg: Alg.linear, scales: () => [-1, 0] }, takesIntegers: true },
  { name: 'Reciprocal', operation: (x) => 1 / x },
  {
    name: 'Step',
    operation: (x, alpha) => (x > 0 ? 1 : x <= 0 ? alpha : x),
    parameters: ({ alpha }) => [alpha as number, 0],
    takesIntegers: true,
  },
  { name: 'Floor', operation: (x) => Math.floor(x), takesIntegers: true },
  { name: 'Ceil', operation: (x) => Math.ceil(x), takesIntegers: true },
  {
    name: 'Round',
    // Halves go to the even neighbour.
    operation: (x) => {
      const base = Math.floor(x);
      const rest = x - base;
      if (rest < 0.5) return base;
      if (rest > 0.5) return Math.ceil(x);
      return base % 2 === 0 ? base : base + 1;
    },
    algorithm: { alg: Alg.round },
    takesIntegers: true,
  },
  { name: 'Sign', operation: (x) => (x < 0 ? -1 : x > 0 ? 1 : 0), takesIntegers: true },
  {
    name: 'Erf',
    // Abramowitz & Stegun 7.1.26, as TensorFlow.js has it.
    operation: (x) => {
      const v = Math.abs(x);
      const t = 1 / (1 + 0.3275911 * v);
      const series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
      return Math.sign(x) * (1 - series * Math.exp(-v * v));
    },
    isCostly: true,
  },
  {
    name: 'ClipByValue',
    operation: (x, low, high) => Math.min(Math.max(x, low), high),
    parameters: ({ clipValueMin, clipValueMax }) => [clipValueMin as number, clipValueMax as number],
    algorithm: { alg: Alg.clip, scales: (low, high) => [low, high] },
    takesIntegers: true,
  },
  { name: 'Sin', operation: (x) => Math.sin(x), isCostly: true },
  { name: 'Cos', operation: (x) => Math.cos(x), isCostly: true },
  { name: 'IsNan', operation: (x) => (Number.isNaN(x) ? 1 : 0), dtype: 'bool' },
  { name: 'IsFinite', operation: (x) => (x - x === 0 ? 1 : 0), dtype: 'bool' },
];

/** TensorFlow.js' formulas, compiled. */
const loops = new Map(specs.map(({ name, operation }) => [name, unaryLoop(operation)]));

function unaryKernel(spec: UnarySpec): Kernel {
  const loop = loops.get(spec.name) as UnaryLoop;
  return kernel<{ x: TensorInfo }, NamedAttrMap>(spec.name, ({ inputs: { x }, attrs, backend }) => {
    const size = util.sizeFromShape(x.shape);
    const isInteger = x.dtype === 'int32' && spec.takesIntegers === true;
    if (size === 0 || !(x.dtype === 'float32' || isInteger)) return null;
    const [p, q] = spec.parameters?.(attrs) ?? NONE;
    if (x.dtype === 'float32' && spec.algorithm) {
      const y = primitive(backend, x, size, spec, p, q);
      if (y) return y;
    }
    return inLoop(backend, x, size, loop, p, q, spec.dtype ?? x.dtype);
  });
}

function primitive(
  backend: OneDnnBackend,
  x: TensorInfo,
  size: number,
  { name, operation, algorithm, isCostly, keepsFinite }: UnarySpec,
  p: number,
  q: number,
  isInPlace = false,
): TensorInfo | null {
  const { runtime } = backend;
  const storage = backend.storage(x);
  if (!algorithm || (storage.layout === null && size < (isCostly ? SMALL_COSTLY : SMALL))) return null;
  const { alg } = algorithm;
  const scales = algorithm.scales?.(p, q) ?? NONE;
  const trust = eltwiseTrust(runtime, alg, scales, operation, [p, q]);
  if (trust === 'none') return null;
  const { plain, current } = elementwiseView(backend, x);
  const compiled = eltwisePrimitive(runtime, alg, scales[0], scales[1], current, name.toLowerCase());
  if (!compiled) return null;
  const compute = (): [TensorInfo] => {
    const y = isInPlace ? x : backend.allocate(x.shape, 'float32', { plain, current });
    compiled.run(storage.address, backend.unresolved(y).address);
    return [y];
  };
  if (trust === 'exact') return compute()[0];
  const verdict = finiteness(backend, x);
  const loop = loops.get(name) as UnaryLoop;
  const [y] = backend.either(verdict, [x], compute, (input) => [inLoop(backend, input, size, loop, p, q, 'float32')]);
  if (keepsFinite) backend.unresolved(y).finite = verdict;
  return y;
}

/**
 * Applies a function to a tensor that nobody else has. The name is a kernel's.
 * @returns the result: the tensor itself, or another in its place.
 */
export function applyInPlace(backend: OneDnnBackend, x: TensorInfo, name: 'Relu' | 'Relu6'): TensorInfo {
  const spec = specs.find((candidate) => candidate.name === name) as UnarySpec;
  const size = util.sizeFromShape(x.shape);
  const result = primitive(backend, x, size, spec, 0, 0, true);
  if (result === x) return x;
  const y = result ?? inLoop(backend, x, size, loops.get(name) as UnaryLoop, 0, 0, 'float32');
  backend.disposeData(x.dataId, true);
  return y;
}

function inLoop(
  backend: OneDnnBackend,
  x: TensorInfo,
  size: number,
  loop: UnaryLoop,
  p: number,
  q: number,
  dtype: DataType,
): TensorInfo {
  const storage = backend.storage(x);
  const inPlace = dtype === 'float32' && storage.layout !== null ? elementsInPlace(storage, size) : null;
  if (inPlace === null) {
    const y = backend.allocate(x.shape, dtype);
    const values = viewOf(backend, x);
    const output = viewOf(backend, y);
    backend.runtime.host(() => loop(values, output, p, q), p, q);
    return y;
  }
  const { plain, current } = elementwiseView(backend, x);
  const y = backend.allocate(x.shape, 'float32', { plain, current });
  const [values, output] = [elementsInPlace(storage, size) as Float32Array, backend.unresolved(y).native(size)];
  backend.runtime.host(() => loop(values, output, p, q), p, q);
  return y;
}

/** dx from dy and the function's result y, in one pass. */
function gradientKernel(name: string, operation: (dy: number, y: number) => number): Kernel {
  const loop = binaryLoop(operation);
  return kernel<{ dy: TensorInfo; y: TensorInfo }, object>(name, ({ inputs: { dy, y }, backend }) => {
    if (!isFloat(dy, y) || !util.arraysEqual(dy.shape, y.shape)) return null;
    const dx = backend.allocate(y.shape);
    const gradient = viewOf(backend, dy);
    const values = viewOf(backend, y);
    const output = viewOf(backend, dx);
    backend.runtime.host(() => loop(gradient, values, output, null));
    return dx;
  });
}

export const unaryKernels: readonly Kernel[] = [
  ...specs.map(unaryKernel),
  gradientKernel('EluGrad', (dy, y) => (y >= 0 ? dy : dy * (y + 1))),
  gradientKernel('SigmoidGrad', (dy, y) => dy * (y * (1 - y))),
  gradientKernel('TanhGrad', (dy, y) => (1 - y * y) * dy),
];
