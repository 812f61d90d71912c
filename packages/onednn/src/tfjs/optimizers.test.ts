/** TensorFlow.js' optimizers on 'onednn' train as on `cpu`: same weights, same state, and nobody else's tensors change. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { assertClose, sample, toTensor } from '../testing/backend.js';

const OPTIMIZERS: Record<string, () => tf.Optimizer> = {
  sgd: () => tf.train.sgd(0.1),
  momentum: () => tf.train.momentum(0.05, 0.9),
  nesterov: () => tf.train.momentum(0.05, 0.9, true),
  adam: () => tf.train.adam(0.01),
  'adam with other constants': () => tf.train.adam(0.02, 0.8, 0.95, 1e-3),
  rmsprop: () => tf.train.rmsprop(0.01),
  'rmsprop with momentum': () => tf.train.rmsprop(0.01, 0.8, 0.5, 1e-4),
  'centered rmsprop': () => tf.train.rmsprop(0.01, 0.9, 0.3, 1e-3, true),
  adagrad: () => tf.train.adagrad(0.1),
};

/** Weights after some steps of Σ(w·x)²·k, and the optimizer's own. */
async function train(backend: string, make: () => tf.Optimizer, shapes: number[][], steps: number) {
  await tf.setBackend(backend);
  const optimizer = make();
  const variables = shapes.map((shape, i) => tf.variable(toTensor(sample(shape, i + 1))));
  const inputs = shapes.map((shape, i) => toTensor(sample(shape, i + 50)));
  for (let step = 0; step < steps; step++) {
    const gradients: Record<string, tf.Tensor> = {};
    variables.forEach((variable, i) => {
      // In closed form, so that both backends get the same bits.
      gradients[variable.name] = tf.tidy(() =>
        tf.tensor(
          Float32Array.from(variable.dataSync(), (w, k) => w * (inputs[i]!.dataSync()[k]! * (step + 1))),
          variable.shape,
        ),
      );
    });
    optimizer.applyGradients(gradients);
    tf.dispose(gradients);
  }
  const state = await optimizer.getWeights();
  const results = {
    weights: variables.map((variable) => Array.from(variable.dataSync())),
    state: state.slice(1).map(({ tensor }) => Array.from(tensor.dataSync())),
    iterations: state[0]?.tensor.dataSync()[0],
    names: state.map(({ name }) => name.replace(/^\d+\//, '')),
  };
  optimizer.dispose();
  tf.dispose([variables, inputs]);
  return results;
}

test('small variables get the bits that cpu gives them, and so do the slots', async () => {
  for (const [name, make] of Object.entries(OPTIMIZERS)) {
    const shapes = [[7], [3, 4], [], [5, 2, 3, 3]];
    const expected = await train('cpu', make, shapes, 6);
    const actual = await train('onednn', make, shapes, 6);
    assert.deepEqual(actual, expected, name);
  }
});

test('large variables end within rounding of those on cpu, at every size around a piece', async () => {
  for (const [name, make] of Object.entries(OPTIMIZERS)) {
    const shapes = [[9001], [131_072], [131_072 + 8], [400, 331]];
    const expected = await train('cpu', make, shapes, 3);
    const actual = await train('onednn', make, shapes, 3);
    actual.weights.forEach((values, i) => {
      assertClose(values, expected.weights[i] as number[], 2e-6, `${name} weights ${i}`);
    });
    actual.state.forEach((values, i) => {
      assertClose(values, expected.state[i] as number[], 2e-6, `${name} slot ${i}`);
    });
  }
});

test('one kernel a variable, and none of those that it replaces', async () => {
  await tf.setBackend('onednn');
  const optimizer = tf.train.adam(0.01);
  const variables = [tf.variable(tf.ones([10, 10])), tf.variable(tf.ones([10]))];
  const loss = () => tf.sum(tf.square(tf.add(variables[0] as tf.Tensor, variables[1] as tf.Tensor))) as tf.Scalar;
  optimizer.minimize(loss);
  const { grads } = tf.variableGrads(loss, variables);
  const { kernelNames } = await tf.profile(() =>
    optimizer.applyGradients(grads as Parameters<typeof optimizer.applyGradients>[0]),
  );
  assert.deepEqual(
    kernelNames.filter((name) => name === 'Sqrt' || name === 'Square'),
    [],
  );
  assert.ok(kernelNames.includes('ResourceApplyAdam'));
  tf.dispose([variables, grads]);
  optimizer.dispose();
});

test('copies, views and values that were read stay what they were', async () => {
  await tf.setBackend('onednn');
  for (const [name, make] of Object.entries(OPTIMIZERS)) {
    for (const size of [16, 10_000]) {
      const optimizer = make();
      const initial = toTensor(sample([size], 1));
      const variable = tf.variable(initial);
      const gradient = toTensor(sample([size], 2));
      const step = () => optimizer.applyGradients({ [variable.name]: gradient });
      const kept: [string, tf.Tensor | Float32Array, Float32Array][] = [];
      const keep = (what: string, thing: tf.Tensor | Float32Array) => {
        const values = thing instanceof Float32Array ? thing : (thing.dataSync() as Float32Array);
        kept.push([what, thing, Float32Array.from(values)]);
      };
      keep('the initial tensor', initial);
      for (let i = 0; i < 3; i++) {
        keep('a clone', variable.clone());
        keep('a reshaped view', tf.reshape(variable, [4, size / 4]));
        keep('a slice', tf.slice(variable, [1], [5]));
        keep('values read', variable.dataSync() as Float32Array);
        step();
      }
      for (const [what, thing, expected] of kept) {
        const now = thing instanceof Float32Array ? thing : thing.dataSync();
        assert.deepEqual(Float32Array.from(now), expected, `${name}, ${size}: ${what}`);
      }
      tf.dispose([variable, gradient, kept.map(([, thing]) => thing) as tf.Tensor[]]);
      optimizer.dispose();
    }
  }
});

test('state moves between backends: three steps here, three there, as six on one', async () => {
  for (const name of ['momentum', 'adam', 'centered rmsprop', 'adagrad']) {
    const make = OPTIMIZERS[name] as () => tf.Optimizer;
    const run = async (backends: [string, string]) => {
      await tf.setBackend(backends[0]);
      let optimizer = make();
      const variable = tf.variable(toTensor(sample([12], 1)), true, `moved-${name}-${backends}`);
      const gradient = toTensor(sample([12], 2));
      for (let i = 0; i < 3; i++) optimizer.applyGradients({ [variable.name]: gradient });
      const saved = await optimizer.getWeights();
      await tf.setBackend(backends[1]);
      optimizer = make();
      await optimizer.setWeights(saved);
      for (let i = 0; i < 3; i++) optimizer.applyGradients({ [variable.name]: gradient });
      return Array.from(variable.dataSync());
    };
    const expected = await run(['cpu', 'cpu']);
    for (const backends of [
      ['onednn', 'onednn'],
      ['cpu', 'onednn'],
      ['onednn', 'cpu'],
    ] as [string, string][]) {
      assertClose(await run(backends), expected, 1e-7, `${name} from ${backends}`);
    }
  }
});

test('a variable that the loss does not reach stays, keeps its place in the state, and nothing leaks', async () => {
  await tf.setBackend('onednn');
  const optimizer = tf.train.adam(0.1);
  const variables = [0, 1, 2].map((i) => tf.variable(toTensor(sample([6], i))));
  const untouched = Array.from(variables[1]!.dataSync());
  const apply = () => {
    const gradients = [0, 2].map((i) => toTensor(sample([6], 10 + i)));
    optimizer.applyGradients([
      { name: variables[0]!.name, tensor: gradients[0]! },
      { name: variables[1]!.name, tensor: null as unknown as tf.Tensor },
      { name: variables[2]!.name, tensor: gradients[1]! },
    ]);
    tf.dispose(gradients);
  };
  apply();
  const { numTensors, numDataBuffers } = tf.memory();
  for (let i = 0; i < 20; i++) apply();
  assert.deepEqual([tf.memory().numTensors, tf.memory().numDataBuffers], [numTensors, numDataBuffers]);
  assert.deepEqual(Array.from(variables[1]!.dataSync()), untouched);
  assert.equal((await optimizer.getWeights()).length, 1 + 6);
  tf.dispose(variables);
  optimizer.dispose();
});
