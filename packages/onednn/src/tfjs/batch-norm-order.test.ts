/**
 * Results that are put off until they are read, read in another order than a plain network's: batch norms whose output nobody
 * has read when their averages are, that are called again before, that are disposed. As on TensorFlow.js' `cpu`.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { input, type LayersModel, layers, model, type SymbolicTensor, sequential } from '@tensorflow/tfjs-layers';
import { BACKEND_NAME } from '../kernels/kernel.js';
import { run } from '../testing/backend.js';

const data = (shape: number[], k: number) =>
  tf.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(3 * i + k)),
    shape,
  );

const encoder = (convolves = false) =>
  sequential({
    layers: convolves
      ? [
          layers.conv2d({
            filters: 16,
            kernelSize: 3,
            padding: 'same',
            inputShape: [6, 6, 3],
            kernelInitializer: 'ones',
          }),
          layers.batchNormalization({ momentum: 0.5 }),
          layers.flatten(),
        ]
      : [
          layers.dense({ units: 64, inputShape: [8], kernelInitializer: 'ones' }),
          layers.batchNormalization({ momentum: 0.5 }),
        ],
  });

const shapeOf = (net: LayersModel) => [64, ...((net.inputs[0] as SymbolicTensor).shape.slice(1) as number[])];
const values = (net: LayersModel) => net.getWeights().map((w) => Array.from(w.dataSync()));
const apply = (net: LayersModel, x: tf.Tensor) => net.apply(x, { training: true }) as tf.Tensor;

function siamese(net: LayersModel): LayersModel {
  const shape = shapeOf(net).slice(1);
  const [a, b] = [input({ shape }), input({ shape })];
  const views = [net.apply(a), net.apply(b)] as SymbolicTensor[];
  return model({ inputs: [a, b], outputs: layers.concatenate().apply(views) as SymbolicTensor });
}

/** What a program does with an encoder; what is compared are all of its weights. */
const programs: Readonly<Record<string, (net: LayersModel) => unknown>> = {
  'forward passes whose result is thrown away': (net) => {
    for (let i = 0; i < 3; i++) tf.tidy(() => void apply(net, data(shapeOf(net), i)));
  },
  'averages read between forward passes': (net) => {
    for (let i = 0; i < 3; i++) {
      tf.tidy(() => {
        const y = apply(net, data(shapeOf(net), i));
        values(net);
        if (i % 2 === 0) y.dataSync();
      });
    }
  },
  'two views, the second read first': (net) => {
    tf.tidy(() => {
      const [a, b] = [apply(net, data(shapeOf(net), 1)), apply(net, data(shapeOf(net), 2))];
      b.dataSync();
      values(net);
      a.dataSync();
    });
  },
  'two views, the first disposed': (net) => {
    tf.tidy(() => {
      const [a, b] = [apply(net, data(shapeOf(net), 1)), apply(net, data(shapeOf(net), 2))];
      a.dispose();
      tf.relu(b).dataSync();
    });
  },
  'a ReLU of one view, the other read': (net) => {
    tf.tidy(() => {
      const [a, b] = [apply(net, data(shapeOf(net), 1)), apply(net, data(shapeOf(net), 2))];
      tf.add(tf.relu(a), b).dataSync();
      tf.relu(a).dataSync();
    });
  },
  'contrastive, own loop': (net) => {
    const variables = net.trainableWeights.map((weight) => weight.read() as tf.Variable);
    const optimizer = tf.train.sgd(1e-3);
    for (let i = 0; i < 3; i++) {
      optimizer.minimize(
        () => {
          const [a, b] = [apply(net, data(shapeOf(net), i)), apply(net, data(shapeOf(net), i + 9))];
          return tf.mean(tf.square(tf.sub(a, b))) as tf.Scalar;
        },
        false,
        variables,
      );
    }
  },
  'contrastive, one view without gradient': (net) => {
    const variables = net.trainableWeights.map((weight) => weight.read() as tf.Variable);
    const optimizer = tf.train.adam(1e-3);
    for (let i = 0; i < 3; i++) {
      const target = tf.tidy(() => apply(net, data(shapeOf(net), i + 9)));
      optimizer.minimize(
        () => tf.mean(tf.square(tf.sub(tf.tanh(apply(net, data(shapeOf(net), i))), target))) as tf.Scalar,
        false,
        variables,
      );
    }
  },
  'siamese, trained with a loss of its own': async (net) => {
    const both = siamese(net);
    const loss = (_: tf.Tensor, p: tf.Tensor) => {
      const [a, b] = tf.split(p, 2, 1) as [tf.Tensor, tf.Tensor];
      return tf.mean(tf.square(tf.sub(a, b)));
    };
    both.compile({ optimizer: tf.train.sgd(1e-3), loss });
    const size = both.outputs[0]?.shape[1] as number;
    for (let i = 0; i < 2; i++) {
      await both.trainOnBatch([data(shapeOf(net), i), data(shapeOf(net), i + 9)], tf.zeros([64, size]));
    }
  },
  'siamese, trained until it is recorded': async (net) => {
    const both = siamese(net);
    both.compile({ optimizer: tf.train.sgd(1e-3), loss: 'meanSquaredError' });
    const size = both.outputs[0]?.shape[1] as number;
    for (let i = 0; i < 7; i++) {
      await both.trainOnBatch([data(shapeOf(net), i), data(shapeOf(net), i + 9)], tf.zeros([64, size]));
    }
  },
  'statistics estimated anew before inference': (net) => {
    for (let i = 0; i < 4; i++) tf.tidy(() => void apply(net, data(shapeOf(net), i)));
    (net.predict(data(shapeOf(net), 5)) as tf.Tensor).dataSync();
  },
};

