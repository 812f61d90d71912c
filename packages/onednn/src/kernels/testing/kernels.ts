/** Test support: random tensors for kernels that must equal `cpu`'s for any shape, type and value. Not part of the package. */
import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { assertClose, runOn, type Sample, sample } from '../../testing/backend.js';

/** What breaks formulas: no numbers, infinities, zeros, ends of the range, halves. */
const SPECIAL = [
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  0,
  -0,
  3e38,
  -3e38,
  1e-40,
  0.5,
  -1.5,
  2.5,
];

/** What the values look like. */
export type Flavor = 'plain' | 'special' | 'wide';

/** A tensor of a dtype; 'special' has a few special values, 'wide' spreads over ±100. */
export function random(shape: number[], seed: number, dtype: tf.NumericDataType = 'float32', flavor: Flavor = 'plain') {
  const { values } = sample(shape, seed);
  const wide = flavor === 'wide' ? 100 : 3;
  if (dtype === 'int32')
    return tf.tensor(
      Int32Array.from(values, (v) => Math.trunc(v * wide * 5)),
      shape,
      'int32',
    );
  if (dtype === 'bool')
    return tf.tensor(
      Uint8Array.from(values, (v) => (v > 0 ? 1 : 0)),
      shape,
      'bool',
    );
  const floats = Float32Array.from(values, (v) => v * wide);
  if (flavor === 'special') {
    for (let i = 0; i < floats.length; i += 1 + Math.abs((seed * 7 + i * 13) % 11)) {
      floats[i] = SPECIAL[Math.abs(seed + i) % SPECIAL.length] as number;
    }
  }
  return tf.tensor(floats, shape, 'float32');
}

export const flavors = fc.constantFrom<Flavor>('plain', 'plain', 'special', 'wide');

/** Shapes of rank 0 to 5, small and now and then large enough for a primitive. */
export const shapes = fc.oneof(
  fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 0, maxLength: 5 }),
  fc.array(fc.integer({ min: 5, max: 9 }), { minLength: 4, maxLength: 4 }),
  fc.tuple(fc.integer({ min: 50, max: 100 }), fc.integer({ min: 60, max: 90 })),
);

/** The same tensor in oneDNN's blocks of channels: an identity convolution leaves it there. `cpu` computes the identity. */
export function blocked(x: tf.Tensor): tf.Tensor {
  const channels = x.shape.at(-1) as number;
  const identity = tf.reshape(tf.eye(channels), [1, 1, channels, channels]) as tf.Tensor4D;
  return tf.conv2d(x as tf.Tensor4D, identity, 1, 'same');
}

/** As assertSameAsCpu, and the dtypes agree too. Several tensors, any of them integers. */
export async function assertKernelSameAsCpu(
  compute: () => tf.Tensor[],
  tolerance: number,
  what: string,
): Promise<void> {
  const dtypes: string[][] = [];
  const tracked = () => {
    const results = compute();
    dtypes.push(results.map(({ dtype }) => dtype));
    return results;
  };
  const expected = await runOn('cpu', tracked);
  const actual = await runOn('onednn', tracked);
  assert.deepEqual(dtypes[1], dtypes[0], `${what}: dtypes`);
  assert.deepEqual(
    actual.map((r) => r.shape),
    expected.map((r) => r.shape),
    `${what}: shapes`,
  );
  actual.forEach((result, i) => {
    assertClose(result.values, (expected[i] as Sample).values, tolerance, `${what} output ${i}`);
  });
}

/**
 * Asserts that the gradient of Σ f(x)·w on 'onednn' is the slope that f itself shows, by central differences on a few
 * elements. f32 limits the agreement to about three digits.
 */
export async function assertGradientIsSlope(
  f: (...inputs: tf.Tensor[]) => tf.Tensor,
  inputs: readonly Sample[],
  what: string,
  step = 1e-2,
): Promise<void> {
  await runOn('onednn', () => {
    const tensors = inputs.map(({ values, shape }) => tf.tensor(values, shape));
    const weights = random(f(...tensors).shape, 77);
    const scalarized = (...x: tf.Tensor[]) => tf.sum(tf.mul(f(...x), weights)) as tf.Scalar;
    const gradients = tf.grads(scalarized)([...tensors]);
    const base = weights.dataSync();
    const at = (which: number, element: number, delta: number): number => {
      const moved = inputs.map(({ values, shape }, i) => {
        const copy = Float32Array.from(values);
        if (i === which) copy[element] = (copy[element] as number) + delta;
        return tf.tensor(copy, shape);
      });
      // Summed in f64: the sum's own rounding would hide the slope.
      const values = f(...moved).dataSync() as Float32Array;
      return values.reduce((sum, value, i) => sum + value * (base[i] as number), 0);
    };
    gradients.forEach((gradient, which) => {
      const actual = gradient.dataSync();
      const count = actual.length;
      for (let i = 0; i < Math.min(count, 6); i++) {
        const element = (i * 37) % count;
        const slope = (at(which, element, step) - at(which, element, -step)) / (2 * step);
        const error = Math.abs(slope - (actual[element] as number));
        assert.ok(
          error <= 2e-2 * Math.max(1, Math.abs(slope)),
          `${what}: gradient of input ${which} at ${element} is ${actual[element]}, slope ${slope}`,
        );
      }
    });
    return [];
  });
}
