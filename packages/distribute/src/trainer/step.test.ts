/** step() as a promise: what is wrong is an error whether it is awaited or not, and one step is taken at a time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import setCpu from '../devices/cpu-backend.js';
import { listDevices } from '../devices/device.js';
import { adoptHostAccess } from '../devices/host-access.js';
import setDistant from '../devices/testing/distant-device.js';
import { soloContext } from '../replica/solo-context.js';
import type { StepResult, Trainer } from './trainer.js';

const [device] = listDevices({ numCpus: 1 });
await setCpu({ type: 'CPU', index: 0, threads: 1, cores: [], device: 'cpu:0' });

function make(): { trainer: Trainer; loss: () => tf.Scalar } {
  const w = tf.variable(tf.tensor1d([1, 2]));
  const trainer = soloContext({ device: device as NonNullable<typeof device> }).trainer([w], {
    optimizer: { kind: 'sgd' },
  });
  return { trainer, loss: () => tf.sum(w) as tf.Scalar };
}

test('what is wrong is thrown at once, so that a loop without await ends as one with it does', async () => {
  const { trainer, loss } = make();
  const thrower = () => {
    throw new Error('of the loss');
  };
  for (const [step, message] of [
    [
      () => trainer.step(loss, Number.NaN),
      /^RangeError: The learning rate must be a finite number that is not negative, got NaN/,
    ],
    [() => trainer.step(null as never, 1), /^TypeError: step\(\) takes a function that computes the loss/],
    [() => trainer.step(thrower, 1), /^Error: of the loss$/],
  ] as const) {
    assert.throws(step, message);
    await assert.rejects(async () => await step(), message);
  }
  // None of them is under way.
  assert.equal((await trainer.step(loss, 0.5)).loss, 3);
});

test('where nothing is waited for the step is over when it returns, and its result is there with or without await', async () => {
  const { trainer, loss } = make();
  const first = trainer.step(loss, 0.5);
  assert.deepEqual([...trainer.weights], [0.5, 1.5]);
  const { loss: value, updated } = first as unknown as StepResult;
  assert.deepEqual([value, updated], [3, true]);
  const result = await first;
  for (const [name, member] of Object.entries(result)) assert.equal(first[name as never], member, name);
  assert.equal((await trainer.step(loss, 0.5)).loss, 2);
  assert.deepEqual(trainer.scalars, { updates: 2 });
});

test('where gradients land later, a second step is refused until the first is over, and changes nothing', async () => {
  adoptHostAccess(await setDistant(), 'distant');
  const { trainer, loss } = make();
  const first = trainer.step(loss, 0.5);
  assert.equal((first as unknown as StepResult).loss, undefined);
  assert.throws(
    () => trainer.step(loss, 0.5),
    /^Error: trainer\.step\(\) was called while a step .* is under way\.\nhelp: await trainer\.step/,
  );
  assert.equal((await first).loss, 3);
  assert.deepEqual([...trainer.weights], [0.5, 1.5]);
  const thrower = () => {
    loss();
    throw new Error('of the loss');
  };
  await assert.rejects(async () => await trainer.step(thrower, 1), /^Error: of the loss$/);
  assert.equal((await trainer.step(loss, 0.5)).loss, 2);
});

test('a step within a step is refused', async () => {
  const { trainer, loss } = make();
  await assert.rejects(async () => {
    await trainer.step(() => {
      trainer.step(loss, 0.5);
      return loss();
    }, 0.5);
  }, /is under way/);
  assert.deepEqual([...trainer.weights], [1, 2]);
});
