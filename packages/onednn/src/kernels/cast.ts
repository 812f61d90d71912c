/**
 * Cast, and tensors of one value (Fill, ZerosLike, OnesLike), in pooled memory.
 *
 * TensorFlow.js' `cpu` kernel only relabels integers as floats, which leaves an Int32Array behind a float32 tensor; native
 * code reads bytes, so here the values are converted. To int32 it fills an array through an iterator, and to bool it
 * computes the index of a broadcast for every element; here both are loops.
 */
import { type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { kernel } from './kernel.js';
import { unaryLoop } from './loops.js';
import { isNumeric, viewOf } from './tools.js';

const toNumber = unaryLoop((x) => x);
const toBool = unaryLoop((x) => (x !== 0 ? 1 : 0));

const cast = kernel<{ x: TensorInfo }, { dtype: DataType }>('Cast', ({ inputs: { x }, attrs: { dtype }, backend }) => {
  if (isNumeric(x) && x.dtype === dtype) {
    backend.incRef(x.dataId);
    return { dataId: x.dataId, shape: x.shape, dtype };
  }
  if (!isNumeric(x) || util.sizeFromShape(x.shape) === 0) return null;
  // What `cpu` does about bool to int32 is right, and free.
  const isFree = x.dtype === 'bool' && dtype === 'int32';
  if (isFree || (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool')) return null;
  const y = backend.allocate(x.shape, dtype);
  const [values, output] = [viewOf(backend, x), viewOf(backend, y)];
  backend.runtime.host(() => (dtype === 'bool' ? toBool : toNumber)(values, output, 0, 0));
  return y;
});

function filled(backend: OneDnnBackend, shape: number[], dtype: DataType, value: number): TensorInfo | null {
  if ((dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool') || util.sizeFromShape(shape) === 0) return null;
  const y = backend.allocate(shape, dtype);
  const output = viewOf(backend, y);
  backend.runtime.host(() => output.fill(value), value);
  return y;
}

const fill = kernel<object, { shape: number[]; value: number | string | boolean; dtype?: DataType }>(
  'Fill',
  ({ attrs: { shape, value, dtype }, backend }) =>
    typeof value === 'string' ? null : filled(backend, shape, dtype ?? util.inferDtype(value), Number(value)),
);

const zerosLike = kernel<{ x: TensorInfo }, object>('ZerosLike', ({ inputs: { x }, backend }) =>
  filled(backend, x.shape, x.dtype, 0),
);

const onesLike = kernel<{ x: TensorInfo }, object>('OnesLike', ({ inputs: { x }, backend }) =>
  filled(backend, x.shape, x.dtype, 1),
);

export const castKernels = [cast, fill, zerosLike, onesLike];
