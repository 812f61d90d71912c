/**
 * One optimizer step of one variable in one kernel, under the names of TensorFlow's operations (ResourceApplyAdam, …).
 *
 * Variables and their slots are changed in place, so they must be exclusive (see optimizers.ts, which calls these). Small
 * variables take one loop, rounded to f32 after every operation as TensorFlow.js' composition of kernels is: the weights are
 * the same to the bit. Large ones take a few oneDNN primitives, piece by piece so that a piece stays in the cache; those
 * multiply and add in one rounding, so weights may differ in the last bit.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { Alg, Arg } from '../ffi/constants.js';
import type { PostOp } from '../ffi/dnnl.js';
import type { Primitive } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { isFloat, type Kernel, kernel } from './kernel.js';
import { fastPrimitive, optional } from './tools.js';

/** Elements from which primitives are faster than the loop. */
const LARGE = 8192;
/** Elements of a piece: with four to six arrays, what a core's cache holds. */
const PIECE = 131_072;

const f32 = Math.fround;
const SQRT: PostOp = { kind: 'eltwise', alg: Alg.sqrt, alpha: 0, beta: 0 };
const linear = (alpha: number, beta: number): PostOp => ({ kind: 'eltwise', alg: Alg.linear, alpha, beta });
const keep = (scale: number): PostOp => ({ kind: 'sum', scale });

/** A binary primitive over the elements of a piece, with what follows on its result. null where oneDNN has no fast code. */
function binary(runtime: Runtime, alg: number, count: number, isScalar: boolean, postOps: readonly PostOp[]) {
  const key = `step ${alg} ${count} ${isScalar} ${JSON.stringify(postOps)}`;
  return optional(runtime, key, () => {
    const whole = runtime.rowMajor([count]);
    const second = isScalar ? runtime.rowMajor([1]) : whole;
    const descriptor = runtime.dnnl.binary(alg, whole, second, whole, postOps);
    const args = [[Arg.src, whole] as const, [Arg.src1, second] as const, [Arg.dst, whole] as const];
    return fastPrimitive(runtime, descriptor, args, `optimizer_step [${count}]`);
  });
}

/**
 * Runs `step` on every piece, with the byte offset of its elements and the primitives that `make` made for their number.
 * @returns false, and nothing has run, if a primitive is missing.
 */
function inPieces<const P extends readonly (Primitive | null)[]>(
  size: number,
  make: (count: number) => P,
  step: (offset: number, primitives: { [K in keyof P]: Primitive }) => void,
): boolean {
  const rest = size % PIECE;
  const whole = size >= PIECE ? make(PIECE) : null;
  const last = rest > 0 ? make(rest) : null;
  if (whole?.includes(null) || last?.includes(null)) return false;
  for (let start = 0; start < size; start += PIECE) {
    step(4 * start, (size - start >= PIECE ? whole : last) as unknown as { [K in keyof P]: Primitive });
  }
  return true;
}

/** Numbers that primitives read, at addresses: each lies in a cache line of its own. */
function withScalars<const V extends readonly number[], T>(
  runtime: Runtime,
  values: V,
  use: (...addresses: { [K in keyof V]: number }) => T,
): T {
  const buffer = runtime.pool.acquire(64 * values.length);
  const view = new Float32Array(buffer.memory, buffer.byteOffset, 16 * values.length);
  const write = () => {
    for (let i = 0; i < values.length; i++) view[16 * i] = values[i] as number;
  };
  runtime.host(write, ...values);
  try {
    return use(...(values.map((_, i) => buffer.address + 64 * i) as unknown as { [K in keyof V]: number }));
  } finally {
    runtime.pool.release(buffer);
  }
}

/** Memory for the intermediate results of a piece. */
function withScratch<T>(runtime: Runtime, size: number, use: (address: number) => T): T {
  const buffer = runtime.pool.acquire(4 * Math.min(size, PIECE));
  try {
    return use(buffer.address);
  } finally {
    runtime.pool.release(buffer);
  }
}

