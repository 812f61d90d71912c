/**
 * Whole networks that meet NaN or infinity: in training one bad batch after the step was recorded, in inference bad weights or a
 * bad input. What they say is what they say on TensorFlow.js' `cpu`: nothing is hidden, whatever was fused.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { input, type LayersModel, layers, model, type SymbolicTensor, sequential } from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from './backend.js';
import { BACKEND_NAME } from './kernels/kernel.js';
import { setRunEagerly } from './tfjs/fit-program.js';
import './testing/backend.js';

const data = (shape: number[], of: (i: number) => number) =>
  tf.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => of(i)),
    shape,
  );

const relu = (x: SymbolicTensor) => layers.activation({ activation: 'relu' }).apply(x) as SymbolicTensor;

function convolve(x: SymbolicTensor, filters: number): SymbolicTensor {
  return layers.conv2d({ filters, kernelSize: 3, padding: 'same', useBias: false }).apply(x) as SymbolicTensor;
}

const normalize = (x: SymbolicTensor) => layers.batchNormalization().apply(x) as SymbolicTensor;

/** Two blocks with shortcuts, in channel blocks from the first convolution on. */
function residual(shape: number[]): LayersModel {
  const images = input({ shape });
  let x = relu(normalize(convolve(images, 16)));
  for (let block = 0; block < 2; block++) {
    const y = normalize(convolve(relu(normalize(convolve(x, 16))), 16));
    x = relu(layers.add().apply([y, x]) as SymbolicTensor);
  }
  const pooled = layers.globalAveragePooling2d({}).apply(x);
  return model({ inputs: images, outputs: layers.dense({ units: 1 }).apply(pooled) as SymbolicTensor });
}

const image = [6, 6, 3];
const pooledHead = () => [layers.globalAveragePooling2d({}), layers.dense({ units: 1 })];
const dense = (activation: string) => () =>
  sequential({
    layers: [
      layers.dense({ units: 128, activation: activation as 'relu', inputShape: [16] }),
      layers.dense({ units: 128, activation: activation as 'relu' }),
      layers.dense({ units: 1 }),
    ],
  });
const networks: Readonly<Record<string, readonly [number[], () => LayersModel]>> = {
  ...Object.fromEntries(
    ['relu', 'relu6', 'elu', 'sigmoid', 'softmax'].map((activation) => [
      `dense, ${activation}`,
      [[16], dense(activation)] as const,
    ]),
  ),
  'residual network': [image, () => residual(image)],
  'convolutions with ReLU': [
    image,
    () =>
      sequential({
        layers: [
          layers.conv2d({ filters: 16, kernelSize: 3, activation: 'relu', inputShape: image }),
          layers.conv2d({ filters: 32, kernelSize: 3, activation: 'relu' }),
          ...pooledHead(),
        ],
      }),
  ],
  'convolution, ReLU, max pooling': [
    image,
    () =>
      sequential({
        layers: [
          layers.conv2d({ filters: 16, kernelSize: 3, inputShape: image }),
          layers.reLU(),
          layers.maxPooling2d({ poolSize: 2 }),
          ...pooledHead(),
        ],
      }),
  ],
  'depthwise, batch norm, ReLU6': [
    image,
    () =>
      sequential({
        layers: [
          layers.conv2d({ filters: 16, kernelSize: 1, inputShape: image }),
          layers.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 1 }),
          layers.batchNormalization(),
          layers.reLU({ maxValue: 6 }),
          ...pooledHead(),
        ],
      }),
  ],
  'layer norm, ReLU': [
    [16],
    () =>
      sequential({
        layers: [
          layers.dense({ units: 128, inputShape: [16] }),
          layers.layerNormalization(),
          layers.reLU(),
          layers.dense({ units: 1 }),
        ],
      }),
  ],
  LSTM: [
    [4, 16],
    () =>
      sequential({
        layers: [
          layers.lstm({ units: 8, recurrentInitializer: 'glorotUniform', inputShape: [4, 16] }),
          layers.dense({ units: 1 }),
        ],
      }),
  ],
  GRU: [
    [4, 16],
    () =>
      sequential({
        layers: [
          layers.gru({ units: 8, recurrentInitializer: 'glorotUniform', inputShape: [4, 16] }),
          layers.dense({ units: 1 }),
        ],
      }),
  ],
};

/** The same network of numbers that do not depend on the backend. */
function made(make: () => LayersModel): LayersModel {
  const net = make();
  net.setWeights(
    net.getWeights().map((w, k) =>
      // Of a batch norm four in a row: scale, offset, mean, variance.
      data(w.shape, (i) => (/variance|gamma/.test((w as tf.Variable).name) ? 1 : 0.3 * Math.sin(7 * i + k))),
    ),
  );
  return net;
}

const counts = (net: LayersModel) =>
  net.getWeights().map((w) => (w.dataSync() as Float32Array).filter(Number.isNaN).length);

