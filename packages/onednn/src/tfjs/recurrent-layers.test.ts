/** Recurrent layers on 'onednn' compute and train as on `cpu`, through one kernel a step. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { initializers, type layers as Layers, layers, sequential } from '@tensorflow/tfjs-layers';
import { assertGradientIsSlope } from '../kernels/testing/kernels.js';
import { assertClose, run, sample, toTensor } from '../testing/backend.js';

type Kind = 'lstm' | 'gru' | 'simpleRNN';
type Args = Record<string, unknown>;
type Layer = ReturnType<typeof Layers.lstm>;

const KERNELS: Record<Kind, string> = {
  lstm: 'LSTMBlockCell',
  gru: 'GRUBlockCell',
  simpleRNN: 'SimpleRNNBlockCell',
};
const KINDS = Object.keys(KERNELS) as Kind[];

const make = (kind: Kind, args: Args) => (layers[kind] as unknown as (args: Args) => Layer)(args);

async function train(backend: string, kind: Kind, args: Args, units: number): Promise<number[][]> {
  await tf.setBackend(backend);
  const glorot = (seed: number) => initializers.glorotNormal({ seed });
  const model = sequential();
  const common = { kernelInitializer: glorot(1), recurrentInitializer: glorot(2), units };
  model.add(make(kind, { inputShape: [5, 3], returnSequences: true, ...common, ...args }));
  model.add(make(kind, { ...common, ...args, kernelInitializer: glorot(3) }));
  model.add(layers.dense({ units: 2, kernelInitializer: glorot(4) }));
  model.compile({ optimizer: tf.train.sgd(0.05), loss: 'meanSquaredError' });
  const x = tf.mul(toTensor(sample([7, 5, 3], 1)), 4);
  const y = toTensor(sample([7, 2], 2));
  const losses: number[] = [];
  for (let step = 0; step < 5; step++) losses.push((await model.trainOnBatch(x, y)) as number);
  const predictions = model.predict(x) as tf.Tensor;
  return [losses, predictions, ...model.getWeights()].map((values) =>
    Array.from(Array.isArray(values) ? values : values.dataSync()),
  );
}

/** What kernels a layer runs on 'onednn', forward and backward. */
async function kernelsOf(layer: Layer): Promise<string[]> {
  await tf.setBackend('onednn');
  const x = toTensor(sample([2, 6, 3], 1));
  layer.apply(x);
  const loss = () => tf.sum(layer.apply(x) as tf.Tensor) as tf.Scalar;
  const { kernels } = await tf.profile(() => Object.values(tf.variableGrads(loss).grads));
  return kernels.map(({ name }) => name);
}

describe('five training steps of two layers equal those of the cpu backend', () => {
  const variants: Args[] = [
    {},
    { recurrentActivation: 'sigmoid' },
    { useBias: false },
    { activation: 'relu' },
    { goBackwards: true, biasInitializer: 'ones' },
  ];
  for (const kind of KINDS) {
    test(kind, async () => {
      for (const args of variants) {
        for (const units of [1, 4, 80]) {
          const expected = await train('cpu', kind, args, units);
          const actual = await train('onednn', kind, args, units);
          actual.forEach((values, i) => {
            const what = `${kind} ${JSON.stringify(args)} ${units} result ${i}`;
            assertClose(values, expected[i] as number[], 2e-4, what);
          });
        }
      }
    });
  }
});

test('a step is one kernel forward and one backward; what the kernel does not compute stays as it was', async () => {
  for (const kind of KINDS) {
    const names = await kernelsOf(make(kind, { units: 8, recurrentInitializer: 'glorotNormal' }));
    const count = (name: string) => names.filter((one) => one === name).length;
    assert.equal(count(KERNELS[kind]), 6, `${kind}: ${names}`);
    assert.equal(count(`${KERNELS[kind]}Grad`), 6, kind);
    for (const name of ['Tanh', 'TanhGrad', 'ClipByValue']) assert.equal(count(name), 0, `${kind}: ${name}`);
    for (const args of [{ activation: 'relu' }, { dropout: 0.5 }, { recurrentDropout: 0.5 }]) {
      const others = await kernelsOf(make(kind, { units: 8, recurrentInitializer: 'glorotNormal', ...args }));
      assert.ok(!others.includes(KERNELS[kind]), `${kind} ${JSON.stringify(args)}`);
    }
  }
});

/** So small that a hard sigmoid does not meet its corners, where slopes jump. */
const small = (shape: number[], seed: number) => {
  const { values } = sample(shape, seed);
  return { shape, values: Float32Array.from(values, (value) => 0.1 * value) };
};

const SIZES: [number, number][] = [
  [1, 1],
  [1, 5],
  [4, 1],
  [2, 3],
  [20, 30],
];

test('the gradients of a step are its slopes', async () => {
  for (const [n, units] of SIZES) {
    for (const recurrentActivation of ['sigmoid', 'hardSigmoid']) {
      const attrs = { recurrentActivation };
      const lstm = (z: tf.Tensor, c: tf.Tensor) => {
        const [h, next] = run('LSTMBlockCell', { z, c }, attrs) as [tf.Tensor, tf.Tensor];
        return tf.concat([h, next], 1);
      };
      const gru = (x: tf.Tensor, h: tf.Tensor, kernel: tf.Tensor) =>
        run('GRUBlockCell', { x, h, kernel }, attrs)[0] as tf.Tensor;
      const as = (f: unknown) => f as (...x: tf.Tensor[]) => tf.Tensor;
      await assertGradientIsSlope(
        as(lstm),
        [sample([n, 4 * units], 3), sample([n, units], 4)],
        `LSTM ${recurrentActivation}`,
      );
      await assertGradientIsSlope(
        as(gru),
        [sample([n, 3 * units], 3), small([n, units], 4), sample([units, 3 * units], 5)],
        `GRU ${recurrentActivation}`,
      );
    }
    await assertGradientIsSlope(
      ((x: tf.Tensor, h: tf.Tensor, kernel: tf.Tensor) =>
        run('SimpleRNNBlockCell', { x, h, kernel })[0] as tf.Tensor) as (...x: tf.Tensor[]) => tf.Tensor,
      [sample([n, units], 3), small([n, units], 4), sample([units, units], 5)],
      'simple',
    );
  }
});

test('a hard sigmoid has its slope at both ends, inclusively, and NaN and infinities go where they go on cpu', async () => {
  // Gates of 0.2·x + 0.5 at exactly 0 and 1, beyond, and with what is no number.
  const values = [-2.5, 2.5, -3, 3, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0.5];
  for (const kind of ['gru', 'simpleRNN'] as Kind[]) {
    const results: number[][] = [];
    for (const backend of ['cpu', 'onednn']) {
      await tf.setBackend(backend);
      const cell = make(kind, {
        units: 2,
        kernelInitializer: 'ones',
        recurrentInitializer: 'zeros',
        returnSequences: true,
      });
      const x = tf.tensor(values, [values.length / 2, 2, 1]);
      const f = (input: tf.Tensor) => tf.sum(cell.apply(input) as tf.Tensor) as tf.Scalar;
      const output = cell.apply(x) as tf.Tensor;
      results.push([...(output.dataSync() as Float32Array)], [...(tf.grad(f)(x).dataSync() as Float32Array)]);
    }
    assertClose(results[2] as number[], results[0] as number[], 1e-6, `${kind} values`);
    assertClose(results[3] as number[], results[1] as number[], 1e-6, `${kind} gradients`);
  }
});