type Slots = 'var' | 'grad' | 'accum' | 'm' | 'v' | 'ms' | 'mg' | 'mom';
type Inputs<S extends Slots> = Record<S, TensorInfo>;

/** Registers a step: a loop for any size, and primitives that may decline (false) for large ones. */
function stepKernel<S extends Slots, A>(
  name: string,
  slots: readonly S[],
  loop: (values: Record<S, Float32Array>, attrs: A) => void,
  primitives: (addresses: Record<S, number>, attrs: A, runtime: Runtime, size: number) => boolean,
): Kernel {
  return kernel<Inputs<S>, A>(name, ({ inputs, attrs, backend }) => {
    const tensors = slots.map((slot) => inputs[slot]);
    if (!isFloat(...tensors)) return null;
    const size = util.sizeFromShape((tensors[0] as TensorInfo).shape);
    const values = Object.fromEntries(slots.map((slot) => [slot, plain(backend, inputs[slot])]));
    if (size >= LARGE) {
      const addresses = Object.fromEntries(slots.map((slot) => [slot, backend.storage(inputs[slot]).address]));
      if (primitives(addresses as Record<S, number>, attrs, backend.runtime, size)) return [];
    }
    backend.runtime.host(() => loop(values as Record<S, Float32Array>, attrs), JSON.stringify(attrs));
    return [];
  });
}

function plain(backend: OneDnnBackend, tensor: TensorInfo): Float32Array {
  return backend.storage(tensor).view() as Float32Array;
}

/** w ← w + c·g, c = −rate. */
const gradientDescent = stepKernel<'var' | 'grad', { c: number }>(
  'ResourceApplyGradientDescent',
  ['var', 'grad'],
  ({ var: w, grad: g }, attrs) => {
    const c = f32(attrs.c);
    for (let i = 0; i < w.length; i++) w[i] = f32(c * g[i]!) + w[i]!;
  },
  ({ var: w, grad: g }, { c }, runtime, size) =>
    withScalars(runtime, [c], (rate) =>
      inPieces(
        size,
        (n) => [binary(runtime, Alg.mul, n, true, [keep(1)])],
        (at, [axpy]) => axpy.run(g + at, rate, w + at),
      ),
    ),
);

/** a ← µ·a + g;  w ← w + c·a, or w + c·(g + µ·a) with Nesterov. */
const momentum = stepKernel<'var' | 'accum' | 'grad', { c: number; momentum: number; useNesterov: boolean }>(
  'ResourceApplyMomentum',
  ['var', 'accum', 'grad'],
  ({ var: w, accum: a, grad: g }, attrs) => {
    const c = f32(attrs.c);
    const mu = f32(attrs.momentum);
    if (attrs.useNesterov) {
      for (let i = 0; i < w.length; i++) {
        const next = f32(f32(mu * a[i]!) + g[i]!);
        a[i] = next;
        w[i] = f32(c * f32(g[i]! + f32(next * mu))) + w[i]!;
      }
    } else {
      for (let i = 0; i < w.length; i++) {
        const next = f32(f32(mu * a[i]!) + g[i]!);
        a[i] = next;
        w[i] = f32(c * next) + w[i]!;
      }
    }
  },
  ({ var: w, accum: a, grad: g }, { c, momentum: mu, useNesterov }, runtime, size) =>
    withScalars(runtime, [1, c, c * mu], (one, rate, ahead) =>
      inPieces(
        size,
        (n) => [binary(runtime, Alg.mul, n, true, [keep(mu)]), binary(runtime, Alg.mul, n, true, [keep(1)])],
        (at, [accumulate, axpy]) => {
          accumulate.run(g + at, one, a + at);
          if (useNesterov) {
            axpy.run(g + at, rate, w + at);
            axpy.run(a + at, ahead, w + at);
          } else axpy.run(a + at, rate, w + at);
        },
      ),
    ),
);

