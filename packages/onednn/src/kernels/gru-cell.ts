/**
 * A step of a GRU in one kernel, GRUBlockCell, and one for its gradient, products with the recurrent weights included: the
 * reset gate stands between two of them. TensorFlow.js runs about twenty kernels forward and fifty backward.
 *
 * z = σ(x_z + h·R_z), r = σ(x_r + h·R_r), candidate = tanh(x_h + (r∘h)·R_h), next h = z∘h + (1 − z)∘candidate.
 *
 * x [n, 3u] is the input's share, bias included, in Keras' order: update z, reset r, candidate; the recurrent weights R [u, 3u]
 * have the same order. Gates are kept as [3, n, u], each in one piece; with hardSigmoid as [5, n, u], the inputs of z and r
 * after them, because its slope at the ends cannot be told from its result.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { isFloat, type Kernel, kernel } from './kernel.js';
import { apply, type CellAttrs, hardSigmoid, matrix, product, SIGMOID, TANH, throughGate } from './recurrent.js';
import { viewOf } from './tools.js';

const BYTES = 4;

/** Runs `use` with the addresses and elements of temporary matrices [n, u]. */
function withTemporary(
  backend: OneDnnBackend,
  shape: [number, number],
  use: (address: number, values: Float32Array) => void,
): void {
  const temporary = backend.allocate(shape);
  use(backend.storage(temporary).address, viewOf(backend, temporary) as Float32Array);
  backend.disposeData(temporary.dataId as object);
}

/** The inputs of z and r, each in one piece; hardSigmoid is applied. */
function arrange(
  input: Float32Array,
  inner: Float32Array,
  g: Float32Array,
  n: number,
  units: number,
  isHard: boolean,
): void {
  const size = n * units;
  const wide = 3 * units;
  for (let row = 0; row < n; row++) {
    for (let unit = 0; unit < units; unit++) {
      const k = row * units + unit;
      const update = Math.fround((input[row * wide + unit] as number) + (inner[2 * row * units + unit] as number));
      const reset = Math.fround(
        (input[row * wide + units + unit] as number) + (inner[(2 * row + 1) * units + unit] as number),
      );
      g[k] = isHard ? hardSigmoid(update) : update;
      g[size + k] = isHard ? hardSigmoid(reset) : reset;
      if (isHard) {
        g[3 * size + k] = update;
        g[4 * size + k] = reset;
      }
    }
  }
}

/** r∘h. */
function reset(g: Float32Array, old: Float32Array, resetOld: Float32Array, size: number): void {
  for (let k = 0; k < size; k++) resetOld[k] = (g[size + k] as number) * (old[k] as number);
}

/** Adds the input's share to the candidate's. */
function addInput(candidate: Float32Array, input: Float32Array, n: number, units: number): void {
  const wide = 3 * units;
  for (let row = 0; row < n; row++) {
    for (let unit = 0; unit < units; unit++) {
      (candidate[row * units + unit] as number) += input[row * wide + 2 * units + unit] as number;
    }
  }
}

/** The next h: z∘h + (1 − z)∘candidate. */
function blend(g: Float32Array, old: Float32Array, candidate: Float32Array, output: Float32Array, size: number): void {
  for (let k = 0; k < size; k++) {
    const z = g[k] as number;
    output[k] = z * (old[k] as number) + (1 - z) * (candidate[k] as number);
  }
}

/** x [n, 3u], h [n, u], recurrent weights [u, 3u] → next h, and the gates for the gradient. */
const cell = kernel<{ x: TensorInfo; h: TensorInfo; kernel: TensorInfo }, CellAttrs>(
  'GRUBlockCell',
  ({ inputs: { x, h, kernel: weights }, attrs: { recurrentActivation }, backend }) => {
    if (!isFloat(x, h, weights)) return null;
    const [n, units] = h.shape as [number, number];
    const size = n * units;
    const wide = 3 * units;
    const { runtime } = backend;
    const isHard = recurrentActivation === 'hardSigmoid';
    const next = backend.allocate([n, units]);
    const gates = backend.allocate([isHard ? 5 : 3, n, units]);
    const input = viewOf(backend, x) as Float32Array;
    const old = viewOf(backend, h) as Float32Array;
    const recurrent = backend.storage(weights);
    recurrent.makePlain();
    const g = viewOf(backend, gates) as Float32Array;
    const { address } = backend.storage(gates);

    withTemporary(backend, [n, 2 * units], (at, inner) => {
      const [left, right] = [matrix(runtime, [n, units]), matrix(runtime, [units, 2 * units], wide)];
      product(runtime, left, right, matrix(runtime, [n, 2 * units])).run(
        backend.storage(h).address,
        recurrent.address,
        at,
      );
      runtime.host(() => arrange(input, inner, g, n, units, isHard), Number(isHard));
    });
    if (!isHard) apply(runtime, SIGMOID, g.subarray(0, 2 * size), address);

    withTemporary(backend, [n, units], (at, resetOld) => {
      runtime.host(() => reset(g, old, resetOld, size));
      const [left, right] = [matrix(runtime, [n, units]), matrix(runtime, [units, units], wide)];
      product(runtime, left, right, left).run(at, recurrent.address + BYTES * 2 * units, address + BYTES * 2 * size);
    });
    const candidate = g.subarray(2 * size, 3 * size);
    runtime.host(() => addInput(candidate, input, n, units));
    apply(runtime, TANH, candidate, address + BYTES * 2 * size);
    const output = viewOf(backend, next) as Float32Array;
    runtime.host(() => blend(g, old, candidate, output, size));
    return [next, gates];
  },
);