function assertSame(actual: number, expected: number, what: string): void {
  if (Number.isFinite(expected)) {
    assert.ok(
      Math.abs(actual - expected) <= 1e-2 * Math.max(1, Math.abs(expected)),
      `${what}: ${actual}, not ${expected}`,
    );
  } else assert.ok(Object.is(actual, expected), `${what}: ${actual}, not ${expected}`);
}

const BATCH = 4;
const BAD = 6;

async function train([shape, make]: (typeof networks)[string], value: number, where: 'images' | 'targets') {
  const net = made(make);
  net.compile({ optimizer: tf.train.sgd(1e-3), loss: 'meanSquaredError' });
  const losses: number[] = [];
  let broken: number[] = [];
  for (let step = 0; step < BAD + 2; step++) {
    const isBad = step === BAD;
    const x = data([BATCH, ...shape], (i) => (isBad && where === 'images' && i === 3 ? value : Math.sin(3 * i + step)));
    const y = data([BATCH, 1], (i) => (isBad && where === 'targets' && i === 3 ? value : 1));
    losses.push((await net.trainOnBatch(x, y)) as number);
    if (isBad) broken = counts(net);
  }
  setRunEagerly(net, true); // gives its place to the next: four models at a time are recorded
  net.dispose();
  return { losses, broken };
}

describe('a bad batch after the step was recorded', () => {
  for (const [name, network] of Object.entries(networks)) {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const where of ['images', 'targets'] as const) {
        it(`${name}: ${value} among the ${where}`, async () => {
          await tf.setBackend('cpu');
          const expected = await train(network, value, where);
          await tf.setBackend(BACKEND_NAME);
          const actual = await train(network, value, where);
          for (const [step, loss] of expected.losses.entries())
            assertSame(actual.losses[step] as number, loss, `loss ${step}`);
          // Whether an infinity meets a 0, and so is NaN, may be a matter of rounding.
          const seen = (broken: number[]) => (Number.isNaN(value) ? broken : broken.map((count) => count > 0));
          assert.deepEqual(seen(actual.broken), seen(expected.broken), 'NaN in each weight after the bad batch');
        });
      }
    }
  }
});

describe('inference', () => {
  const rows = async (
    network: (typeof networks)[string],
    plant: (net: LayersModel, x: tf.Tensor) => void,
    count: number,
  ) => {
    const [shape, make] = network;
    const net = made(make);
    const x = data([count, ...shape], (i) => Math.sin(3 * i));
    plant(net, x);
    const results = net.predict(x) as tf.Tensor;
    return Array.from(await results.data());
  };
  const plants: Readonly<Record<string, (value: number) => (net: LayersModel, x: tf.Tensor) => void>> = {
    'in an input': (value) => (_, x) => {
      (x.dataSync() as Float32Array)[1] = value;
    },
    ...Object.fromEntries(
      ['first', 'second'].map((which, k) => [
        `in the ${which} weight`,
        (value: number) => (net: LayersModel) => {
          const weights = net.getWeights().map((w) => w.clone());
          const values = (weights[k] as tf.Tensor).dataSync().slice() as Float32Array;
          values[values.length >> 1] = value;
          weights[k] = tf.tensor(values, (weights[k] as tf.Tensor).shape);
          net.setWeights(weights);
        },
      ]),
    ),
  };
  for (const [name, network] of Object.entries(networks)) {
    for (const [where, plant] of Object.entries(plants)) {
      it(`${name}: what is not finite ${where}`, async () => {
        for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
          for (const count of [1, 5]) {
            await tf.setBackend('cpu');
            const expected = await rows(network, plant(value), count);
            await tf.setBackend(BACKEND_NAME);
            const actual = await rows(network, plant(value), count);
            for (const [i, y] of expected.entries())
              assertSame(actual[i] as number, y, `${value}, row ${i} of ${count}`);
          }
        }
      });
    }
  }
});

describe('bf16', () => {
  let backend: OneDnnBackend;
  before(async () => {
    await tf.setBackend(BACKEND_NAME);
    backend = tf.backend() as OneDnnBackend;
  });
  after(() => {
    backend.precision = 'f32';
  });
  it('does not hide a NaN either, in training or inference', async (context) => {
    if (!backend.runtime.hasAvx512)
      return context.skip('this CPU has no AVX-512, with which bf16 is computed or emulated');
    backend.precision = backend.runtime.hasBf16 ? 'bf16' : 'bf16_emulated';
    const network = networks['residual network'] as (typeof networks)[string];
    const { losses, broken } = await train(network, Number.NaN, 'images');
    assert.ok(Number.isFinite(losses[BAD - 1] as number));
    assert.ok(Number.isNaN(losses[BAD] as number));
    assert.ok(
      broken.every((count) => count > 0),
      `${broken}`,
    );
    const net = made(network[1]);
    net.setWeights(net.getWeights().map((w, i) => (i === 0 ? tf.fill(w.shape, Number.NaN) : w)));
    const y = (net.predict(data([4, ...image], (i) => Math.sin(i))) as tf.Tensor).dataSync();
    assert.ok(y.every(Number.isNaN), `${y}`);
  });
});
