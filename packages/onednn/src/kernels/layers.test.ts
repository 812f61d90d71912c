/** Pooling, matrix products, residual additions, ReLU and cross-entropy against TensorFlow.js' `cpu` kernels. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { assertClose, assertSameAsCpu, run, runOn, sample, toTensor } from '../testing/backend.js';

const poolGeometry = fc.record({
  shape: fc.tuple(
    fc.integer({ min: 1, max: 3 }),
    fc.integer({ min: 3, max: 9 }),
    fc.integer({ min: 3, max: 9 }),
    fc.constantFrom(1, 3, 16, 32),
  ),
  filter: fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 })),
  stride: fc.integer({ min: 1, max: 3 }),
  pad: fc.constantFrom('same' as const, 'valid' as const),
  blocked: fc.boolean(),
  seed: fc.integer(),
});

for (const [name, gradient] of [
  ['MaxPool', 'MaxPoolGrad'],
  ['AvgPool', 'AvgPoolGrad'],
] as const) {
  test(`${name} and its gradient equal the cpu kernels for any geometry`, async () => {
    await fc.assert(
      fc.asyncProperty(poolGeometry, async ({ shape, filter, stride, pad, blocked, seed }) => {
        const attrs = { filterSize: filter, strides: stride, pad };
        await assertSameAsCpu(() => {
          const plain = toTensor(sample(shape, seed)) as tf.Tensor4D;
          const identity = tf.reshape(tf.eye(shape[3]), [1, 1, shape[3], shape[3]]) as tf.Tensor4D;
          const x = blocked ? tf.conv2d(plain, identity, 1, 'same') : plain;
          const [y] = run(name, { x }, attrs);
          const dy = toTensor(sample(y!.shape, seed + 1));
          const inputs: Record<string, tf.Tensor> =
            name === 'MaxPool' ? { dy, input: x, output: y! } : { dy, input: x };
          return [y!, ...run(gradient, inputs, attrs)];
        });
      }),
      { numRuns: 80 },
    );
  });
}

test("MaxPoolGrad finds the maxima again when it is given somebody else's output", async () => {
  const attrs = { filterSize: [2, 2], strides: 2, pad: 'valid' };
  await assertSameAsCpu(() => {
    const x = toTensor(sample([1, 4, 4, 16], 3));
    const dy = toTensor(sample([1, 2, 2, 16], 4));
    const [y] = run('MaxPool', { x }, attrs);
    return run('MaxPoolGrad', { dy, input: x, output: tf.mul(y!, 1) }, attrs);
  });
});

test('matrix products with batches, transposes, bias and activation equal the cpu kernels', async () => {
  const size = fc.integer({ min: 1, max: 20 });
  await fc.assert(
    fc.asyncProperty(
      size,
      size,
      size,
      fc.constantFrom(0, 1, 3),
      fc.boolean(),
      fc.boolean(),
      fc.integer(),
      async (m, k, n, batch, transposeA, transposeB, seed) => {
        const lead = batch ? [batch] : [];
        await assertSameAsCpu(() => {
          const a = toTensor(sample([...lead, ...(transposeA ? [k, m] : [m, k])], seed));
          const b = toTensor(sample([...lead, ...(transposeB ? [n, k] : [k, n])], seed + 1));
          const product = tf.matMul(a, b, transposeA, transposeB);
          if (batch) return [product];
          const bias = toTensor(sample([n], seed + 2));
          const options = { a: a as tf.Tensor2D, b: b as tf.Tensor2D, transposeA, transposeB, bias };
          return [product, tf.fused.matMul({ ...options, activation: 'relu' }), tf.fused.matMul(options)];
        });
      },
    ),
    { numRuns: 80 },
  );
});

test('additions and ReLU, large and small, blocked or not, equal the cpu kernels', async () => {
  for (const shape of [
    [2, 3],
    [2, 8, 8, 16],
    [2, 9, 9, 32],
    [5, 11, 13, 3],
  ]) {
    for (const blocked of [false, true]) {
      if (blocked && shape.length !== 4) continue;
      const channels = shape.at(-1) as number;
      await assertSameAsCpu(() => {
        const identity = tf.reshape(tf.eye(channels), [1, 1, channels, channels]) as tf.Tensor4D;
        const plain = toTensor(sample(shape, 1));
        const a = blocked ? tf.conv2d(plain as tf.Tensor4D, identity, 1, 'same') : plain;
        const b = toTensor(sample(shape, 2));
        return [tf.add(a, b), tf.add(b, a), tf.relu(a), tf.relu(tf.reshape(a, [-1]))];
      });
      const [sum, gradient] = await runOn('onednn', () => {
        const identity = tf.reshape(tf.eye(channels), [1, 1, channels, channels]) as tf.Tensor4D;
        const plain = toTensor(sample(shape, 1));
        const a = blocked ? tf.conv2d(plain as tf.Tensor4D, identity, 1, 'same') : plain;
        const [y] = run('AddRelu', { a, b: toTensor(sample(shape, 2)) });
        return [y!, ...run('ReluGrad', { dy: toTensor(sample(shape, 3)), y: y! })];
      });
      const [x1, x2, dy] = [1, 2, 3].map((seed) => sample(shape, seed).values) as [
        Float32Array,
        Float32Array,
        Float32Array,
      ];
      assertClose(
        sum!.values,
        x1.map((v, i) => Math.max(0, v + x2[i]!)),
        1e-6,
        'AddRelu',
      );
      assertClose(
        gradient!.values,
        dy.map((v, i) => (x1[i]! + x2[i]! > 0 ? v : 0)),
        1e-6,
        'ReluGrad',
      );
    }
  }
});

test('softmax cross-entropy equals −log of the softmax, its gradient softmax minus one-hot', async () => {
  const labels = [3, 0, 9, 9];
  const logits = sample([4, 10], 11);
  const [loss, gradient] = await runOn('onednn', () =>
    run('SparseSoftmaxCrossEntropyWithLogits', {
      logits: tf.mul(toTensor(logits), 30),
      labels: tf.tensor1d(labels, 'int32'),
    }),
  );
  labels.forEach((label, row) => {
    const x = Array.from(logits.values.slice(row * 10, row * 10 + 10), (v) => Math.fround(v * 30));
    const sum = x.map((v) => Math.exp(v)).reduce((a, b) => a + b);
    assert.ok(Math.abs(loss!.values[row]! - (Math.log(sum) - x[label]!)) < 1e-4);
    x.forEach((v, c) => {
      const expected = Math.exp(v) / sum - (c === label ? 1 : 0);
      assert.ok(Math.abs(gradient!.values[row * 10 + c]! - expected) < 1e-6);
    });
  });
});

test('a label out of range is an error that names the example', async () => {
  await runOn('onednn', () => {
    assert.throws(
      () =>
        run('SparseSoftmaxCrossEntropyWithLogits', {
          logits: tf.zeros([2, 10]),
          labels: tf.tensor1d([1, 10], 'int32'),
        }),
      /label 10 of example 1/,
    );
    return [];
  });
});
