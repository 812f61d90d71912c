/** LOCKSTEP_VERBOSE, the warning about slow kernels, and the convolution bound. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { run, sample, toTensor } from '../testing/backend.js';
import { convolutionBound } from './convolution-bound.js';
import { KernelSummary, verbosityOf } from './insight.js';

const attrs = { strides: [1, 1], dilations: [1, 1], pad: 'same', dataFormat: 'NHWC' };

function child(source: string, LOCKSTEP_VERBOSE: string): string {
  const head = `import '${new URL('../index.js', import.meta.url).href}'; import * as tf from '@tensorflow/tfjs-core'; await tf.setBackend('onednn');`;
  const { stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', head + source], {
    encoding: 'utf8',
    cwd: fileURLToPath(new URL('.', import.meta.url)),
    env: { ...process.env, LOCKSTEP_VERBOSE },
  });
  assert.equal(status, 0, stderr);
  return stderr;
}

const work = `tf.conv2d(tf.ones([1, 8, 8, 32]), tf.ones([3, 3, 32, 32]), 1, 'same').dataSync(); tf.topk(tf.tensor1d([3, 1]), 1);`;

test('LOCKSTEP_VERBOSE=1 prints a line per kernel and a summary, =summary the summary alone, unset nothing', () => {
  const lines = child(work, '1');
  assert.match(
    lines,
    /lockstep,onednn,convolution_forward f32 in \[1,8,8,32\] filter \[3,3,32,32\] stride 1,.*,\d+\.\d+ ms/,
  );
  assert.match(lines, /lockstep,cpu,TopK \[2\],tfjs,/);
  assert.match(lines, /kernel +calls +ms +%/);
  const summary = child(work, 'summary');
  assert.doesNotMatch(summary, /lockstep,/);
  assert.match(summary, /convolution_forward +1 /);
  assert.equal(child(work, ''), '');
});

test('a summary lists the slowest first, with calls and share', () => {
  const summary = new KernelSummary();
  summary.add('a', 1);
  summary.add('b', 2);
  summary.add('a', 1);
  summary.add('c', 6);
  assert.deepEqual(
    summary
      .toString()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/ +/)),
    [
      ['c', '1', '6.0', '60.0'],
      ['a', '2', '2.0', '20.0'],
      ['b', '1', '2.0', '20.0'],
    ],
  );
  assert.equal(verbosityOf({ LOCKSTEP_VERBOSE: '0' }), 'off');
});

test('a large kernel that falls to TensorFlow.js is reported once', () => {
  const stderr = child('const x = tf.ones([1100, 1000], "int32"); tf.abs(x); tf.abs(x);', '');
  assert.equal(stderr.match(/'Abs' of x int32\[1100,1000\]/g)?.length, 1, stderr);
});

test('the convolution bound counts every convolution of a step, and is no longer than they took', async () => {
  await tf.setBackend('onednn');
  const { runtime } = tf.backend() as OneDnnBackend;
  const x = toTensor(sample([2, 16, 16, 16], 1));
  const filter = toTensor(sample([3, 3, 16, 16], 2));
  const step = () =>
    tf.tidy(() => {
      run('Conv2D', { x, filter }, attrs);
      run('Conv2D', { x, filter }, attrs);
      run('Conv2DBackpropFilter', { x, dy: x }, { ...attrs, filterShape: [3, 3, 16, 16] });
    });
  const { count, milliseconds } = await convolutionBound(runtime, step);
  assert.equal(count, 3);
  assert.ok(milliseconds > 0);
});
