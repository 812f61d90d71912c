/** A long run stays where it is: memory of ten thousand steps, and caches under shapes that change with every step. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { layers, sequential } from '@tensorflow/tfjs-layers';
import { OneDnnBackend } from './backend.js';
import { BACKEND_NAME } from './kernels/kernel.js';
import { sample, toTensor } from './testing/backend.js';

test('ten thousand training steps of a small model: no tensor more, no memory more', async () => {
  await tf.setBackend(BACKEND_NAME);
  const { pool } = (tf.backend() as OneDnnBackend).runtime;
  const optimizer = tf.train.adam(1e-3);
  const [w1, w2] = [tf.variable(toTensor(sample([8, 16], 1))), tf.variable(toTensor(sample([16, 4], 2)))];
  const bias = tf.variable(tf.zeros([16]));
  const x = toTensor(sample([32, 8], 3));
  const y = tf.oneHot(
    tf.tensor1d(
      Array.from({ length: 32 }, (_, i) => i % 4),
      'int32',
    ),
    4,
  );
  const loss = () => {
    const hidden = tf.relu(tf.add(tf.matMul(x, w1 as tf.Tensor), bias));
    return tf.losses.softmaxCrossEntropy(y, tf.matMul(hidden, w2 as tf.Tensor)) as tf.Scalar;
  };
  const step = () => tf.tidy(() => void optimizer.minimize(loss));
  const first = tf.tidy(() => loss().dataSync()[0] as number);
  for (let i = 0; i < 500; i++) step();
  const tensors = tf.memory().numTensors;
  const { bytesInUse, allocations, peakBytes } = pool.statistics();
  for (let i = 0; i < 9500; i++) step();
  const after = pool.statistics();
  assert.equal(tf.memory().numTensors, tensors);
  assert.equal(after.bytesInUse, bytesInUse, 'bytes in use');
  assert.ok(after.peakBytes <= peakBytes + 65_536, `peak ${peakBytes} became ${after.peakBytes}`);
  // What a `cpu` kernel was handed leaves the pool; none is on this path.
  assert.ok(after.allocations - allocations <= 16, `${after.allocations - allocations} new buffers`);
  assert.ok(tf.tidy(() => loss().dataSync()[0] as number) < first, 'it has learned');
});

test('shapes that change with every step fill the caches to their bounds and no further', async () => {
  const capacity = 64;
  tf.registerBackend('bounded', () => new OneDnnBackend({ cacheCapacity: capacity, maxFreeBytes: 2 ** 22 }));
  tf.copyRegisteredKernels(BACKEND_NAME, 'bounded');
  await tf.setBackend('bounded');
  const { runtime } = tf.backend() as OneDnnBackend;
  const expected = (n: number) => {
    let total = 0;
    for (let i = 0; i < n * 48; i++) total += Math.max(0, ((i % 7) - 3) * 2);
    return total;
  };
  for (let step = 0; step < 400; step++) {
    const n = 50 + step;
    const actual = tf.tidy(() => {
      const x = tf.tensor2d(
        Float32Array.from({ length: n * 48 }, (_, i) => (i % 7) - 3),
        [n, 48],
      );
      const doubled = tf.add(tf.relu(x), tf.relu(x));
      return (tf.sum(tf.transpose(doubled)).dataSync() as Float32Array)[0] as number;
    });
    assert.ok(Math.abs(actual - expected(n)) <= 1e-6 * expected(n), `step ${step}`);
    assert.ok(runtime.compiledCount <= capacity, `${runtime.compiledCount} compiled primitives`);
    assert.ok(runtime.pool.statistics().bytesFree <= 2 ** 22, 'free memory');
  }
  assert.equal(runtime.compiledCount, capacity);
  await tf.setBackend(BACKEND_NAME);
  tf.removeBackend('bounded');
});

test('a model of tf.layers trains with batches of every size, memory bounded', async () => {
  await tf.setBackend(BACKEND_NAME);
  const { runtime } = tf.backend() as OneDnnBackend;
  const model = sequential();
  model.add(layers.dense({ inputShape: [12], units: 24, activation: 'tanh' }));
  model.add(layers.dense({ units: 3, activation: 'softmax' }));
  model.compile({ optimizer: 'rmsprop', loss: 'categoricalCrossentropy' });
  let tensors = 0;
  for (let step = 0; step < 120; step++) {
    const n = 1 + ((step * 7) % 60);
    const x = toTensor(sample([n, 12], step));
    const labels = Int32Array.from({ length: n }, (_, i) => i % 3);
    const y = tf.tidy(() => tf.oneHot(tf.tensor1d(labels, 'int32'), 3));
    const loss = (await model.trainOnBatch(x, y)) as number;
    assert.ok(Number.isFinite(loss));
    tf.dispose([x, y]);
    if (step === 5) tensors = tf.memory().numTensors;
  }
  assert.equal(tf.memory().numTensors, tensors);
  assert.ok(runtime.pool.statistics().bytesInUse < 2 ** 24);
});
