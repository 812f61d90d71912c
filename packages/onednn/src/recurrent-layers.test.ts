/** LSTM layers on 'onednn' compute and train as on `cpu`, through one kernel for the gates. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { initializers, layers, sequential } from '@tensorflow/tfjs-layers';
import { assertGradientIsSlope } from './kernels/testing-kernels.js';
import { assertClose, run, sample, toTensor } from './testing.js';

type LstmArgs = Parameters<typeof layers.lstm>[0];

async function train(backend: string, args: Partial<LstmArgs>, units: number): Promise<number[][]> {
  await tf.setBackend(backend);
  const glorot = (seed: number) => initializers.glorotNormal({ seed });
  const model = sequential();
  const common = { kernelInitializer: glorot(1), recurrentInitializer: glorot(2), units };
  model.add(layers.lstm({ inputShape: [5, 3], returnSequences: true, ...common, ...args } as LstmArgs));
  model.add(layers.lstm({ ...common, ...args, kernelInitializer: glorot(3) } as LstmArgs));
  model.add(layers.dense({ units: 2, kernelInitializer: glorot(4) }));
  model.compile({ optimizer: tf.train.sgd(0.3), loss: 'meanSquaredError' });
  const x = tf.mul(toTensor(sample([7, 5, 3], 1)), 4);
  const y = toTensor(sample([7, 2], 2));
  const losses: number[] = [];
  for (let step = 0; step < 5; step++) losses.push((await model.trainOnBatch(x, y)) as number);
  const predictions = model.predict(x) as tf.Tensor;
  return [losses, predictions, ...model.getWeights()].map((values) =>
    Array.from(Array.isArray(values) ? values : values.dataSync()),
  );
}

test('five training steps of two LSTM layers equal those of the cpu backend', async () => {
  const variants: Partial<LstmArgs>[] = [
    {},
    { recurrentActivation: 'sigmoid' },
    { useBias: false },
    { activation: 'relu' },
  ];
  for (const args of variants) {
    for (const units of [4, 80]) {
      const expected = await train('cpu', args, units);
      const actual = await train('onednn', args, units);
      actual.forEach((values, i) => {
        assertClose(values, expected[i] as number[], 2e-4, `${JSON.stringify(args)} ${units} result ${i}`);
      });
    }
  }
});

test('the gates are one kernel', async () => {
  await tf.setBackend('onednn');
  const layer = layers.lstm({ units: 8, recurrentInitializer: 'glorotNormal' });
  const x = toTensor(sample([2, 6, 3], 1));
  layer.apply(x);
  const { kernelNames } = await tf.profile(() => layer.apply(x) as tf.Tensor);
  assert.ok(kernelNames.includes('LSTMBlockCell'));
  assert.ok(!kernelNames.includes('Tanh') && !kernelNames.includes('ClipByValue'));
});

test('the gradient of the gates is their slope', async () => {
  for (const recurrentActivation of ['sigmoid', 'hardSigmoid']) {
    for (const [n, units] of [
      [2, 3],
      [20, 30],
    ] as [number, number][]) {
      const cell = (z: tf.Tensor, c: tf.Tensor) => {
        const [h, next] = run('LSTMBlockCell', { z, c }, { recurrentActivation }) as [tf.Tensor, tf.Tensor];
        return tf.concat([h, next], 1);
      };
      await assertGradientIsSlope(
        cell as (...x: tf.Tensor[]) => tf.Tensor,
        [sample([n, 4 * units], 3), sample([n, units], 4)],
        recurrentActivation,
      );
    }
  }
});