describe('a batch norm whose result is read late, or never', () => {
  for (const convolves of [false, true]) {
    for (const [name, program] of Object.entries(programs)) {
      it(`${convolves ? 'convolution' : 'dense'}: ${name}`, async () => {
        const weights: number[][][] = [];
        for (const backend of ['cpu', BACKEND_NAME]) {
          await tf.setBackend(backend);
          const net = encoder(convolves);
          await program(net);
          weights.push(values(net));
        }
        const [expected, actual] = weights as [number[][], number[][]];
        for (const [k, list] of expected.entries()) {
          for (const [i, value] of list.entries()) {
            const got = actual[k]?.[i] as number;
            assert.ok(
              Math.abs(got - value) < 2e-3 * Math.max(1, Math.abs(value)),
              `weight ${k}[${i}]: ${got}, not ${value}`,
            );
          }
        }
      });
    }
  }

  it('any order of reading, disposing and ReLU of its three results gives the same values', async () => {
    await tf.setBackend(BACKEND_NAME);
    const inputs = { x: data([64, 40], 1), scale: data([40], 2), offset: data([40], 3) };
    const norm = () => run('FusedBatchNormV3', inputs, { epsilon: 1e-3, activation: 'linear' });
    const expected = norm().map((result) => result.dataSync().slice() as Float32Array);
    const positive = expected[0]?.map((value) => Math.max(0, value)) as Float32Array;
    const orders = [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ];
    for (const order of orders) {
      for (let actions = 0; actions < 3 ** 3; actions++) {
        const results = norm();
        for (const [turn, which] of order.entries()) {
          const action = Math.floor(actions / 3 ** turn) % 3;
          const result = results[which] as tf.Tensor;
          const what = `${order}, ${actions}: result ${which}`;
          if (action === 0) assert.deepEqual(result.dataSync(), expected[which], what);
          else if (action === 1) result.dispose();
          else if (which === 0) assert.deepEqual(tf.relu(result).dataSync(), positive, `ReLU, ${what}`);
          else assert.deepEqual(tf.add(result, 0).dataSync(), expected[which], `sum, ${what}`);
        }
        tf.dispose(results);
      }
    }
  });
});
