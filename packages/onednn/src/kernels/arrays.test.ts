/** Kernels that move elements, and reductions, against TensorFlow.js' `cpu` kernels: any shape, axes, type and value. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import type { OneDnnBackend } from '../backend.js';
import { assertClose, run, runOn, type Sample, sample } from '../testing/backend.js';
import { assertGradientIsSlope, assertKernelSameAsCpu, blocked, flavors, random } from './testing/kernels.js';

const dtypes = fc.constantFrom<tf.NumericDataType>('float32', 'float32', 'int32', 'bool');
/** Small shapes of any rank, and large ones. */
const shapes = fc.oneof(
  fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 6 }),
  fc.array(fc.integer({ min: 6, max: 10 }), { minLength: 4, maxLength: 4 }),
  fc.tuple(fc.integer({ min: 40, max: 70 }), fc.integer({ min: 60, max: 90 })),
);
const choices = fc.array(fc.nat(1000), { minLength: 6, maxLength: 6 });

/** A permutation of the axes from random numbers. */
const permutation = (rank: number, numbers: readonly number[]): number[] =>
  Array.from({ length: rank }, (_, axis) => axis).sort((a, b) => (numbers[a] ?? 0) - (numbers[b] ?? 0) || a - b);

test('transpose, slice, strided slice, pad, tile and reverse equal cpu', async () => {
  await fc.assert(
    fc.asyncProperty(shapes, dtypes, flavors, choices, fc.integer(), async (shape, dtype, flavor, numbers, seed) => {
      const at = (axis: number) => numbers[axis] as number;
      const begin = shape.map((size, axis) => at(axis) % size);
      const size = shape.map((whole, axis) => 1 + ((at(axis) >> 3) % (whole - (begin[axis] as number))));
      const steps = shape.map((_, axis) => [1, 2, 3, -1, -2][at(axis) % 5] as number);
      const from = shape.map((whole, axis) => ((steps[axis] as number) > 0 ? 0 : whole - 1));
      const to = shape.map((whole, axis) => ((steps[axis] as number) > 0 ? whole : -whole - 1));
      const reps = shape.map((_, axis) => 1 + (at(axis) % 2));
      await assertKernelSameAsCpu(
        () => {
          const x = random(shape, seed, dtype, flavor);
          // In pooled memory, which a tensor from values is not.
          const pooled = dtype === 'float32' ? tf.mul(x, 1) : x;
          const results = [
            tf.transpose(x, permutation(shape.length, numbers)),
            tf.slice(x, begin, size),
            tf.slice(pooled, begin, size),
            tf.stridedSlice(pooled, from, to, steps),
            tf.reverse(
              x,
              shape.flatMap((_, axis) => (at(axis) % 2 ? [axis] : [])),
            ),
            tf.pad(
              pooled,
              shape.map((_, axis) => [at(axis) % 3, (at(axis) >> 2) % 3] as [number, number]),
              seed % 2,
            ),
          ];
          return shape.length <= 5 ? [...results, tf.tile(pooled, reps)] : results;
        },
        0,
        `[${shape}] ${dtype} ${numbers}`,
      );
    }),
    { numRuns: 120 },
  );
});

test('every second column of an odd number of columns, which oneDNN cannot describe', async () => {
  await assertKernelSameAsCpu(
    () => [tf.stridedSlice(tf.mul(random([46, 89], 1), 1), [0, 0], [46, 89], [1, 2])],
    0,
    'stride 2 of 89 columns',
  );
});

