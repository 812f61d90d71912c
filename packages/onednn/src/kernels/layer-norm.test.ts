/** tf.layers.layerNormalization on oneDNN against the `cpu` backend, with gradients. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { layers } from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from '../backend.js';
import { assertClose, runOn, sample, toTensor } from '../testing/backend.js';

/** With scale and offset, with one of them, with neither. */
const VARIANTS = [
  [true, true],
  [true, false],
  [false, true],
  [false, false],
] as const;

for (const shape of [
  [1, 1],
  [4, 7],
  [3, 5, 16],
  [2, 3, 4, 33],
  [64, 256],
]) {
  for (const [scale, center] of VARIANTS) {
    test(`layerNormalization of [${shape}], scale ${scale}, center ${center}, and its gradients equal the cpu backend`, async () => {
      const features = shape.at(-1) as number;
      // TensorFlow.js itself has no gradient without scale, so the reference has one of ones, and zeros for a missing offset.
      const compute = (isReference: boolean) => () => {
        const parts = isReference ? {} : { scale, center };
        const layer = layers.layerNormalization({ axis: -1, epsilon: 1e-3, ...parts });
        layer.build(shape);
        const values = [
          scale ? toTensor(sample([features], 2)) : tf.ones([features]),
          center ? toTensor(sample([features], 3)) : tf.zeros([features]),
        ];
        const has = (i: number) => [scale, center][i] === true;
        layer.setWeights(values.filter((_, i) => isReference || has(i)));
        const x = toTensor(sample(shape, 1));
        const all = layer.trainableWeights.map((weight) => weight.read() as tf.Variable);
        const weights = isReference ? all.filter((_, i) => has(i)) : all;
        const dy = toTensor(sample(shape, 4));
        const loss = () => tf.sum(tf.mul(layer.apply(x) as tf.Tensor, dy)) as tf.Scalar;
        const grads = weights.length > 0 ? tf.variableGrads(loss, weights).grads : {};
        const dx = tf.grad((input) => tf.sum(tf.mul(layer.apply(input) as tf.Tensor, dy)))(x);
        return [layer.apply(x) as tf.Tensor, dx, ...weights.map(({ name }) => grads[name] as tf.Tensor)];
      };
      const expected = await runOn('cpu', compute(true));
      const actual = await runOn('onednn', compute(false));
      assert.equal(actual.length, 2 + Number(scale) + Number(center));
      actual.forEach(({ values, shape: found }, i) => {
        assert.deepEqual(found, expected[i]?.shape);
        assertClose(values, expected[i]!.values, 1e-4, `result ${i}`);
      });
    });
  }
}

for (const [scale, center] of VARIANTS) {
  test(`it is one primitive each way: scale ${scale}, center ${center}`, async () => {
    await tf.setBackend('onednn');
    const { runtime } = tf.backend() as OneDnnBackend;
    const layer = layers.layerNormalization({ axis: -1, scale, center });
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
}