/** Gradients that do not pass the reset gate, and r∘h. */
function goBack(
  up: Float32Array,
  old: Float32Array,
  g: Float32Array,
  gx: Float32Array,
  go: Float32Array,
  resetOld: Float32Array,
  n: number,
  units: number,
  isHard: boolean,
): void {
  const size = n * units;
  const wide = 3 * units;
  for (let row = 0; row < n; row++) {
    for (let unit = 0; unit < units; unit++) {
      const k = row * units + unit;
      const z = g[k] as number;
      const candidate = g[2 * size + k] as number;
      const dy = up[k] as number;
      const before = isHard ? (g[3 * size + k] as number) : 0;
      gx[row * wide + unit] = throughGate(dy * ((old[k] as number) - candidate), isHard, before, z);
      gx[row * wide + 2 * units + unit] = dy * (1 - z) * (1 - candidate * candidate);
      go[k] = dy * z;
      resetOld[k] = (g[size + k] as number) * (old[k] as number);
    }
  }
}

/** Gradients of r's input and of h, from that of r∘h, which `resetOld` holds by now. */
function goBackThroughReset(
  resetOld: Float32Array,
  old: Float32Array,
  g: Float32Array,
  gx: Float32Array,
  go: Float32Array,
  n: number,
  units: number,
  isHard: boolean,
): void {
  const size = n * units;
  const wide = 3 * units;
  for (let row = 0; row < n; row++) {
    for (let unit = 0; unit < units; unit++) {
      const k = row * units + unit;
      const r = g[size + k] as number;
      const before = isHard ? (g[4 * size + k] as number) : 0;
      const dy = resetOld[k] as number;
      gx[row * wide + units + unit] = throughGate(dy * (old[k] as number), isHard, before, r);
      (go[k] as number) += dy * r;
    }
  }
}

/** Gradient of the next h → those of x, of h and of the recurrent weights. */
const cellGrad = kernel<{ dh: TensorInfo; h: TensorInfo; kernel: TensorInfo; gates: TensorInfo }, CellAttrs>(
  'GRUBlockCellGrad',
  ({ inputs: { dh, h, kernel: weights, gates }, attrs: { recurrentActivation }, backend }) => {
    if (!isFloat(dh, h, weights, gates)) return null;
    const [n, units] = h.shape as [number, number];
    const wide = 3 * units;
    const { runtime } = backend;
    const isHard = recurrentActivation === 'hardSigmoid';
    const dx = backend.allocate([n, wide]);
    const dOld = backend.allocate([n, units]);
    const dWeights = backend.allocate([units, wide]);
    const read = (tensor: TensorInfo) => viewOf(backend, tensor) as Float32Array;
    const [up, old, g] = [read(dh), read(h), read(gates)];
    const recurrent = backend.storage(weights);
    recurrent.makePlain();
    const gx = viewOf(backend, dx) as Float32Array;
    const go = viewOf(backend, dOld) as Float32Array;
    const [atX, atOld, atWeights, atH] = [dx, dOld, dWeights, h].map((tensor) => backend.storage(tensor).address) as [
      number,
      number,
      number,
      number,
    ];
    const third = BYTES * 2 * units;
    const narrow = matrix(runtime, [n, units]);
    const turned = matrix(runtime, [n, units], units, true);
    const [dxGates, dxCandidate] = [matrix(runtime, [n, 2 * units], wide), matrix(runtime, [n, units], wide)];

    withTemporary(backend, [n, units], (atReset, resetOld) => {
      runtime.host(() => goBack(up, old, g, gx, go, resetOld, n, units, isHard), Number(isHard));
      const weightsCandidate = matrix(runtime, [units, units], wide);
      product(runtime, turned, dxCandidate, weightsCandidate).run(atReset, atX + third, atWeights + third);
      // The same memory, now for the gradient of r∘h.
      const weightsTurned = matrix(runtime, [units, units], wide, true);
      product(runtime, dxCandidate, weightsTurned, narrow).run(atX + third, recurrent.address + third, atReset);
      runtime.host(() => goBackThroughReset(resetOld, old, g, gx, go, n, units, isHard), Number(isHard));
    });
    const gatesTurned = matrix(runtime, [units, 2 * units], wide, true);
    product(runtime, dxGates, gatesTurned, narrow, true).run(atX, recurrent.address, atOld);
    product(runtime, turned, dxGates, matrix(runtime, [units, 2 * units], wide)).run(atH, atX, atWeights);
    return [dx, dOld, dWeights];
  },
);

export const gruKernels: readonly Kernel[] = [cell, cellGrad];
