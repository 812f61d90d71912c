/** The three trainers refuse the same variables and options, before they touch memory or any other replica. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '../devices/cpu-backend.js';
import * as tf from '@tensorflow/tfjs-core';
import { Trainer, type TrainerOptions } from '../optimizer/trainer.js';
import { ParameterServerTrainer } from '../parameter-server/parameter-server-trainer.js';
import { MultiWorkerTrainer } from './multi-worker-trainer.js';

/** Where nobody may look: a trainer that gets so far has not refused. */
const UNTOUCHED = new Proxy(
  {},
  {
    get(_, name) {
      throw new Error(`the trainer went on to its context's ${String(name)}`);
    },
  },
) as never;

const trainers: Record<string, (variables: tf.Variable[], options: TrainerOptions) => unknown> = {
  Trainer: (variables, options) => new Trainer(variables, options, UNTOUCHED),
  MultiWorkerTrainer: (variables, options) => new MultiWorkerTrainer(variables, options, UNTOUCHED),
  ParameterServerTrainer: (variables, options) => new ParameterServerTrainer(variables, options, UNTOUCHED),
};

for (const [name, make] of Object.entries(trainers)) {
  describe(name, () => {
    const sgd: TrainerOptions = { optimizer: { kind: 'sgd' } };
    const good = tf.variable(tf.zeros([2]), true);

    it('takes trainable float32 variables, each once', () => {
      const fixed = tf.variable(tf.zeros([2]), false, `${name}/moving_mean`);
      const whole = tf.variable(tf.zeros([2], 'int32'), true, `${name}/counter`);
      assert.throws(() => make([], sgd), /^Error: trainer\(\) was given no variables\./);
      assert.throws(() => make([good, fixed], sgd), /Variable '.*moving_mean' is not trainable\.\nhelp: /);
      assert.throws(() => make([good, whole], sgd), /Variable '.*counter' is int32; trainer\(\) takes float32/);
      assert.throws(() => make([good, good], sgd), /a variable twice/);
      assert.throws(() => make([good], sgd), /the trainer went on to its context/);
    });

    it('takes a momentum that is a number', () => {
      const optimizer = { kind: 'momentum', momentum: Number.NaN } as const;
      assert.throws(() => make([good], { optimizer }), { name: 'RangeError', message: /momentum must be a number/ });
    });
  });
}
