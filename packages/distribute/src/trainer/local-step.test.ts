/** What a replica's own part of a step keeps, and what it refuses; its arithmetic is tested with the trainers. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import '@tensorflow/tfjs-layers';
import { LocalStepRunner } from './local-step.js';

await tf.setBackend('cpu');

/** Lets the backend record, as far as a runner can tell. @returns how many recordings there are. */
function withPrograms(): () => number {
  let programs = 0;
  const backend = tf.backend() as unknown as { program?: () => object };
  backend.program = () => {
    programs++;
    return { run: (step: () => void) => step(), dispose: () => void programs-- };
  };
  return () => programs;
}

const inputs = [{ values: new Float32Array([1, 2]), shape: [2] }];

describe('a local step', () => {
  it('refuses a variable that was frozen after the trainer had been made, by its name', () => {
    const variable = tf.variable(tf.tensor1d([1, 1]), true, 'frozen-later');
    const runner = new LocalStepRunner([variable], () => {});
    const loss = (x: tf.Tensor) => tf.sum(tf.mul(x, variable)) as tf.Scalar;
    assert.equal(runner.run(loss, 1, inputs).loss, 3);
    variable.trainable = false;
    assert.throws(
      () => runner.run(loss, 1, inputs),
      /Variable 'frozen-later' was frozen .*\nhelp: make another trainer/,
    );
    assert.throws(() => runner.run(() => loss(tf.ones([2])), 1), /frozen-later/);
    variable.trainable = true;
    assert.equal(runner.run(loss, 1, inputs).loss, 3);
    variable.dispose();
  });

  it('keeps the batches and recordings of a few losses only, if one is made in every step', () => {
    const count = withPrograms();
    const variable = tf.variable(tf.tensor1d([1, 1]));
    const runner = new LocalStepRunner([variable], () => {});
    const step = () => runner.run((x) => tf.sum(tf.mul(x, variable)) as tf.Scalar, 1, inputs);
    for (let i = 0; i < 10; i++) assert.equal(step().loss, 3);
    const { numTensors } = tf.memory();
    const programs = count();
    for (let i = 0; i < 30; i++) step();
    assert.equal(tf.memory().numTensors, numTensors);
    assert.equal(count(), programs);
    assert.equal(programs, 8);
    delete (tf.backend() as { program?: unknown }).program;
    variable.dispose();
  });
});
