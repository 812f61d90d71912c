/** The tape walk against `tf.variableGrads`: the same bits, given away early, nothing left behind. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { backward } from './backward.js';

await tf.setBackend('cpu');

function collect(loss: () => tf.Scalar, variables: tf.Variable[], lossScale?: number) {
  const gradients = new Map<tf.Variable, Float32Array>();
  const order: tf.Variable[] = [];
  const value = backward(
    loss,
    variables,
    (variable, gradient) => {
      assert.ok(!gradients.has(variable), 'a gradient is final once');
      gradients.set(variable, (gradient.dataSync() as Float32Array).slice());
      order.push(variable);
    },
    lossScale === undefined ? {} : { lossScale },
  );
  const number = value.dataSync()[0] as number;
  value.dispose();
  return { gradients, order, value: number };
}

function checkAgainstTensorFlow(loss: () => tf.Scalar, variables: tf.Variable[]): void {
  const before = tf.memory().numTensors;
  const mine = collect(loss, variables);
  assert.equal(tf.memory().numTensors, before, 'no tensor is left');
  const { value, grads } = tf.variableGrads(loss, variables);
  assert.equal(mine.value, value.dataSync()[0]);
  for (const variable of variables) {
    const expected = grads[variable.name];
    if (!expected) assert.ok(!mine.gradients.has(variable));
    else assert.deepEqual(mine.gradients.get(variable), expected.dataSync(), variable.name);
  }
  tf.dispose([value, grads]);
}

describe('backward', () => {
  test('a convolutional model with batch norm and pooling gives the bits of tf.variableGrads', () => {
    const model = tfl.sequential({
      layers: [
        tfl.layers.conv2d({ inputShape: [8, 8, 2], filters: 3, kernelSize: 3, padding: 'same', activation: 'relu' }),
        tfl.layers.batchNormalization(),
        tfl.layers.maxPooling2d({ poolSize: 2 }),
        tfl.layers.flatten(),
        tfl.layers.dense({ units: 4 }),
      ],
    });
    const variables = model.trainableWeights.map((weight) => weight.read() as tf.Variable);
    const x = tf.randomUniform([3, 8, 8, 2], -1, 1, 'float32', 5);
    const labels = tf.oneHot([1, 0, 3], 4);
    const loss = () =>
      tf.tidy(() => {
        const logits = model.apply(x, { training: true }) as tf.Tensor;
        return tf.losses.softmaxCrossEntropy(labels, logits) as tf.Scalar;
      });
    checkAgainstTensorFlow(loss, variables);
    model.dispose();
    tf.dispose([x, labels]);
  });

  test('variables used many times, through views, by gradients that hand out dy itself', () => {
    const a = tf.variable(tf.tensor1d([1, -2, 3]));
    const b = tf.variable(tf.tensor1d([0.5, 0.25, -1]));
    const unused = tf.variable(tf.scalar(4));
    // Its gradient function returns dy for both inputs: one tensor, twice, and not its own.
    const addLikeBefore = tf.customGrad((x, y) => ({
      value: tf.add(x as tf.Tensor, y as tf.Tensor),
      gradFunc: (dy: tf.Tensor) => [dy, dy],
    }));
    // Its gradient function hands out what was saved.
    const squareHalf = tf.customGrad((x, save) => {
      (save as (tensors: tf.Tensor[]) => void)([x as tf.Tensor]);
      return {
        value: tf.mul(0.5, tf.square(x as tf.Tensor)),
        gradFunc: (_dy: tf.Tensor, saved: tf.Tensor[]) => saved[0] as tf.Tensor,
      };
    });
    const loss = () =>
      tf.tidy(() => {
        const sum = addLikeBefore(a, b);
        const again = addLikeBefore(tf.reshape(sum, [3, 1]), tf.reshape(a, [3, 1]));
        return tf.sum(tf.add(squareHalf(tf.reshape(again, [3])), tf.mul(a, a))) as tf.Scalar;
      });
    checkAgainstTensorFlow(loss, [a, b, unused]);
    // And by hand: s = 2a + b, loss = Σ s²/2 + a²; d/da = 2s + 2a, d/db = s.
    const { gradients } = collect(loss, [a, b]);
    assert.deepEqual([...(gradients.get(a) as Float32Array)], [7, -11.5, 16]);
    assert.deepEqual([...(gradients.get(b) as Float32Array)], [2.5, -3.75, 5]);
    tf.dispose([a, b, unused]);
  });

  test('the last layer’s gradient comes first, and the loss scale multiplies all', () => {
    const first = tf.variable(tf.scalar(3));
    const last = tf.variable(tf.scalar(5));
    const loss = () => tf.mul(tf.square(first), last) as tf.Scalar;
    const plain = collect(loss, [first, last]);
    assert.deepEqual(plain.order, [last, first]);
    assert.deepEqual([...(plain.gradients.get(first) as Float32Array)], [30]);
    const scaled = collect(loss, [first, last], 128);
    assert.equal(scaled.value, 45);
    assert.deepEqual([...(scaled.gradients.get(last) as Float32Array)], [9 * 128]);
    tf.dispose([first, last]);
  });

  test('what cannot be differentiated is an error, and leaves nothing behind', () => {
    const variable = tf.variable(tf.tensor1d([1, 2]));
    const before = tf.memory().numTensors;
    const none = () => undefined;
    assert.throws(
      () => backward(() => tf.tidy(() => tf.square(variable)) as never, [variable], none),
      /must be a scalar tensor of float32, got a float32 tensor of shape \[2\]/,
    );
    assert.throws(() => backward(() => tf.scalar(1), [variable], none), /depends on none of the variables/);
    assert.throws(
      () =>
        backward(
          () => {
            throw new Error('mine');
          },
          [variable],
          none,
        ),
      /mine/,
    );
    const loss = () => tf.sum(tf.square(variable)) as tf.Scalar;
    assert.throws(
      () =>
        backward(loss, [variable], () => {
          throw new Error('callback');
        }),
      /callback/,
    );
    assert.equal(tf.engine().state.gradientDepth, 0);
    assert.equal(tf.memory().numTensors, before);
    variable.dispose();
  });
});
