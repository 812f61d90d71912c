/** Batch normalization against its definition in plain TensorFlow.js operations on `cpu`, and against finite differences. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { assertClose, assertSameAsCpu, run, runOn, sample, toTensor } from '../testing/backend.js';

const EPSILON = 1e-3;
const shapes = fc
  .tuple(
    fc.integer({ min: 1, max: 4 }),
    fc.integer({ min: 1, max: 6 }),
    fc.integer({ min: 1, max: 6 }),
    fc.constantFrom(1, 3, 8, 16, 32),
  )
  .filter(([n, h, w]) => n * h * w > 1);

function reference(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, activation: string): tf.Tensor[] {
  const axes = x.shape.slice(0, -1).map((_, axis) => axis);
  const { mean, variance } = tf.moments(x, axes);
  const normal = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, EPSILON)));
  const y = tf.add(tf.mul(normal, scale), offset);
  return [activation === 'relu' ? tf.relu(y) : y, mean, variance];
}

for (const activation of ['linear', 'relu']) {
  test(`FusedBatchNormV3 and its gradient (${activation}) equal the definition on any shape`, async () => {
    await fc.assert(
      fc.asyncProperty(shapes, fc.integer(), fc.boolean(), fc.boolean(), async (shape, seed, throughBlocks, isRead) => {
        const channels = shape[3];
        const inputs = () => ({
          x: toTensor(sample(shape, seed)),
          scale: toTensor(sample([channels], seed + 1)),
          offset: toTensor(sample([channels], seed + 2)),
          dy: toTensor(sample(shape, seed + 3)),
        });
        const [before] = await runOn('cpu', () => reference(inputs().x, inputs().scale, inputs().offset, 'linear'));
        // Where ReLU's input is zero but for rounding, its slope is either of two.
        fc.pre(activation === 'linear' || before!.values.every((value) => Math.abs(value) > 1e-6));
        const expected = await runOn('cpu', () => {
          const { x, scale, offset, dy } = inputs();
          const f = (a: tf.Tensor, b: tf.Tensor, c: tf.Tensor) => reference(a, b, c, activation)[0] as tf.Tensor;
          return [...reference(x, scale, offset, activation), ...tf.grads(f)([x, scale, offset], dy)];
        });
        const actual = await runOn('onednn', () => {
          const { x: plain, scale, offset, dy } = inputs();
          // A 1×1 identity convolution leaves its result in blocks, so the blocked primitives are tested as well.
          const identity = tf.reshape(tf.eye(channels), [1, 1, channels, channels]) as tf.Tensor4D;
          const x = throughBlocks ? tf.conv2d(plain as tf.Tensor4D, identity, 1, 'same') : plain;
          const [y, mean, variance] = run(
            'FusedBatchNormV3',
            { x, scale, offset },
            { epsilon: EPSILON, activation },
          ) as [tf.Tensor, tf.Tensor, tf.Tensor];
          // Whoever looks at x in between gives it another order; ReLU's bits keep theirs.
          if (isRead) x.dataSync();
          const gradients = run(
            'FusedBatchNormGradV3',
            { dy, x, scale, y, mean, variance },
            { epsilon: EPSILON, activation },
          );
          return [y, mean, variance, ...gradients];
        });
        actual.forEach((result, i) => {
          assert.deepEqual(result.shape, expected[i]!.shape);
          assertClose(result.values, expected[i]!.values, 1e-4, `output ${i} of ${shape}`);
        });
      }),
      { numRuns: 60 },
    );
  });
}

test('the gradient of batch norm with ReLU agrees with finite differences', async () => {
  const shape = [2, 3, 3, 16];
  const x = sample(shape, 5);
  const weights = sample(shape, 6);
  const scale = sample([16], 7);
  const offset = sample([16], 8);
  const attrs = { epsilon: EPSILON, activation: 'relu' };
  // The definition in f64, so that differences are exact to many digits.
  const loss = (values: ArrayLike<number>): number => {
    let sum = 0;
    for (let c = 0; c < 16; c++) {
      const column = Array.from({ length: 18 }, (_, i) => values[i * 16 + c] as number);
      const mean = column.reduce((a, b) => a + b) / 18;
      const variance = column.reduce((a, b) => a + (b - mean) ** 2, 0) / 18;
      column.forEach((v, i) => {
        const y = ((v - mean) / Math.sqrt(variance + EPSILON)) * scale.values[c]! + offset.values[c]!;
        sum += Math.max(0, y) * weights.values[i * 16 + c]!;
      });
    }
    return sum;
  };
  const [dx] = await runOn('onednn', () => {
    const inputs = { x: toTensor(x), scale: toTensor(scale), offset: toTensor(offset) };
    const [y, mean, variance] = run('FusedBatchNormV3', inputs, attrs) as [tf.Tensor, tf.Tensor, tf.Tensor];
    return run('FusedBatchNormGradV3', { ...inputs, dy: toTensor(weights), y, mean, variance }, attrs);
  });
  const values = Float64Array.from(x.values);
  const step = 1e-5;
  const expected = Array.from(values, (value, i) => {
    values[i] = value + step;
    const above = loss(values);
    values[i] = value - step;
    const below = loss(values);
    values[i] = value;
    return (above - below) / (2 * step);
  });
  assertClose(dx!.values, expected, 2e-4, 'dx');
});

test("the ReLU gradient without the forward pass's output is an error, not a guess", async () => {
  await runOn('onednn', () => {
    const x = toTensor(sample([2, 2, 2, 16], 1));
    const channel = toTensor(sample([16], 2));
    assert.throws(
      () =>
        run(
          'FusedBatchNormGradV3',
          { dy: x, x, scale: channel, y: x, mean: channel, variance: tf.square(channel) },
          { epsilon: EPSILON, activation: 'relu' },
        ),
      /needs the very y/,
    );
    return [];
  });
});

test('inference normalizes with given statistics like the cpu kernel', async () => {
  for (const channels of [3, 16]) {
    await assertSameAsCpu(() => {
      const x = toTensor(sample([2, 4, 5, channels], 1)) as tf.Tensor4D;
      const [mean, scale, offset] = [2, 3, 4].map((seed) => toTensor(sample([channels], seed)) as tf.Tensor1D);
      const variance = tf.add(tf.square(toTensor(sample([channels], 5))), 0.1) as tf.Tensor1D;
      return [
        tf.batchNorm4d(x, mean!, variance, offset, scale, EPSILON),
        tf.batchNorm4d(x, mean!, variance, undefined, undefined, EPSILON),
      ];
    });
  }
});