test('concat, stack, unstack and split equal cpu', async () => {
  await fc.assert(
    fc.asyncProperty(
      shapes,
      dtypes,
      fc.nat(5),
      fc.integer({ min: 2, max: 4 }),
      fc.integer(),
      async (shape, dtype, which, count, seed) => {
        const axis = which % shape.length;
        await assertKernelSameAsCpu(
          () => {
            const parts = Array.from({ length: count }, (_, i) =>
              random(
                shape.map((size, a) => (a === axis ? size + i : size)),
                seed + i,
                dtype,
              ),
            );
            const same = Array.from({ length: count }, (_, i) => random(shape, seed + i, dtype));
            const joined = tf.concat(parts, axis);
            const stacked = tf.stack(same, axis);
            return [joined, stacked, ...tf.unstack(stacked, axis)].concat(
              tf.split(
                joined,
                parts.map((x) => x.shape[axis] as number),
                axis,
              ),
            );
          },
          0,
          `[${shape}] axis ${axis}`,
        );
      },
    ),
    { numRuns: 80 },
  );
});

test('concatenating and splitting channels keeps channel blocks', async () => {
  const compute = () => {
    const a = blocked(random([2, 5, 6, 32], 1));
    const b = blocked(random([2, 5, 6, 16], 2));
    const joined = tf.concat([a, b, a], 3);
    return [joined, ...tf.split(joined, [48, 16, 16], 3), ...tf.split(tf.mul(joined, 2), [10, 70], 3)];
  };
  await assertKernelSameAsCpu(compute, 1e-6, 'channels');
  await runOn('onednn', () => {
    const backend = tf.backend() as OneDnnBackend;
    const [joined, first] = compute() as [tf.Tensor, tf.Tensor];
    for (const y of [joined, first]) assert.ok(backend.storage(y.dataId).layout, `[${y.shape}] gave up the layout`);
    return [];
  });
});

test('every reduction equals cpu over any axes', async () => {
  const names = ['Max', 'Min', 'Prod'];
  await fc.assert(
    fc.asyncProperty(
      shapes,
      choices,
      fc.boolean(),
      fc.constantFrom<tf.NumericDataType>('float32', 'float32', 'int32'),
      flavors,
      fc.integer(),
      async (shape, numbers, keepDims, dtype, flavor, seed) => {
        const axes = shape.flatMap((_, axis) => ((numbers[axis] as number) % 2 ? [axis] : []));
        const axis = (numbers[0] as number) % shape.length;
        await assertKernelSameAsCpu(
          () => {
            const x = random(shape, seed, dtype, flavor);
            // Products of many integers overflow differently in every order of magnitude: near ±1 they do not.
            const near = dtype === 'float32' ? tf.add(tf.mul(x, 0.01), 1) : tf.sign(x);
            const bool = random(shape, seed, 'bool');
            const results = names.flatMap((name) =>
              run(name, { x: name === 'Prod' ? near : x }, { axis: axes, reductionIndices: axes, keepDims }),
            );
            const truth = [tf.all(bool, axes, keepDims), tf.any(bool, axes, keepDims), tf.sum(bool, axes, keepDims)];
            return [...results, ...truth, tf.argMax(x, axis), tf.argMin(x, axis)];
          },
          2e-6,
          `[${shape}] over [${axes}] ${dtype} ${flavor}`,
        );
        // Rounding is relative to the sum of magnitudes, of which a sum that cancels may be a small part.
        const size = shape.reduce((product, dim) => product * dim, 1);
        await assertKernelSameAsCpu(
          () => {
            const x = random(shape, seed, dtype, flavor);
            return ['Sum', 'Mean'].flatMap((name) => run(name, { x }, { axis: axes, keepDims }));
          },
          1e-6 * Math.max(4, size / 50),
          `sums of [${shape}] over [${axes}] ${dtype} ${flavor}`,
        );
      },
    ),
    { numRuns: 150 },
  );
});

test('a special value anywhere in a large reduction comes out as on cpu', async () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3e38]) {
    for (const axes of [[0], [1], [0, 1]]) {
      await assertKernelSameAsCpu(
        () => {
          const { values } = sample([70, 90], 3);
          for (const at of [4321, 4400, 17]) values[at] = value;
          values[4322] = -value;
          const x = tf.tensor(values, [70, 90]);
          return ['Sum', 'Mean', 'Max', 'Min'].flatMap((name) =>
            run(name, { x }, { axis: axes, reductionIndices: axes, keepDims: false }),
          );
        },
        1e-6,
        `${value} over ${axes}`,
      );
    }
  }
});

