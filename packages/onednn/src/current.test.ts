/** onednn(): the backend with its type. What it sets and tells is compared with what TensorFlow.js' own, untyped way says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { onednn } from './index.js';

test('is the backend that TensorFlow.js computes with, made at the first call', async () => {
  await tf.setBackend('onednn');
  const backend = onednn();
  assert.equal(backend, tf.backend());
  const precision: 'f32' | 'bf16' = tf.backend().precision;
  assert.equal(precision, 'f32');
  const { threads } = backend.runtime;
  backend.runtime.threads = 1;
  assert.equal(onednn().runtime.threads, 1);
  backend.runtime.threads = threads;
});

test("memory() has the pool's figures, the same as tf.memory()", async () => {
  await tf.setBackend('onednn');
  const before = onednn().memory().bytesInUse;
  const x = tf.randomNormal([1024, 256]);
  const y = tf.tidy(() => tf.relu(tf.add(x, 1)));
  y.dataSync();
  const { bytesInUse, peakBytes }: { bytesInUse: number; peakBytes: number } = onednn().memory();
  assert.ok(bytesInUse - before >= 1024 * 256 * 4, `${before} became ${bytesInUse}`);
  assert.ok(peakBytes >= bytesInUse);
  assert.equal(tf.memory().peakBytes, peakBytes);
  tf.dispose([x, y]);
});

test('beside another backend it says which one there is, and what to do', async () => {
  await tf.setBackend('cpu');
  assert.throws(() => onednn(), /is 'cpu' in this thread, not 'onednn'\.\nhelp: await tf\.setBackend\('onednn'\)/);
});
