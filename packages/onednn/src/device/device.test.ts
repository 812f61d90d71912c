/** What the device module hands over: the backend's memory as others reach it, in a replay of a recorded step too. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import setup from './device.js';

const access = await setup({ threads: 1, cores: [], device: 'cpu:0' });

test('it is the one that the backend carries, for threads where no module ran', () => {
  assert.equal(access, (tf.backend() as OneDnnBackend).hostAccess);
  assert.equal(access.settled(), undefined);
});

test('a tensor stays the array that it was made of, after oneDNN has read it and as a variable', () => {
  assert.equal(access.aliases, true);
  const size = 64;
  const values = new Float32Array(size * size).fill(1);
  const matrix = tf.tensor2d(values, [size, size]);
  const variable = tf.variable(tf.zeros([size, size]));
  variable.assign(matrix);
  const first = () =>
    tf.tidy(() => [matrix, variable].map((x) => tf.matMul(x as tf.Tensor2D, x as tf.Tensor2D).dataSync()[0]));
  assert.deepEqual(first(), [size, size]);
  values.fill(2);
  assert.deepEqual(first(), [4 * size, 4 * size]);
  tf.dispose([matrix, variable]);
});

test('write() gives a variable values of its own', () => {
  const variable = tf.variable(tf.zeros([2]));
  const values = Float32Array.of(1, 2);
  access.write(variable, values);
  values.fill(9);
  assert.deepEqual([...variable.dataSync()], [1, 2]);
  variable.dispose();
});

test('read() lands at once, and again in every replay, with the values of that replay', () => {
  const program = access.program();
  const values = new Float32Array(64);
  const x = tf.tensor1d(values);
  const target = new Float32Array(64);
  let seen: number[] = [];
  for (let run = 1; run <= 8; run++) {
    values.fill(run);
    program.run(() => {
      tf.tidy(() => access.read(tf.square(x), target, () => seen.push(target[63] as number)));
    });
    assert.deepEqual(seen, [run * run], `run ${run}`);
    seen = [];
  }
  assert.equal((program as { state?: string }).state, 'recorded');
  program.dispose();
  x.dispose();
});

test('setPrecision() refuses what the backend does not compute in', () => {
  assert.throws(() => access.setPrecision('f16' as never), { name: 'PrecisionError' });
  access.setPrecision('f32');
});