test('sums of a blocked tensor equal cpu, and leave it blocked where the channels stay', async () => {
  for (const axes of [[0, 1, 2], [0, 1, 2, 3], [1, 2], [3], [0], [0, 3]]) {
    await assertKernelSameAsCpu(
      () => {
        const x = blocked(random([3, 9, 7, 32], 5));
        return [tf.sum(x, axes), tf.mean(x, axes, true), tf.max(x, axes)];
      },
      2e-6,
      `blocked over ${axes}`,
    );
  }
  await runOn('onednn', () => {
    const x = blocked(random([3, 9, 7, 32], 5));
    tf.sum(x, [0, 1, 2]);
    assert.ok((tf.backend() as OneDnnBackend).storage(x.dataId).layout);
    return [];
  });
});

test('long sums are as exact as f64 accumulation leaves them', async () => {
  const { values } = sample([300_001], 5);
  const shifted = Float32Array.from(values, (v) => v + 1.5);
  const expected = shifted.reduce((sum, v) => sum + v, 0);
  const [total, mean] = await runOn('onednn', () => {
    const x = tf.tensor(shifted);
    return [tf.sum(x), tf.mean(x)];
  });
  assert.ok(Math.abs((total as Sample).values[0]! / expected - 1) < 2e-7);
  assert.ok(Math.abs(((mean as Sample).values[0]! * 300_001) / expected - 1) < 2e-7);
});

test('softmax and log-softmax equal cpu for any shape and value', async () => {
  await fc.assert(
    fc.asyncProperty(shapes, flavors, fc.integer(), async (shape, flavor, seed) => {
      await assertKernelSameAsCpu(
        () => {
          const x = random(shape, seed, 'float32', flavor);
          return [tf.softmax(x), tf.logSoftmax(x)];
        },
        3e-6,
        `[${shape}] ${flavor}`,
      );
      // No operation of TensorFlow.js calls the kernel LogSoftmax; whoever does gets what tf.logSoftmax computes.
      const [actual, expected] = await runOn('onednn', () => {
        const logits = random(shape, seed, 'float32', 'plain');
        return [...run('LogSoftmax', { logits }, { axis: -1 }), tf.logSoftmax(logits)];
      });
      assertClose(actual!.values, expected!.values, 3e-6, 'LogSoftmax');
    }),
    { numRuns: 60 },
  );
});

test('gradients of what moves and reduces are slopes', async () => {
  const functions: Record<string, (x: tf.Tensor) => tf.Tensor> = {
    sum: (x) => tf.sum(x, 0),
    mean: (x) => tf.mean(x, 1),
    max: (x) => tf.max(x, 1),
    softmax: tf.softmax,
    logSoftmax: (x) => tf.logSoftmax(x),
    transpose: (x) => tf.transpose(x),
    slice: (x) => tf.slice(x, [1, 2], [3, 4]),
    stridedSlice: (x) => tf.slice(x, [0, 1], [4, 5]),
    pad: (x) =>
      tf.pad(x, [
        [1, 2],
        [0, 3],
      ]),
    tile: (x) => tf.tile(x, [2, 3]),
    reverse: (x) => tf.reverse(x, 1),
    concat: (x) => tf.concat([x, tf.mul(x, 2)], 1),
    stack: (x) => tf.stack([x, x], 1),
    split: (x) => tf.add(...(tf.split(x, 2, 1) as [tf.Tensor, tf.Tensor])),
    unstack: (x) => tf.unstack(x, 0)[2] as tf.Tensor,
  };
  for (const [name, f] of Object.entries(functions)) {
    for (const shape of [
      [5, 8],
      [60, 80],
    ])
      await assertGradientIsSlope(f, [sample(shape, 21)], name, 4e-3);
  }
});
