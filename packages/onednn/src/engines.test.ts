/** Several engines in one process, tensors that move between backends, and counters that tell the truth. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs-core';
import { layers, sequential } from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from './backend.js';
import { assertClose, run, runOn, sample, toTensor } from './testing/backend.js';
import { setRunEagerly } from './tfjs/fit-program.js';

const attrs = { strides: [1, 1], dilations: [1, 1], pad: 'same', dataFormat: 'NHWC' };

function convolve(seed: number): tf.Tensor {
  const x = toTensor(sample([2, 12, 12, 32], seed));
  return run('Conv2D', { x, filter: toTensor(sample([3, 3, 32, 32], seed + 1)) }, attrs)[0] as tf.Tensor;
}

test('engines in worker threads compute side by side, each with a backend and a pool of its own', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'lockstep-engines-'));
  try {
    const file = join(folder, 'worker.mjs');
    // Modules are named absolutely: the file lies outside of the repository.
    writeFileSync(
      file,
      `import { parentPort, workerData } from 'node:worker_threads';
       const { run, sample, toTensor } = await import('${new URL('./testing/backend.js', import.meta.url).href}');
       const { default: setup } = await import('${new URL('./device/device.js', import.meta.url).href}');
       const tf = (await import('${import.meta.resolve('@tensorflow/tfjs-core')}'));
       await setup({ threads: 1, cores: [], device: 'cpu:0' });
       const attrs = ${JSON.stringify(attrs)};
       for (let i = 0; i < 30; i++) {
         const sum = tf.tidy(() => {
           const x = toTensor(sample([2, 12, 12, 32], workerData));
           const [y] = run('Conv2D', { x, filter: toTensor(sample([3, 3, 32, 32], workerData + 1)) }, attrs);
           return Array.from(y.dataSync().slice(0, 8));
         });
         parentPort.postMessage({ sum, tensors: tf.memory().numTensors });
       }`,
    );
    const seeds = [1, 20, 300];
    const results = await Promise.all(
      seeds.map(
        (seed) =>
          new Promise<{ sum: number[]; tensors: number }[]>((resolve, reject) => {
            const messages: { sum: number[]; tensors: number }[] = [];
            const worker = new Worker(file, { workerData: seed, execArgv: [] });
            worker.on('message', (message) => messages.push(message));
            worker.once('error', reject);
            worker.once('exit', () => resolve(messages));
          }),
      ),
    );
    for (const [i, seed] of seeds.entries()) {
      const [expected] = await runOn('onednn', () => [convolve(seed)]);
      const messages = results[i] as { sum: number[]; tensors: number }[];
      assert.equal(messages.length, 30);
      for (const { sum, tensors } of messages) {
        assertClose(sum, Array.from(expected!.values.slice(0, 8)), 1e-6, `engine ${i}`);
        assert.equal(tensors, 0);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test('a tensor goes to cpu and back, whatever its layout, and leaves nothing behind', async () => {
  await tf.setBackend('onednn');
  const backend = tf.backend() as OneDnnBackend;
  const before = { tensors: tf.memory().numTensors, bytes: backend.runtime.pool.statistics().bytesInUse };
  const y = tf.tidy(() => convolve(7));
  const expected = y.dataSync().slice();
  await tf.setBackend('cpu');
  const doubled = tf.mul(y, 2);
  assertClose(
    doubled.dataSync(),
    expected.map((v) => 2 * v),
    1e-6,
    'on cpu',
  );
  await tf.setBackend('onednn');
  const again = tf.mul(doubled, 0.5);
  assertClose(again.dataSync(), expected, 1e-6, 'back');
  tf.dispose([y, doubled, again]);
  assert.equal(tf.memory().numTensors, before.tensors);
  assert.equal(backend.runtime.pool.statistics().bytesInUse, before.bytes);
});

test('data that still waits moves with its value', async () => {
  await tf.setBackend('onednn');
  const y = tf.tidy(() => {
    const x = toTensor(sample([2, 8, 8, 16], 1));
    const scale = tf.ones([16]);
    return run('FusedBatchNormV3', { x, scale, offset: tf.zeros([16]) }, { epsilon: 1e-3 })[0] as tf.Tensor;
  });
  await tf.setBackend('cpu');
  const { mean, variance } = tf.moments(y);
  assert.ok(Math.abs(mean.dataSync()[0] as number) < 1e-5);
  assert.ok(Math.abs((variance.dataSync()[0] as number) - 1) < 2e-2);
  await tf.setBackend('onednn');
  tf.dispose([y, mean, variance]);
});

test('tf.memory() counts bytes in use, tf.profile() the kernels, the new tensors and the peak', async () => {
  await tf.setBackend('onednn');
  const before = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
  const bytes = 4 * 2 * 12 * 12 * 32;
  const profile = await tf.profile(() => tf.tidy(() => convolve(3)));
  const after = tf.memory() as tf.MemoryInfo & { bytesInUse: number };
  assert.equal(profile.newTensors, 1);
  assert.equal(profile.newBytes, bytes);
  assert.ok(profile.peakBytes >= 2 * bytes, 'input and output at once');
  assert.deepEqual(
    profile.kernels.map(({ name }) => name).filter((name) => name !== 'Identity'),
    ['Conv2D'],
  );
  assert.equal(after.numBytes - before.numBytes, bytes);
  assert.ok(after.bytesInUse - before.bytesInUse >= bytes, 'the pool has them');
  assert.equal((after as { unreliable?: boolean }).unreliable, false);
  (profile.result as unknown as tf.Tensor).dispose();
  assert.equal((tf.memory() as { bytesInUse?: number }).bytesInUse, before.bytesInUse);
});

test('training a tf.layers model leaks nothing while the engine checks every kernel for leaks', async () => {
  await tf.setBackend('onednn');
  const wasTest = tf.env().getBool('IS_TEST');
  tf.env().set('IS_TEST', true);
  try {
    const model = sequential({
      layers: [
        layers.conv2d({ inputShape: [8, 8, 3], filters: 16, kernelSize: 3, activation: 'relu' }),
        layers.batchNormalization({}),
        layers.activation({ activation: 'relu' }),
        layers.depthwiseConv2d({ kernelSize: 3, padding: 'same' }),
        layers.maxPooling2d({ poolSize: 2 }),
        layers.globalAveragePooling2d({}),
        layers.dense({ units: 3, activation: 'softmax' }),
      ],
    });
    model.compile({ optimizer: tf.train.momentum(0.01, 0.9), loss: 'categoricalCrossentropy' });
    const x = toTensor(sample([4, 8, 8, 3], 1));
    const y = tf.oneHot(tf.tensor1d([0, 1, 2, 0], 'int32'), 3);
    const { pool } = (tf.backend() as OneDnnBackend).runtime;
    const step = async () => {
      await model.trainOnBatch(x, y);
      tf.dispose(model.predict(x));
    };
    for (const isEager of [true, false]) {
      setRunEagerly(model, isEager);
      // A recording takes memory of its own, once.
      for (let i = 0; i < 8; i++) await step();
      const before = { tensors: tf.memory().numTensors, allocations: pool.statistics().allocations };
      for (let i = 0; i < 50; i++) await step();
      assert.deepEqual({ tensors: tf.memory().numTensors, allocations: pool.statistics().allocations }, before);
    }
    model.dispose();
  } finally {
    tf.env().set('IS_TEST', wasTest);
  }
});
