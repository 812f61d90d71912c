/*
 * model-helpers against upstream's model_helpers_test.py.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { recordingLog, silentLog } from '../logs/log.js';
import { generateSyntheticData, type NestedTensor, pastStopThreshold } from './model-helpers.js';

describe('pastStopThreshold', () => {
  it('is passed at or above the threshold', () => {
    for (const [threshold, metric] of [
      [0.54, 1],
      [54, 100],
      [-0.54, 0],
      [0, 0],
      [0.54, 0.54],
      [0, 1.5],
    ]) {
      const log = recordingLog();
      assert.equal(pastStopThreshold(threshold, metric, log), true);
      assert.deepEqual(log.lines, [`info: Stop threshold of ${threshold} was passed with metric value ${metric}.`]);
    }
  });

  it('is not passed below, for NaN, or without a threshold', () => {
    const log = recordingLog();
    for (const [threshold, metric] of [
      [0.54, 0.1],
      [-0.54, -1.5],
      [0.5, Number.NaN],
      [null, -1.5],
      [null, null],
      [null, 1.5],
      [undefined, 'x'],
    ]) {
      assert.equal(pastStopThreshold(threshold, metric, log), false);
    }
    assert.deepEqual(log.lines, []);
  });

  it('refuses what is not a number, with the exact messages', () => {
    const tensor = tf.scalar(1);
    const badThreshold = { message: 'Threshold for checking stop conditions must be a number.' };
    const badMetric = { message: 'Eval metric being checked against stop conditions must be a number.' };
    for (const [threshold, metric, expected] of [
      ['str', 1, badThreshold],
      ['str', tensor, badThreshold],
      ['str', 'another', badThreshold],
      [tensor, null, badThreshold],
      [0, null, badMetric],
      [0.7, 'str', badMetric],
    ] as const) {
      assert.throws(() => pastStopThreshold(threshold, metric, silentLog), expected);
    }
    tensor.dispose();
  });
});

describe('generateSyntheticData', () => {
  const numbers = (tensor: NestedTensor) => Array.from((tensor as tf.Tensor).dataSync());

  it('repeats one constant pair and disposes it', () => {
    const before = tf.memory().numTensors;
    let count = 0;
    const data = generateSyntheticData({
      inputShape: [5],
      inputValue: 123,
      inputDtype: 'float32',
      labelShape: [],
      labelValue: 456,
      labelDtype: 'int32',
    });
    for (const element of data) {
      const [input, label] = element as [tf.Tensor, tf.Tensor];
      assert.deepEqual([input.shape, label.shape, input.dtype, label.dtype], [[5], [], 'float32', 'int32']);
      assert.deepEqual(numbers(input), [123, 123, 123, 123, 123]);
      assert.deepEqual(numbers(label), [456]);
      if (++count === 3) break;
    }
    assert.equal(tf.memory().numTensors, before);
  });

  it('gives inputs alone without a label shape, and keeps nested structures', () => {
    for (const element of generateSyntheticData({ inputShape: [4], inputValue: 43 })) {
      assert.ok(element instanceof tf.Tensor);
      assert.deepEqual(numbers(element), [43, 43, 43, 43]);
      break;
    }
    const shape = { a: [2], b: { c: [3], d: [] } };
    for (const element of generateSyntheticData({ inputShape: shape, inputValue: 1.1 })) {
      const { a, b } = element as { a: tf.Tensor; b: { c: tf.Tensor; d: tf.Tensor } };
      assert.deepEqual([a.shape, b.c.shape, b.d.shape], [[2], [3], []]);
      assert.ok(Math.abs(numbers(b.d)[0]! - 1.1) < 1e-6);
      break;
    }
  });
});
