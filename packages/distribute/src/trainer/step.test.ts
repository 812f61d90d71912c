/** step() as a promise: what is wrong with its arguments rejects, and one step is taken at a time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import setCpu from '../devices/cpu-backend.js';
import { listDevices } from '../devices/device.js';
import { soloContext } from '../replica/solo-context.js';
import type { Trainer } from './trainer.js';

const [device] = listDevices({ numCpus: 1 });
await setCpu({ type: 'CPU', index: 0, threads: 1, cores: [], device: 'cpu:0' });

function make(): { trainer: Trainer; loss: () => tf.Scalar } {
  const w = tf.variable(tf.tensor1d([1, 2]));
  const trainer = soloContext({ device: device as NonNullable<typeof device> }).trainer([w], {
    optimizer: { kind: 'sgd' },
  });
  return { trainer, loss: () => tf.sum(w) as tf.Scalar };
}

test('arguments that no step can be made of reject; nothing is thrown', async () => {
  const { trainer, loss } = make();
  const step = trainer.step(loss, Number.NaN);
  await assert.rejects(step, /^RangeError: The learning rate must be a finite number that is not negative, got NaN/);
  await assert.rejects(trainer.step(null as never, 1), /^TypeError: step\(\) takes a function that computes the loss/);
  await assert.rejects(
    trainer.step(() => {
      throw new Error('of the loss');
    }, 1),
    /^Error: of the loss$/,
  );
});

test('a step that nobody has waited for refuses the next one, which changes nothing', async () => {
  const { trainer, loss } = make();
  const first = trainer.step(loss, 0.5);
  const second = trainer.step(loss, 0.5);
  await assert.rejects(
    second,
    /^Error: trainer\.step\(\) was called while a step .* is under way\.\nhelp: await trainer\.step/,
  );
  assert.equal((await first).loss, 3);
  assert.deepEqual([...trainer.weights], [0.5, 1.5]);
  assert.equal((await trainer.step(loss, 0.5)).loss, 2);
  assert.deepEqual(trainer.scalars, { updates: 2 });
});

test('a step within a step is refused', async () => {
  const { trainer, loss } = make();
  let inner: Promise<unknown> = Promise.resolve();
  await trainer.step(() => {
    inner = trainer.step(loss, 0.5);
    inner.catch(() => {});
    return loss();
  }, 0.5);
  await assert.rejects(inner, /is under way/);
  assert.deepEqual([...trainer.weights], [0.5, 1.5]);
});