interface AdamAttrs {
  readonly rate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** 1 − β₁ᵗ and 1 − β₂ᵗ. */
  readonly correction1: number;
  readonly correction2: number;
}

/** m ← β₁m + (1 − β₁)g;  v ← β₂v + (1 − β₂)g²;  w ← w − rate·m̂ / (√v̂ + ε). Kingma & Ba, arXiv:1412.6980. */
const adam = stepKernel<'var' | 'm' | 'v' | 'grad', AdamAttrs>(
  'ResourceApplyAdam',
  ['var', 'm', 'v', 'grad'],
  ({ var: w, m, v, grad: g }, attrs) => {
    const [b1, b2, epsilon, rate] = [f32(attrs.beta1), f32(attrs.beta2), f32(attrs.epsilon), f32(-attrs.rate)];
    const [rest1, rest2] = [f32(1 - attrs.beta1), f32(1 - attrs.beta2)];
    const [c1, c2] = [f32(attrs.correction1), f32(attrs.correction2)];
    for (let i = 0; i < w.length; i++) {
      const gradient = g[i]!;
      const first = f32(f32(m[i]! * b1) + f32(gradient * rest1));
      const second = f32(f32(v[i]! * b2) + f32(f32(gradient * gradient) * rest2));
      m[i] = first;
      v[i] = second;
      const scale = f32(f32(Math.sqrt(f32(second / c2))) + epsilon);
      w[i] = f32(f32(f32(first / c1) / scale) * rate) + w[i]!;
    }
  },
  ({ var: w, m, v, grad: g }, { rate, beta1, beta2, epsilon, correction1, correction2 }, runtime, size) =>
    withScalars(runtime, [1 - beta1, 1 / correction2, -rate / correction1], (rest1, unbias2, step) =>
      withScratch(runtime, size, (t) =>
        inPieces(
          size,
          (n) => [
            binary(runtime, Alg.mul, n, true, [keep(beta1)]),
            binary(runtime, Alg.mul, n, false, [linear(1 - beta2, 0), keep(beta2)]),
            binary(runtime, Alg.mul, n, true, [SQRT, linear(1, epsilon)]),
            binary(runtime, Alg.div, n, false, []),
            binary(runtime, Alg.mul, n, true, [keep(1)]),
          ],
          (at, [first, second, root, ratio, axpy]) => {
            first.run(g + at, rest1, m + at);
            second.run(g + at, g + at, v + at);
            root.run(v + at, unbias2, t);
            ratio.run(m + at, t, t);
            axpy.run(t, step, w + at);
          },
        ),
      ),
    ),
);

interface RmsPropAttrs {
  readonly rate: number;
  readonly decay: number;
  readonly momentum: number;
  readonly epsilon: number;
}

/** s ← ρs + (1 − ρ)g²;  n ← µn + rate·g / √(s + ε);  w ← w − n. */
const rmsProp = stepKernel<'var' | 'ms' | 'mom' | 'grad', RmsPropAttrs>(
  'ResourceApplyRMSProp',
  ['var', 'ms', 'mom', 'grad'],
  ({ var: w, ms, mom, grad: g }, attrs) => {
    const [decay, rest, mu] = [f32(attrs.decay), f32(1 - attrs.decay), f32(attrs.momentum)];
    const [epsilon, rate] = [f32(attrs.epsilon), f32(attrs.rate)];
    for (let i = 0; i < w.length; i++) {
      const gradient = g[i]!;
      const square = f32(f32(ms[i]! * decay) + f32(f32(gradient * gradient) * rest));
      ms[i] = square;
      const scaled = f32(f32(gradient * rate) / f32(Math.sqrt(f32(square + epsilon))));
      const next = f32(f32(mom[i]! * mu) + scaled);
      mom[i] = next;
      w[i] = w[i]! - next;
    }
  },
  ({ var: w, ms, mom, grad: g }, { rate, decay, momentum: mu, epsilon }, runtime, size) =>
    withScalars(runtime, [1, rate, -1], (one, by, minus) =>
      withScratch(runtime, size, (t) =>
        inPieces(
          size,
          (n) => [
            binary(runtime, Alg.mul, n, false, [linear(1 - decay, 0), keep(decay)]),
            binary(runtime, Alg.mul, n, true, [linear(1, epsilon), SQRT]),
            binary(runtime, Alg.div, n, false, []),
            binary(runtime, Alg.mul, n, true, [keep(mu)]),
            binary(runtime, Alg.mul, n, true, [keep(1)]),
          ],
          (at, [square, root, ratio, move, axpy]) => {
            square.run(g + at, g + at, ms + at);
            root.run(ms + at, one, t);
            ratio.run(g + at, t, t);
            move.run(t, by, mom + at);
            axpy.run(mom + at, minus, w + at);
          },
        ),
      ),
    ),
);

