/*
 * model-helpers against upstream's model_helpers_test.py, and --clean against folders that must and must not vanish.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { recordingLog, silentLog } from '../logs/log.js';
import {
  applyClean,
  generateSyntheticData,
  MODEL_DIR_MARKER,
  markModelDir,
  type NestedTensor,
  pastStopThreshold,
} from './model-helpers.js';

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

describe('applyClean', () => {
  let dir = '';
  let model = '';
  const put = (...names: string[]) => {
    mkdirSync(model, { recursive: true });
    for (const name of names) writeFileSync(path.join(model, name), 'x');
  };
  const clean = (modelDir = model, log = silentLog) => applyClean({ clean: true, model_dir: modelDir }, log);

  beforeEach(() => {
    dir = mkdtempSync(path.join(tmpdir(), 'clean-'));
    model = path.join(dir, 'model');
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  it('deletes a model folder and says so', () => {
    for (const names of [
      ['ckpt-100.safetensors'],
      ['model.ckpt-7.index', 'checkpoint', 'graph.pbtxt', 'events.out.tfevents.123.host'],
      ['step-12.safetensors', 'metric.log', 'benchmark_run.log', 'timeline-1000.json'],
      [MODEL_DIR_MARKER],
      [],
    ]) {
      put(...names);
      mkdirSync(path.join(model, 'eval'));
      if (names.length === 0) rmSync(path.join(model, 'eval'), { recursive: true });
      const log = recordingLog();
      assert.equal(clean(model, log), true, names.join());
      assert.equal(existsSync(model), false);
      assert.deepEqual(log.lines, [`info: --clean flag set. Removing existing model dir: ${model}`]);
    }
  });

  it('does nothing without the flag or without the folder', () => {
    put('ckpt-1.safetensors');
    assert.equal(applyClean({ clean: false, model_dir: model }, silentLog), false);
    assert.equal(existsSync(model), true);
    assert.equal(clean(path.join(dir, 'missing')), false);
  });

  it('leaves everything else alone, with a reason', () => {
    for (const [names, reason] of [
      [['notes.txt'], /contains notes\.txt, which no training run makes/],
      [['ckpt-1.safetensors', '.git'], /contains \.git/],
      [[MODEL_DIR_MARKER, 'data_batch_1.bin'], /contains data_batch_1\.bin/],
      [['ckpt-1.safetensors', 'a', 'b', 'c', 'd'], /contains a, b, c and 1 more/],
      [['metric.log'], /contains no checkpoint/],
    ] as const) {
      put(...names);
      assert.throws(
        () => clean(),
        (error: Error) => {
          assert.match(error.message, reason);
          assert.match(error.message, /--model_dir=.*Choose another --model_dir/);
          return true;
        },
      );
      assert.equal(readdirSync(model).length, names.length);
      rmSync(model, { recursive: true });
    }
    put();
    writeFileSync(path.join(dir, 'file'), '');
    assert.throws(() => clean(path.join(dir, 'file')), /it is no folder/);
  });

  it('never deletes the home, current or temporary folder or a parent of one', () => {
    // Stand-ins that would pass for model folders, so that a failing check costs nothing.
    const { HOME, TMPDIR } = process.env;
    const cwd = process.cwd();
    put('ckpt-1.safetensors');
    const inner = path.join(model, 'eval', 'inner');
    mkdirSync(inner, { recursive: true });
    try {
      for (const [what, enter, leave] of [
        ['home', () => (process.env.HOME = inner), () => (process.env.HOME = HOME)],
        ['temporary', () => (process.env.TMPDIR = inner), () => (process.env.TMPDIR = TMPDIR ?? '/tmp')],
        ['current', () => process.chdir(inner), () => process.chdir(cwd)],
      ] as const) {
        enter();
        try {
          assert.throws(() => clean(), /it is or contains the/, what);
          mkdirSync(path.join(inner, MODEL_DIR_MARKER), { recursive: true });
          assert.throws(() => clean(inner), /it is or contains the/, what);
        } finally {
          leave();
        }
        assert.ok(existsSync(inner));
      }
    } finally {
      if (TMPDIR === undefined) delete process.env.TMPDIR;
    }
    assert.equal(clean(), true);
  });

  it('empties the target of a symbolic link and keeps the link', () => {
    put('ckpt-1.safetensors');
    const link = path.join(dir, 'link');
    symlinkSync(model, link);
    assert.equal(clean(link), true);
    assert.deepEqual(readdirSync(link), []);
  });

  it('deletes links inside, not what they point to', () => {
    put('ckpt-1.safetensors');
    const outside = path.join(dir, 'precious');
    mkdirSync(outside);
    writeFileSync(path.join(outside, 'file'), 'x');
    symlinkSync(outside, path.join(model, 'eval'));
    assert.equal(clean(), true);
    assert.deepEqual(readdirSync(outside), ['file']);
  });

  it('deletes what markModelDir marked', () => {
    markModelDir(model);
    markModelDir(model);
    assert.equal(clean(), true);
    assert.equal(existsSync(model), false);
  });
});
