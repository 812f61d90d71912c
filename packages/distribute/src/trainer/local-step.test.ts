/** What a replica's own part of a step keeps, and what it refuses; its arithmetic is tested with the trainers. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-layers';
import { type HostAccess, plainAccess } from '../devices/host-access.js';
import { LocalStepRunner } from './local-step.js';

await tf.setBackend('cpu');

/** A way to reach the backend that lets it record, as far as a runner can tell, and counts the recordings that there are. */
function withPrograms(aliases: boolean): HostAccess & { count: number } {
  return {
    ...plainAccess(aliases),
    count: 0,
    program() {
      this.count++;
      return { run: (step) => step(), dispose: () => void this.count-- };
    },
  };
}

function runnerOf(variable: tf.Variable, access = plainAccess(true)) {
  const runner = new LocalStepRunner([variable], () => {}, access);
  return (...step: Parameters<LocalStepRunner['run']>) => {
    runner.run(...step);
    return runner.loss;
  };
}

const inputs = [{ values: new Float32Array([1, 2]), shape: [2] }];

describe('a local step', () => {
  it('refuses a variable that was frozen after the trainer had been made, by its name', () => {
    const variable = tf.variable(tf.tensor1d([1, 1]), true, 'frozen-later');
    const run = runnerOf(variable);
    const loss = (x: tf.Tensor) => tf.sum(tf.mul(x, variable)) as tf.Scalar;
    assert.equal(run(loss, 1, inputs), 3);
    variable.trainable = false;
    assert.throws(() => run(loss, 1, inputs), /Variable 'frozen-later' was frozen .*\nhelp: make another trainer/);
    assert.throws(() => run(() => loss(tf.ones([2])), 1), /frozen-later/);
    variable.trainable = true;
    assert.equal(run(loss, 1, inputs), 3);
    variable.dispose();
  });

  it('keeps the batches and recordings of a few losses only, if one is made in every step', () => {
    const access = withPrograms(true);
    const variable = tf.variable(tf.tensor1d([1, 1]));
    const run = runnerOf(variable, access);
    const step = () => run((x) => tf.sum(tf.mul(x, variable)) as tf.Scalar, 1, inputs);
    for (let i = 0; i < 10; i++) assert.equal(step(), 3);
    const { numTensors } = tf.memory();
    const programs = access.count;
    for (let i = 0; i < 30; i++) step();
    assert.equal(tf.memory().numTensors, numTensors);
    assert.equal(access.count, programs);
    assert.equal(programs, 8);
    variable.dispose();
  });

  it('records nothing where tensors are copies: a replay would not find the next batch', () => {
    const access = withPrograms(false);
    const variable = tf.variable(tf.tensor1d([1, 1]));
    const run = runnerOf(variable, access);
    const loss = (x: tf.Tensor) => tf.sum(tf.mul(x, variable)) as tf.Scalar;
    assert.equal(run(loss, 1, inputs), 3);
    assert.equal(run(loss, 1, [{ values: new Float32Array([3, 4]), shape: [2] }]), 7);
    assert.equal(access.count, 0);
    variable.dispose();
  });
});