/** As RMSProp, with the variance (s − ḡ²) in the place of s. */
const centeredRmsProp = stepKernel<'var' | 'mg' | 'ms' | 'mom' | 'grad', RmsPropAttrs>(
  'ResourceApplyCenteredRMSProp',
  ['var', 'mg', 'ms', 'mom', 'grad'],
  ({ var: w, mg, ms, mom, grad: g }, attrs) => {
    const [decay, rest, mu] = [f32(attrs.decay), f32(1 - attrs.decay), f32(attrs.momentum)];
    const [epsilon, rate] = [f32(attrs.epsilon), f32(attrs.rate)];
    for (let i = 0; i < w.length; i++) {
      const gradient = g[i]!;
      const square = f32(f32(ms[i]! * decay) + f32(f32(gradient * gradient) * rest));
      const mean = f32(f32(mg[i]! * decay) + f32(gradient * rest));
      ms[i] = square;
      mg[i] = mean;
      const variance = f32(square - f32(f32(mean * mean) + epsilon));
      const next = f32(f32(mom[i]! * mu) + f32(f32(gradient * rate) / f32(Math.sqrt(variance))));
      mom[i] = next;
      w[i] = w[i]! - next;
    }
  },
  // A difference of nearly equal numbers: rounding in another order could make it negative. The loop is what is right.
  () => false,
);

/** a ← a + g²;  w ← w − rate·g / √(a + ε). */
const adagrad = stepKernel<'var' | 'accum' | 'grad', { rate: number; epsilon: number }>(
  'ResourceApplyAdagrad',
  ['var', 'accum', 'grad'],
  ({ var: w, accum: a, grad: g }, attrs) => {
    const [epsilon, rate] = [f32(attrs.epsilon), f32(-attrs.rate)];
    for (let i = 0; i < w.length; i++) {
      const gradient = g[i]!;
      const next = f32(a[i]! + f32(gradient * gradient));
      a[i] = next;
      w[i] = f32(f32(gradient / f32(Math.sqrt(f32(next + epsilon)))) * rate) + w[i]!;
    }
  },
  ({ var: w, accum: a, grad: g }, { rate, epsilon }, runtime, size) =>
    withScalars(runtime, [1, -rate], (one, by) =>
      withScratch(runtime, size, (t) =>
        inPieces(
          size,
          (n) => [
            binary(runtime, Alg.mul, n, false, [keep(1)]),
            binary(runtime, Alg.mul, n, true, [linear(1, epsilon), SQRT]),
            binary(runtime, Alg.div, n, false, []),
            binary(runtime, Alg.mul, n, true, [keep(1)]),
          ],
          (at, [square, root, ratio, axpy]) => {
            square.run(g + at, g + at, a + at);
            root.run(a + at, one, t);
            ratio.run(g + at, t, t);
            axpy.run(t, by, w + at);
          },
        ),
      ),
    ),
);

export const optimizerKernels: readonly Kernel[] = [gradientDescent, momentum, adam, rmsProp, centeredRmsProp, adagrad];
