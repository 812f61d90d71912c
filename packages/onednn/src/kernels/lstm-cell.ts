/**
 * The gates of an LSTM step in one kernel, LSTMBlockCell, and one for their gradient, where TensorFlow.js runs about fifteen
 * forward and forty backward. The matrix products stay kernels of their own.
 *
 * z [n, 4u] holds the gates' inputs in Keras' order: input, forget, candidate, output. Gates are kept as [4, n, u], the three
 * sigmoids first, so that each kind of function runs over memory in one piece.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { isFloat, type Kernel, kernel } from './kernel.js';
import { apply, type CellAttrs, hardSigmoid, SIGMOID, TANH, throughGate } from './recurrent.js';
import { viewOf } from './tools.js';

/** The gates' inputs, each kind in one piece; hardSigmoid is applied. */
function arrange(input: Float32Array, g: Float32Array, n: number, units: number, isHard: boolean): void {
  const size = n * units;
  for (let row = 0; row < n; row++) {
    const to = row * units;
    const from = 4 * to;
    for (let k = 0; k < units; k++) {
      const i = input[from + k] as number;
      const f = input[from + units + k] as number;
      const o = input[from + 3 * units + k] as number;
      g[to + k] = isHard ? hardSigmoid(i) : i;
      g[size + to + k] = isHard ? hardSigmoid(f) : f;
      g[2 * size + to + k] = isHard ? hardSigmoid(o) : o;
      g[3 * size + to + k] = input[from + 2 * units + k] as number;
    }
  }
}

/** The next c, in two places: one becomes its tanh. */
function carryOn(g: Float32Array, old: Float32Array, carry: Float32Array, tanh: Float32Array, size: number): void {
  for (let k = 0; k < size; k++) {
    const value = (g[size + k] as number) * (old[k] as number) + (g[k] as number) * (g[3 * size + k] as number);
    carry[k] = value;
    tanh[k] = value;
  }
}

/** h: the output gate times tanh of the next c. */
function openOutput(g: Float32Array, tanh: Float32Array, output: Float32Array, size: number): void {
  for (let k = 0; k < size; k++) output[k] = (g[2 * size + k] as number) * (tanh[k] as number);
}

/** z [n, 4u], c [n, u] → h, the next c, and for the gradient the gates [4, n, u] and tanh of the next c. */
const cell = kernel<{ z: TensorInfo; c: TensorInfo }, CellAttrs>(
  'LSTMBlockCell',
  ({ inputs: { z, c }, attrs: { recurrentActivation }, backend }) => {
    if (!isFloat(z, c)) return null;
    const [n, units] = c.shape as [number, number];
    const size = n * units;
    const { runtime } = backend;
    const next = backend.allocate(c.shape);
    const h = backend.allocate(c.shape);
    const tanhNext = backend.allocate(c.shape);
    const gates = backend.allocate([4, n, units]);
    const input = viewOf(backend, z) as Float32Array;
    const old = viewOf(backend, c) as Float32Array;
    const g = viewOf(backend, gates) as Float32Array;
    const isHard = recurrentActivation === 'hardSigmoid';
    runtime.host(() => arrange(input, g, n, units, isHard), Number(isHard));
    const { address } = backend.storage(gates);
    if (!isHard) apply(runtime, SIGMOID, g.subarray(0, 3 * size), address);
    apply(runtime, TANH, g.subarray(3 * size), address + 12 * size);
    const carry = viewOf(backend, next) as Float32Array;
    const tanh = viewOf(backend, tanhNext) as Float32Array;
    runtime.host(() => carryOn(g, old, carry, tanh, size));
    apply(runtime, TANH, tanh, backend.storage(tanhNext).address);
    const output = viewOf(backend, h) as Float32Array;
    runtime.host(() => openOutput(g, tanh, output, size));
    return [h, next, gates, tanhNext];
  },
);

/** Gradients of z and of c. */
function goBack(
  gh: Float32Array,
  gc: Float32Array,
  x: Float32Array,
  old: Float32Array,
  g: Float32Array,
  t: Float32Array,
  gz: Float32Array,
  go: Float32Array,
  n: number,
  units: number,
  isHard: boolean,
): void {
  const size = n * units;
  for (let row = 0; row < n; row++) {
    for (let unit = 0; unit < units; unit++) {
      const k = row * units + unit;
      const at = 4 * row * units + unit;
      const i = g[k] as number;
      const f = g[size + k] as number;
      const o = g[2 * size + k] as number;
      const candidate = g[3 * size + k] as number;
      const th = t[k] as number;
      const up = gh[k] as number;
      const carry = (gc[k] as number) + up * o * (1 - th * th);
      gz[at] = throughGate(carry * candidate, isHard, x[at] as number, i);
      gz[at + units] = throughGate(carry * (old[k] as number), isHard, x[at + units] as number, f);
      gz[at + 2 * units] = carry * i * (1 - candidate * candidate);
      gz[at + 3 * units] = throughGate(up * th, isHard, x[at + 3 * units] as number, o);
      go[k] = carry * f;
    }
  }
}

/** Gradients of h and of the next c → those of z and of c. */
const cellGrad = kernel<
  { dh: TensorInfo; dc: TensorInfo; z: TensorInfo; c: TensorInfo; gates: TensorInfo; tanh: TensorInfo },
  CellAttrs
>('LSTMBlockCellGrad', ({ inputs, attrs: { recurrentActivation }, backend }) => {
  const { dh, dc, z, c, gates, tanh } = inputs;
  if (!isFloat(dh, dc, z, c, gates, tanh)) return null;
  const [n, units] = c.shape as [number, number];
  const { runtime } = backend;
  const dz = backend.allocate(z.shape);
  const dOld = backend.allocate(c.shape);
  const read = (tensor: TensorInfo) => viewOf(backend, tensor) as Float32Array;
  const [gh, gc, x, old, g, t] = [read(dh), read(dc), read(z), read(c), read(gates), read(tanh)];
  const gz = viewOf(backend, dz) as Float32Array;
  const go = viewOf(backend, dOld) as Float32Array;
  const isHard = recurrentActivation === 'hardSigmoid';
  runtime.host(() => goBack(gh, gc, x, old, g, t, gz, go, n, units, isHard), Number(isHard));
  return [dz, dOld];
});

export const lstmKernels: readonly Kernel[] = [cell, cellGrad];
