/** A row of `lockstep bench kernels`, and the numbers that its inputs have. */
import * as tf from '@tensorflow/tfjs-core';

/** Makes inputs and returns what is timed; everything it makes is disposed afterwards. */
export type Prepare = () => () => unknown;

export interface KernelRow {
  /** Kernel of TensorFlow.js, or what a user calls with the kernels in brackets. */
  readonly name: string;
  readonly family: string;
  readonly small: { readonly what: string; readonly prepare: Prepare };
  readonly large: { readonly what: string; readonly prepare: Prepare };
}

/** Numbers in (−1, 1); integers 0, 1, … below `limit`, again and again. */
export function numbers(shape: number[], dtype: 'float32' | 'int32' | 'bool' = 'float32', limit = 0): tf.Tensor {
  const size = shape.reduce((product, dim) => product * dim, 1);
  const at = (i: number) => Math.sin(i * 12.9898) * 0.999;
  if (dtype === 'int32')
    return tf.tensor(
      Int32Array.from({ length: size }, (_, i) => i % limit),
      shape,
      dtype,
    );
  if (dtype === 'bool')
    return tf.tensor(
      Uint8Array.from({ length: size }, (_, i) => (at(i) > 0 ? 1 : 0)),
      shape,
      dtype,
    );
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => at(i)),
    shape,
    dtype,
  );
}
