/** Gathering, segment sums, one-hot and resizing against TensorFlow.js' `cpu` kernels, and their gradients. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { assertClose, run, runOn, sample } from '../testing/backend.js';
import { assertGradientIsSlope, assertKernelSameAsCpu, random } from './testing/kernels.js';

const indicesBelow = (limit: number, count: number, seed: number): Int32Array =>
  Int32Array.from(sample([count], seed).values, (v) => Math.min(limit - 1, Math.floor(((v + 1) / 2) * limit)));

test('gather equals cpu along any axis, with batches', async () => {
  const shapes = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 });
  const dtypes = fc.constantFrom<tf.NumericDataType>('float32', 'int32', 'bool');
  await fc.assert(
    fc.asyncProperty(
      shapes,
      dtypes,
      fc.nat(3),
      fc.boolean(),
      fc.integer(),
      async (shape, dtype, which, isWide, seed) => {
        const whole = isWide ? [...shape, 70] : shape;
        const axis = which % shape.length;
        await assertKernelSameAsCpu(
          () => {
            const x = random(whole, seed, dtype);
            const limit = whole[axis] as number;
            const flat = tf.tensor1d(indicesBelow(limit, 5, seed), 'int32');
            const table = tf.tensor2d(indicesBelow(limit, 6, seed + 1), [2, 3], 'int32');
            const results = [tf.gather(x, flat, axis), tf.gather(x, table, axis)];
            if (axis === 0) return results;
            const lead = whole[0] as number;
            const batched = tf.tensor2d(indicesBelow(limit, lead * 2, seed + 2), [lead, 2], 'int32');
            return [...results, tf.gather(x, batched, axis, 1)];
          },
          0,
          `[${whole}] axis ${axis}`,
        );
      },
    ),
    { numRuns: 60 },
  );
});

test("an index out of range is cpu's error", async () => {
  await runOn('onednn', () => {
    const x = tf.zeros([3, 2]);
    assert.throws(() => tf.gather(x, tf.tensor1d([0, 3], 'int32')), /index value 3 is not in \[0, 2\]/);
    return [];
  });
});

test('segment sums and one-hot equal cpu', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 30 }),
      fc.integer({ min: 2, max: 9 }),
      fc.integer(),
      async (count, segments, seed) => {
        await assertKernelSameAsCpu(
          () => {
            // Some numbers are out of range on either side.
            const ids = tf.tensor1d(
              indicesBelow(segments + 3, count, seed).map((i) => i - 1),
              'int32',
            );
            return [
              tf.unsortedSegmentSum(random([count, 4, 3], seed), ids, segments),
              tf.unsortedSegmentSum(random([count], seed), ids, segments),
              tf.oneHot(ids, segments),
              tf.oneHot(ids, segments, 0.5, -2, 'float32'),
            ];
          },
          1e-6,
          `${count} in ${segments}`,
        );
      },
    ),
    { numRuns: 60 },
  );
});

// Of an image with one row or column, aligned at the corners, `cpu` never finishes the nearest neighbours' gradient.
const sizes = fc.integer({ min: 2, max: 9 });

test('resizing equals cpu for any sizes and conventions', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(fc.integer({ min: 1, max: 3 }), sizes, sizes, fc.integer({ min: 1, max: 5 })),
      sizes,
      sizes,
      fc.constantFrom([false, false], [true, false], [false, true]),
      fc.integer(),
      async (shape, height, width, conventions, seed) => {
        const [alignCorners, halfPixelCenters] = conventions as [boolean, boolean];
        await assertKernelSameAsCpu(
          () => {
            const x = random(shape, seed) as tf.Tensor4D;
            const size: [number, number] = [height, width];
            return [
              tf.image.resizeBilinear(x, size, alignCorners, halfPixelCenters),
              tf.image.resizeNearestNeighbor(x, size, alignCorners, halfPixelCenters),
            ];
          },
          1e-6,
          `[${shape}] to ${height}×${width}`,
        );
        // `cpu` gives the bilinear gradient a shape with height and width mixed up, and reads the nearest neighbours' gradient
        // of every example but the first from the wrong place. So: one example, and its own shape.
        const one = [1, ...shape.slice(1)];
        for (const name of ['ResizeBilinearGrad', 'ResizeNearestNeighborGrad']) {
          const gradient = () => {
            const dy = random([1, height, width, shape[3]], seed + 1);
            return run(name, { images: random(one, seed), dy }, { alignCorners });
          };
          const [expected] = await runOn('cpu', gradient);
          const [actual] = await runOn('onednn', gradient);
          assert.deepEqual(actual?.shape, one);
          assertClose(actual!.values, expected!.values, 1e-6, name);
        }
      },
    ),
    { numRuns: 80 },
  );
});

test('gradients of gather and resizing are slopes', async () => {
  const at = Int32Array.from([3, 1, 1, 4]);
  await assertGradientIsSlope((x) => tf.gather(x, tf.tensor1d(at, 'int32')), [sample([5, 6], 3)], 'gather');
  await assertGradientIsSlope(
    (x) => tf.gather(x, tf.tensor1d(at, 'int32'), 1),
    [sample([4, 5, 2], 3)],
    'gather axis 1',
  );
  const images = sample([2, 4, 6, 3], 5);
  for (const size of [
    [8, 12],
    [3, 5],
  ] as [number, number][]) {
    const bilinear = (x: tf.Tensor) => tf.image.resizeBilinear(x as tf.Tensor4D, size);
    const nearest = (x: tf.Tensor) => tf.image.resizeNearestNeighbor(x as tf.Tensor4D, size);
    await assertGradientIsSlope(bilinear, [images], `bilinear ${size}`);
    await assertGradientIsSlope(nearest, [images], `nearest ${size}`);
  }
});
