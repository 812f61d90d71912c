/**
 * A step of a simple recurrent layer in one kernel, SimpleRNNBlockCell, and one for its gradient, products with the recurrent
 * weights included: next h = tanh(x + h·U), where x [n, u] is the input's share, bias included, and U is [u, u].
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { isFloat, type Kernel, kernel } from './kernel.js';
import type { TypedValues } from './loops.js';
import { apply, matrix, product, TANH } from './recurrent.js';
import { viewOf } from './tools.js';

/** x [n, u], h [n, u], recurrent weights [u, u] → next h. */
const cell = kernel<{ x: TensorInfo; h: TensorInfo; kernel: TensorInfo }, object>(
  'SimpleRNNBlockCell',
  ({ inputs: { x, h, kernel: weights }, backend }) => {
    if (!isFloat(x, h, weights)) return null;
    const [n, units] = h.shape as [number, number];
    const { runtime } = backend;
    const next = backend.allocate([n, units]);
    const [values, input] = [viewOf(backend, next) as Float32Array, viewOf(backend, x)];
    runtime.host(() => values.set(input));
    const [old, recurrent] = [backend.storage(h), backend.storage(weights)];
    old.makePlain();
    recurrent.makePlain();
    const { address } = backend.storage(next);
    const rows = matrix(runtime, [n, units]);
    product(runtime, rows, matrix(runtime, [units, units]), rows, true).run(old.address, recurrent.address, address);
    apply(runtime, TANH, values, address);
    return next;
  },
);

/** Gradient of x. */
function goBack(up: TypedValues, result: TypedValues, gx: TypedValues, size: number): void {
  for (let k = 0; k < size; k++) {
    const t = result[k] as number;
    gx[k] = (up[k] as number) * (1 - t * t);
  }
}

/** Gradient of the next h → those of x, of h and of the recurrent weights. */
const cellGrad = kernel<{ dy: TensorInfo; y: TensorInfo; h: TensorInfo; kernel: TensorInfo }, object>(
  'SimpleRNNBlockCellGrad',
  ({ inputs: { dy, y, h, kernel: weights }, backend }) => {
    if (!isFloat(dy, y, h, weights)) return null;
    const [n, units] = h.shape as [number, number];
    const { runtime } = backend;
    const dx = backend.allocate([n, units]);
    const dOld = backend.allocate([n, units]);
    const dWeights = backend.allocate([units, units]);
    const [up, result, gx] = [viewOf(backend, dy), viewOf(backend, y), viewOf(backend, dx)];
    runtime.host(() => goBack(up, result, gx, n * units));
    const [old, recurrent] = [backend.storage(h), backend.storage(weights)];
    old.makePlain();
    recurrent.makePlain();
    const at = backend.storage(dx).address;
    const rows = matrix(runtime, [n, units]);
    const square = matrix(runtime, [units, units]);
    const turned = matrix(runtime, [units, units], units, true);
    product(runtime, rows, turned, rows).run(at, recurrent.address, backend.storage(dOld).address);
    product(runtime, matrix(runtime, [n, units], units, true), rows, square).run(
      old.address,
      at,
      backend.storage(dWeights).address,
    );
    return [dx, dOld, dWeights];
  },
);

export const simpleRnnKernels: readonly Kernel[] = [cell, cellGrad];
