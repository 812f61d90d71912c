/** tf.layers.layerNormalization on oneDNN against the `cpu` backend, with gradients. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { layers } from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from '../backend.js';
import { assertClose, runOn, sample, toTensor } from '../testing.js';

for (const shape of [
  [1, 1],
  [4, 7],
  [3, 5, 16],
  [2, 3, 4, 33],
  [64, 256],
]) {
  test(`layerNormalization of [${shape}] and its gradients equal the cpu backend`, async () => {
    const features = shape.at(-1) as number;
    const compute = () => {
      const layer = layers.layerNormalization({ axis: -1, epsilon: 1e-3 });
      layer.build(shape);
      layer.setWeights([toTensor(sample([features], 2)), toTensor(sample([features], 3))]);
      const x = toTensor(sample(shape, 1));
      const weights = layer.trainableWeights.map((weight) => weight.read() as tf.Variable);
      const dy = toTensor(sample(shape, 4));
      const loss = () => tf.sum(tf.mul(layer.apply(x) as tf.Tensor, dy)) as tf.Scalar;
      const { grads } = tf.variableGrads(loss, weights);
      const dx = tf.grad((input) => tf.sum(tf.mul(layer.apply(input) as tf.Tensor, dy)))(x);
      return [layer.apply(x) as tf.Tensor, dx, ...weights.map(({ name }) => grads[name] as tf.Tensor)];
    };
    const expected = await runOn('cpu', compute);
    const actual = await runOn('onednn', compute);
    assert.equal(actual.length, 4);
    actual.forEach(({ values, shape: found }, i) => {
      assert.deepEqual(found, expected[i]?.shape);
      assertClose(values, expected[i]!.values, 1e-4, `result ${i}`);
    });
  });
}

test('it is one primitive each way', async () => {
  await tf.setBackend('onednn');
  const { runtime } = tf.backend() as OneDnnBackend;
  const layer = layers.layerNormalization({ axis: -1 });
  const x = toTensor(sample([32, 64], 1));
  layer.apply(x);
  const kinds: string[] = [];
  runtime.observer = ({ label }) => kinds.push(label.split(' ')[0] as string);
  try {
    tf.grad((input) => tf.sum(layer.apply(input) as tf.Tensor))(x).dataSync();
  } finally {
    runtime.observer = null;
  }
  assert.equal(kinds.filter((kind) => kind === 'layer_norm_forward').length, 1);
  assert.equal(kinds.filter((kind) => kind === 'layer_norm_backward').length, 1);
});
