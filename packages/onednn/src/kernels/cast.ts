/**
 * Cast of integers and booleans to float32. TensorFlow.js' `cpu` kernel only relabels the data, which leaves an Int32Array
 * behind a float32 tensor; native code reads bytes, so here the values are converted.
 */
import { type DataType, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { kernel } from './kernel.js';

const cast = kernel<{ x: TensorInfo }, { dtype: DataType }>('Cast', ({ inputs: { x }, attrs, backend }) => {
  if (attrs.dtype !== 'float32' || (x.dtype !== 'int32' && x.dtype !== 'bool')) return null;
  if (util.sizeFromShape(x.shape) === 0) return null;
  const y = backend.allocate(x.shape);
  (backend.storage(y).peek() as Float32Array).set(backend.storage(x).peek() as Int32Array);
  return y;
});

export const castKernels = [cast];
