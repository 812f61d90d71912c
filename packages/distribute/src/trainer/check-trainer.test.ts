/** Under every strategy a trainer refuses the same variables and options, before it touches memory or any other replica. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '../devices/cpu-backend.js';
import * as tf from '@tensorflow/tfjs-core';
import { FlatTrainer } from './flat-trainer.js';
import type { TrainerOptions } from './trainer.js';

/** Where nobody may look: a trainer that gets so far has not refused. */
const UNTOUCHED = new Proxy(
  {},
  {
    get(_, name) {
      throw new Error(`the trainer went on to its context's ${String(name)}`);
    },
  },
) as never;

const make = (variables: tf.Variable[], options: TrainerOptions) => new FlatTrainer(variables, options, UNTOUCHED);

describe('a trainer', () => {
  const sgd: TrainerOptions = { optimizer: { kind: 'sgd' } };
  const good = tf.variable(tf.zeros([2]), true);

  it('takes trainable float32 variables, each once', () => {
    const fixed = tf.variable(tf.zeros([2]), false, 'moving_mean');
    const whole = tf.variable(tf.zeros([2], 'int32'), true, 'counter');
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

  it('takes tf.Variables in a list, and nothing that looks like them', () => {
    const layer = { read: () => good };
    const gone = tf.variable(tf.zeros([1]));
    gone.dispose();
    const refused: [unknown, RegExp][] = [
      [good, /takes a list of variables, got a float32 tensor of shape \[2\]\.\nhelp: for a model/],
      [undefined, /takes a list of variables, got undefined/],
      [
        [good, layer],
        /^Variable 1 given to trainer\(\) is no tf\.Variable.*\nhelp: a layer hands out its variables by read/,
      ],
      [[tf.zeros([2])], /^Variable 0 .* is no tf\.Variable but a float32 tensor/],
      [[gone], /is disposed/],
    ];
    for (const [variables, message] of refused) assert.throws(() => make(variables as tf.Variable[], sgd), { message });
  });

  it('takes options that mean something', () => {
    const [momentum, nesterov] = [0.9, true];
    const refused: [unknown, RegExp][] = [
      [undefined, /optimizer of trainer\(\) must be .*, got undefined/],
      [{ optimizer: 'adam' }, /must be .*, got 'adam'\.\nhelp: context\.optimizer\(/],
      [{ optimizer: { kind: 'adagrad' } }, /got kind 'adagrad'/],
      [{ optimizer: tf.train.sgd(0.1) }, /got a SGDOptimizer/],
      [{ optimizer: { kind: 'momentum' } }, /momentum must be a number that is not negative, got undefined/],
      [{ optimizer: { kind: 'momentum', momentum: -0.1 } }, /got -0\.1/],
      [{ optimizer: { kind: 'momentum', momentum, nesterov: 'yes' } }, /nesterov must be true or false, got 'yes'/],
      [{ ...sgd, weightDecay: { rate: Number.NaN, applies: () => true } }, /weightDecay\.rate .* got NaN/],
      [{ ...sgd, weightDecay: { rate: -1, applies: () => true } }, /weightDecay\.rate .* got -1/],
      [{ ...sgd, weightDecay: { rate: 0.1 } }, /weightDecay\.applies must be a function of a variable, got undefined/],
      [
        { ...sgd, weightDecay: { rate: 0.1, applies: () => undefined } },
        /applies must return true or false, got undefined/,
      ],
      [{ ...sgd, lossScale: '128' }, /lossScale must be a number, 'dynamic', or .*, got 128 \(string\)/],
      [{ ...sgd, lossScale: Number.POSITIVE_INFINITY }, /lossScale must be positive and finite, got Infinity/],
      [{ ...sgd, clip: { value: 0 } }, /clip\.value must be a number above 0, got 0/],
      [{ ...sgd, clip: { globalNorm: Number.NaN } }, /clip\.globalNorm must be a number above 0, got NaN/],
      [{ ...sgd, clip: {} }, /clip must be \{ value \} or \{ globalNorm \}, got an object/],
      [{ ...sgd, clip: { value: 1, globalNorm: 1 } }, /clip must be \{ value \} or \{ globalNorm \}, got an object/],
      [{ ...sgd, accumulateSteps: 0 }, /accumulateSteps must be a positive integer, got 0/],
      [{ ...sgd, accumulateSteps: 1.5 }, /accumulateSteps must be a positive integer, got 1\.5/],
      [{ ...sgd, lossScale: 0 }, /lossScale must be positive and finite, got 0/],
    ];
    for (const [options, message] of refused) assert.throws(() => make([good], options as TrainerOptions), { message });
    const options = {
      optimizer: { kind: 'momentum', momentum, nesterov },
      weightDecay: { rate: 0, applies: () => false },
    };
    assert.throws(() => make([good], options as TrainerOptions), /the trainer went on to its context/);
  });
});
