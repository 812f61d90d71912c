/**
 * Gradients of gradients: a penalty on the length of a critic's gradient (Gulrajani et al., arXiv:1704.00028) through every layer
 * whose gradient is a kernel of ours. The value and its gradient are TensorFlow.js' `cpu`'s, and the gradient is the slope that
 * the value itself shows, but for layers that end in tanh or sigmoid: there TensorFlow.js leaves out a term, because a gradient
 * that was saved from a result does not know where the result came from. Here it is left out too: a model trains as there.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { layers, regularizers, type Sequential, sequential } from '@tensorflow/tfjs-layers';
import { BACKEND_NAME } from '../kernels/kernel.js';
import '../testing/backend.js';

type Layer = Parameters<Sequential['add']>[0];

const data = (shape: number[], k: number) =>
  tf.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(3 * i + k)),
    shape,
  );

const units = { units: 4, recurrentInitializer: 'glorotUniform' } as const;
const folded = (layer: Layer): Layer[] => [layers.reshape({ targetShape: [3, 2], inputShape: [6] }), layer];
const after = (...rest: Layer[]): Layer[] => [layers.dense({ units: 8, inputShape: [6] }), ...rest];
/** Curved, and its gradient is made of its input. */
const softplus = () => layers.activation({ activation: 'softplus' });
/** Layers whose second derivative lacks a term in TensorFlow.js. */
const INCOMPLETE = new Set(['simple RNN', 'LSTM, sigmoid', 'GRU, sigmoid', 'sigmoid', 'tanh', 'softmax']);
const image = (...rest: Layer[]): Layer[] => [
  layers.dense({ units: 64, inputShape: [6], activation: 'softplus' }),
  layers.reshape({ targetShape: [4, 4, 4] }),
  ...rest,
];

const critics: Readonly<Record<string, () => Layer[]>> = {
  'batch norm': () => after(layers.batchNormalization(), softplus()),
  'batch norm, ReLU': () => after(layers.batchNormalization(), layers.activation({ activation: 'relu' }), softplus()),
  'batch norm of images': () => image(layers.batchNormalization(), softplus(), layers.flatten()),
  'layer norm': () => after(layers.layerNormalization(), softplus()),
  'layer norm of steps': () => [...folded(layers.layerNormalization()), softplus(), layers.flatten()],
  'simple RNN': () => folded(layers.simpleRNN(units)),
  'LSTM, sigmoid': () => folded(layers.lstm({ ...units, recurrentActivation: 'sigmoid' })),
  'GRU, sigmoid': () => folded(layers.gru({ ...units, recurrentActivation: 'sigmoid' })),
  'global average pooling': () => image(layers.globalAveragePooling2d({}), softplus()),
  ReLU: () => after(layers.activation({ activation: 'relu' }), softplus()),
  sigmoid: () => after(layers.activation({ activation: 'sigmoid' })),
  tanh: () => after(layers.activation({ activation: 'tanh' })),
  softmax: () => after(layers.softmax({})),
  'L2 penalty': () => [
    layers.dense({ units: 8, inputShape: [6], kernelRegularizer: regularizers.l2({ l2: 0.1 }) }),
    softplus(),
  ],
};

function made(make: () => Layer[]): Sequential {
  const critic = sequential({ layers: [...make(), layers.dense({ units: 1 })] });
  critic.setWeights(
    critic.getWeights().map((w, k) => (/variance/.test((w as tf.Variable).name) ? tf.ones(w.shape) : data(w.shape, k))),
  );
  return critic;
}

function penalty(critic: Sequential, x: tf.Tensor): tf.Scalar {
  const slope = tf.grad((z) => tf.sum(critic.apply(z, { training: true }) as tf.Tensor))(x);
  return tf.mean(tf.square(tf.sub(tf.norm(slope, 2, 1), 1))) as tf.Scalar;
}

interface Outcome {
  readonly value: number;
  readonly gradients: readonly Float32Array[];
}

