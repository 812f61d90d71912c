/**
 * Mixed precision: activations in bf16 (8 bits of mantissa, so relative errors up to 2⁻⁸ per rounding), weights, statistics
 * and weight gradients in f32. Compared with the `cpu` backend's f32 at that tolerance.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { run, runOn, type Sample, sample, toTensor } from '../testing/backend.js';

const CHANNELS = 32;
const attrs = { epsilon: 1e-3, activation: 'relu' };

before(async () => {
  await tf.setBackend('onednn');
  (tf.backend() as OneDnnBackend).precision = 'bf16';
});
after(async () => {
  await tf.setBackend('onednn');
  (tf.backend() as OneDnnBackend).precision = 'f32';
});

/** Error of all elements together (L2) relative to the expected values: single roundings average out. */
function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let error = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    error += ((actual[i] as number) - (expected[i] as number)) ** 2;
    norm += (expected[i] as number) ** 2;
  }
  return Math.sqrt(error / norm);
}

function network(isFused: boolean): tf.Tensor[] {
  const x = toTensor(sample([4, 12, 12, 3], 1)) as tf.Tensor4D;
  const filters = [
    toTensor(sample([3, 3, 3, CHANNELS], 2)),
    toTensor(sample([3, 3, CHANNELS, CHANNELS], 3)),
  ] as tf.Tensor4D[];
  const scale = tf.ones([CHANNELS]);
  const offset = toTensor(sample([CHANNELS], 4));
  const normalize = (h: tf.Tensor): tf.Tensor => {
    if (isFused) return run('FusedBatchNormV3', { x: h, scale, offset }, attrs)[0] as tf.Tensor;
    const { mean, variance } = tf.moments(h, [0, 1, 2]);
    return tf.relu(tf.add(tf.mul(tf.mul(tf.sub(h, mean), tf.rsqrt(tf.add(variance, attrs.epsilon))), scale), offset));
  };
  const loss = (first: tf.Tensor, second: tf.Tensor) => {
    const h = normalize(tf.conv2d(x, first as tf.Tensor4D, 1, 'same')) as tf.Tensor4D;
    const y = tf.add(normalize(tf.conv2d(h, second as tf.Tensor4D, 1, 'same')), h) as tf.Tensor4D;
    return tf.sum(tf.square(tf.avgPool(tf.maxPool(y, 2, 2, 'same'), 6, 1, 'valid')));
  };
  return [loss(filters[0]!, filters[1]!), ...tf.grads(loss)(filters)];
}

test('a network and its weight gradients in bf16 stay within bf16 rounding of f32', async () => {
  const expected = await runOn('cpu', () => network(false));
  const actual = await runOn('onednn', () => network(true));
  const errors = actual.map(({ values }, i) => relativeError(values, (expected[i] as Sample).values));
  assert.ok((errors[0] as number) < 0.01, `loss ${errors[0]}`);
  // Where an activation is within rounding of zero, ReLU may pass one and not the other: that is most of the difference.
  assert.ok((errors[1] as number) < 0.12, `first filter's gradient ${errors[1]}`);
  assert.ok((errors[2] as number) < 0.12, `second filter's gradient ${errors[2]}`);
  assert.ok((errors[1] as number) > 1e-6, 'exactly equal results would mean that bf16 was not used');
});

test('activations are bf16, weight gradients f32', async () => {
  await runOn('onednn', () => {
    const backend = tf.backend() as OneDnnBackend;
    const x = toTensor(sample([2, 8, 8, 16], 1)) as tf.Tensor4D;
    const filter = toTensor(sample([3, 3, 16, 16], 2)) as tf.Tensor4D;
    const y = tf.conv2d(x, filter, 1, 'same');
    assert.equal(backend.storage(y.dataId).layout?.current.dataType, 'bf16');
    const [gradient] = run(
      'Conv2DBackpropFilter',
      { x, dy: y },
      { strides: 1, pad: 'same', dataFormat: 'NHWC', filterShape: [3, 3, 16, 16] },
    );
    const layout = backend.storage((gradient as tf.Tensor).dataId).layout;
    assert.equal(layout?.current.dataType ?? 'f32', 'f32');
    return [];
  });
});
