/** Input that is empty, not a number, refused or too large: TensorFlow.js' results or its errors, and an engine that goes on. */
import assert from 'node:assert/strict';
import { freemem } from 'node:os';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { assertSameAsCpu, run, runOn, sample, toTensor } from './testing/backend.js';

test('empty tensors give the shapes that cpu gives', async () => {
  await assertSameAsCpu(() => {
    const none = tf.zeros([0, 8, 8, 16]) as tf.Tensor4D;
    const filter = toTensor(sample([3, 3, 16, 16], 1)) as tf.Tensor4D;
    return [
      tf.conv2d(none, filter, 1, 'same'),
      tf.depthwiseConv2d(none, tf.ones([3, 3, 16, 1]), 1, 'same'),
      tf.maxPool(none, 2, 2, 'same'),
      tf.avgPool(none, 2, 2, 'valid'),
      tf.relu(none),
      tf.add(none, none),
      tf.matMul(tf.zeros([0, 4]), tf.zeros([4, 3])),
      tf.matMul(tf.zeros([3, 0]), tf.zeros([0, 4])),
      tf.conv3d(tf.zeros([0, 4, 4, 4, 2]) as tf.Tensor5D, tf.ones([1, 1, 1, 2, 3]) as tf.Tensor5D, 1, 'same'),
      tf.batchNorm(none, tf.zeros([16]), tf.ones([16])),
    ];
  });
});

test('NaN and infinities go where they go on cpu', async () => {
  const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of special) {
    for (const channels of [3, 16, 32]) {
      await assertSameAsCpu(
        () => {
          const { values, shape } = sample([1, 6, 6, channels], 1);
          values[2 * 6 * channels + 5] = value;
          const x = tf.tensor(values, shape as [number, number, number, number]) as tf.Tensor4D;
          const filter = toTensor(sample([1, 1, channels, 16], 2)) as tf.Tensor4D;
          const outputs: tf.Tensor[] = [
            tf.relu(tf.tile(x, [8, 1, 1, 1])),
            tf.avgPool(x, 2, 2, 'valid'),
            tf.depthwiseConv2d(x, tf.ones([1, 1, channels, 1]), 1, 'same'),
            tf.matMul(tf.reshape(x, [36, channels]), tf.ones([channels, 2])),
          ];
          // A filter of one pixel keeps infinities apart, so that no sum of both makes a NaN in one order and not in another.
          if (Number.isNaN(value)) outputs.push(tf.conv2d(x, filter, 1, 'same'));
          else outputs.push(tf.conv2d(x, tf.abs(filter) as tf.Tensor4D, 1, 'same'));
          return outputs;
        },
        1e-4,
        `${value} ${channels}`,
      );
    }
  }
});

test('shapes that do not fit are TensorFlow.js errors, and the engine goes on', async () => {
  await runOn('onednn', () => {
    const x = toTensor(sample([1, 8, 8, 16], 1)) as tf.Tensor4D;
    assert.throws(() => tf.conv2d(x, tf.ones([3, 3, 8, 16]) as tf.Tensor4D, 1, 'same'), /must match/);
    assert.throws(() => tf.matMul(tf.ones([2, 3]), tf.ones([4, 5])), /inner shapes|must match/i);
    assert.throws(() => tf.add(tf.ones([2, 3]), tf.ones([4])), /broadcast/i);
    assert.throws(() => tf.depthwiseConv2d(x, tf.ones([3, 3, 16, 1]), 2, 'same', 'NHWC', 2), /must be\s+1/);
    assert.equal(
      run(
        'Conv2D',
        { x, filter: tf.ones([1, 1, 16, 16]) },
        {
          strides: 1,
          pad: 'same',
          dataFormat: 'NHWC',
          dilations: 1,
        },
      )[0]?.dataSync().length,
      1024,
    );
    return [];
  });
});

test('numbers that no layout can hold are refused with the sizes', async () => {
  await runOn('onednn', () => {
    // 2⁴⁰ bytes: no machine for tests has them. The tensor's own values are never made.
    assert.throws(
      () =>
        tf.conv2d(tf.ones([1, 2, 2, 1]) as tf.Tensor4D, tf.ones([1, 1, 1, 1]) as tf.Tensor4D, 1, [
          [0, 0],
          [0, 2 ** 19],
          [0, 2 ** 19],
          [0, 0],
        ]),
      (error: Error) =>
        /bytes was refused|Invalid typed array length|Array buffer allocation failed/.test(error.message),
    );
    assert.equal(tf.sum(tf.ones([3])).dataSync()[0], 3);
    return [];
  });
});

/** It takes 5; others may be at work too. */
const NEEDED = 12;
const free = freemem() / 2 ** 30;
const skip = free < NEEDED ? `needs ${NEEDED} GiB of free memory, there are ${free.toFixed(1)}` : false;

test('a tensor of more than 2 GiB is computed like any other', { skip }, async () => {
  await runOn('onednn', () => {
    // 2.25 GiB of output from a small input: every output channel of a pixel is the pixel times the filter's value.
    const [size, channels] = [6144, 16];
    const x = tf.fill([1, size, size, 1], 2) as tf.Tensor4D;
    const filter = tf.tensor4d(
      Array.from({ length: channels }, (_, i) => i),
      [1, 1, 1, channels],
    );
    const y = tf.conv2d(x, filter, 1, 'same');
    assert.ok(4 * y.size > 2 ** 31);
    const last = tf.slice(y, [0, size - 1, size - 1, 0], [1, 1, 1, channels]).dataSync();
    assert.deepEqual(
      Array.from(last),
      Array.from({ length: channels }, (_, i) => 2 * i),
    );
    return [];
  });
});