function outcome(critic: Sequential): Outcome {
  const variables = critic.trainableWeights.map((weight) => weight.read() as tf.Variable);
  const { value, grads } = tf.variableGrads(() => penalty(critic, data([5, 6], 3)), variables);
  return {
    value: value.dataSync()[0] as number,
    gradients: variables.map(({ name, size }) => (grads[name]?.dataSync() as Float32Array) ?? new Float32Array(size)),
  };
}

describe('a penalty on a gradient', () => {
  for (const [name, make] of Object.entries(critics)) {
    it(`through ${name}: value and gradient are those of cpu, and slopes`, async () => {
      await tf.setBackend('cpu');
      const expected = outcome(made(make));
      await tf.setBackend(BACKEND_NAME);
      const critic = made(make);
      const actual = outcome(critic);
      assert.ok(
        Math.abs(actual.value - expected.value) < 1e-3 * Math.max(1, expected.value),
        `${actual.value}, ${expected.value}`,
      );
      for (const [k, want] of expected.gradients.entries()) {
        const got = actual.gradients[k] as Float32Array;
        assert.equal(got.length, want.length);
        for (const [i, slope] of want.entries()) {
          const error = Math.abs((got[i] as number) - slope);
          assert.ok(error < 2e-3 * Math.max(1, Math.abs(slope)), `weight ${k}[${i}]: ${got[i]}, not ${slope}`);
        }
      }
      if (INCOMPLETE.has(name)) return;
      // The first weight's gradient in its own direction, by central differences of the value.
      const weight = critic.trainableWeights[0]?.read() as tf.Variable;
      const gradient = actual.gradients[0] as Float32Array;
      const length = Math.hypot(...gradient);
      const start = weight.dataSync().slice() as Float32Array;
      const at = (step: number) => {
        weight.assign(
          tf.tensor(
            start.map((w, i) => w + (step * (gradient[i] as number)) / length),
            weight.shape,
          ),
        );
        return tf.tidy(() => penalty(critic, data([5, 6], 3)).dataSync()[0] as number);
      };
      const step = 4e-3;
      const slope = (at(step) - at(-step)) / (2 * step);
      assert.ok(
        Math.abs(slope - length) < 5e-2 * Math.max(1, length),
        `slope ${slope}, length of the gradient ${length}`,
      );
    });
  }
});

describe('a third derivative', () => {
  for (const layer of ['batchNormalization', 'layerNormalization'] as const) {
    it(`through ${layer} is that of cpu, and a slope`, async () => {
      const once = (f: (x: tf.Tensor) => tf.Tensor) => (x: tf.Tensor) => tf.sum(tf.square(tf.grad(f)(x)));
      const x = () => data([3, 6], 2);
      const twiceOf = () => {
        const net = made(() => [layers.dense({ units: 8, inputShape: [6] }), layers[layer]()]);
        return once(
          once((input) => {
            const y = net.apply(input, { training: true }) as tf.Tensor;
            return tf.sum(tf.mul(tf.square(y), y));
          }),
        );
      };
      await tf.setBackend('cpu');
      const expected = tf.grad(twiceOf())(x()).dataSync() as Float32Array;
      await tf.setBackend(BACKEND_NAME);
      const twice = twiceOf();
      const actual = tf.grad(twice)(x()).dataSync() as Float32Array;
      const length = Math.hypot(...expected);
      for (const [i, value] of expected.entries()) {
        assert.ok(Math.abs((actual[i] as number) - value) < 5e-3 * length, `${i}: ${actual[i]}, not ${value}`);
      }
      const start = x().dataSync() as Float32Array;
      const at = (step: number) => {
        const moved = start.map((value, i) => value + (step * (actual[i] as number)) / length);
        return twice(tf.tensor(moved, [3, 6])).dataSync()[0] as number;
      };
      const slope = (at(1e-3) - at(-1e-3)) / 2e-3;
      assert.ok(Math.abs(slope - length) < 2e-2 * length, `slope ${slope}, length of the gradient ${length}`);
    });
  }
});
