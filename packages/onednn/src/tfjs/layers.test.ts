/** A user's tf.layers model trains on 'onednn' as on `cpu`: same losses, same moving averages, no kernel for nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { initializers, layers, model, regularizers, type SymbolicTensor, sequential } from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from '../backend.js';
import { assertClose, sample, toTensor } from '../testing/backend.js';

interface Parts {
  readonly scale?: boolean;
  readonly center?: boolean;
}

function build(parts: Parts = {}) {
  const model = sequential();
  const kernel = (seed: number) => initializers.heNormal({ seed });
  model.add(
    layers.conv2d({ inputShape: [8, 8, 3], filters: 16, kernelSize: 3, padding: 'same', kernelInitializer: kernel(1) }),
  );
  model.add(layers.batchNormalization(parts));
  model.add(layers.activation({ activation: 'relu' }));
  model.add(
    layers.conv2d({ filters: 16, kernelSize: 3, strides: 2, activation: 'relu', kernelInitializer: kernel(2) }),
  );
  model.add(layers.batchNormalization(parts));
  model.add(layers.globalAveragePooling2d({}));
  model.add(layers.dense({ units: 4, activation: 'softmax', kernelInitializer: kernel(3) }));
  return model;
}

/**
 * TensorFlow.js itself cannot train a batch norm without scale, so the reference has one that is set to ones after each step;
 * likewise without offset.
 */
async function train(backend: string, parts: Parts): Promise<number[][]> {
  await tf.setBackend(backend);
  const isReference = backend === 'cpu';
  const model = build(isReference ? {} : parts);
  const norms = model.layers.filter((layer) => layer.getClassName() === 'BatchNormalization');
  const isMissing = [parts.scale === false, parts.center === false];
  model.compile({ optimizer: tf.train.momentum(0.05, 0.9), loss: 'categoricalCrossentropy' });
  const x = toTensor(sample([12, 8, 8, 3], 1));
  const y = tf.oneHot(
    tf.tensor1d(
      Array.from({ length: 12 }, (_, i) => i % 4),
      'int32',
    ),
    4,
  );
  const losses: number[] = [];
  for (let step = 0; step < 5; step++) {
    losses.push((await model.trainOnBatch(x, y)) as number);
    if (!isReference) continue;
    for (const norm of norms) {
      norm.setWeights(norm.getWeights().map((weight, i) => (isMissing[i] ? tf.fill(weight.shape, 1 - i) : weight)));
    }
  }
  const predictions = (model.predict(x) as tf.Tensor).dataSync();
  const weights = model.layers.flatMap((layer) =>
    layer
      .getWeights()
      .filter((_, i) => !(isReference && norms.includes(layer) && isMissing[i]))
      .map((weight) => Array.from(weight.dataSync())),
  );
  return [losses, Array.from(predictions), ...weights];
}

test('five training steps, predictions and moving averages equal those of the cpu backend', async () => {
  for (const parts of [{}, { scale: false }, { center: false }, { scale: false, center: false }]) {
    const expected = await train('cpu', parts);
    const actual = await train('onednn', parts);
    assert.equal(actual.length, expected.length);
    actual.forEach((values, i) => {
      assertClose(values, expected[i] as number[], 1e-3, `${JSON.stringify(parts)} result ${i}`);
    });
  }
});

test('the gradient of the input image is never computed, and batch norm is one primitive each way', async () => {
  await tf.setBackend('onednn');
  const model = build();
  model.compile({ optimizer: 'sgd', loss: 'categoricalCrossentropy' });
  const x = toTensor(sample([12, 8, 8, 3], 1));
  const y = tf.oneHot(
    tf.tensor1d(
      Array.from({ length: 12 }, (_, i) => i % 4),
      'int32',
    ),
    4,
  );
  const { runtime } = tf.backend() as OneDnnBackend;
  const counts: Record<string, number> = {};
  runtime.observer = ({ label }) => {
    const kind = label.split(' ')[0] as string;
    counts[kind] = (counts[kind] ?? 0) + 1;
  };
  try {
    await model.trainOnBatch(x, y);
  } finally {
    runtime.observer = null;
  }
  assert.equal(counts.convolution_forward, 2);
  assert.equal(counts.convolution_backward_weights, 2);
  assert.equal(counts.convolution_backward_data, 1, 'of the second convolution only');
  assert.equal(counts.batch_norm_forward, 2);
  assert.equal(counts.batch_norm_backward, 2);
});

test('a deferred gradient is the same whenever it is read, also after its inputs are gone', async () => {
  await tf.setBackend('onednn');
  const filter = toTensor(sample([3, 3, 16, 16], 2));
  const attrs = { strides: 1, pad: 'same', dataFormat: 'NHWC', inputShape: [2, 6, 6, 16] };
  const gradient = (dy: tf.Tensor) => tf.engine().runKernel('Conv2DBackpropInput', { dy, filter }, attrs) as tf.Tensor;
  const first = toTensor(sample([2, 6, 6, 16], 3));
  const eager = gradient(first).dataSync();
  const late = gradient(first);
  first.dispose();
  for (let i = 0; i < 4; i++) tf.relu(toTensor(sample([2, 6, 6, 16], i))).dispose();
  assert.deepEqual(late.dataSync(), eager);
  const pool = (tf.backend() as OneDnnBackend).runtime.pool;
  const before = pool.statistics().bytesInUse;
  const second = tf.relu(toTensor(sample([2, 16, 16, 16], 4)));
  const unused = tf
    .engine()
    .runKernel('Conv2DBackpropInput', { dy: second, filter }, { ...attrs, inputShape: [2, 16, 16, 16] }) as tf.Tensor;
  second.dispose();
  assert.ok(pool.statistics().bytesInUse > before, 'kept for the deferred gradient');
  unused.dispose();
  assert.equal(pool.statistics().bytesInUse, before, 'given back with it');
});

/** A residual network with `blocks` blocks, as a user writes it. Convolutions: 1 + 2 · blocks. */
function residual(blocks: number) {
  let seed = 0;
  const conv = (x: SymbolicTensor, useBias: boolean) => {
    const kernelInitializer = initializers.heNormal({ seed: ++seed });
    return layers
      .conv2d({
        filters: 16,
        kernelSize: 3,
        padding: 'same',
        useBias,
        kernelInitializer,
        kernelRegularizer: regularizers.l2({ l2: 1e-2 }),
      })
      .apply(x) as SymbolicTensor;
  };
  const norm = (x: SymbolicTensor) => layers.batchNormalization({}).apply(x) as SymbolicTensor;
  const relu = (x: SymbolicTensor) => layers.activation({ activation: 'relu' }).apply(x) as SymbolicTensor;
  const input = layers.input({ shape: [8, 8, 3] }) as unknown as SymbolicTensor;
  let x = relu(norm(conv(input, false)));
  for (let block = 0; block < blocks; block++) {
    const y = norm(conv(relu(norm(conv(x, true))), false));
    x = relu(layers.add().apply([y, x]) as SymbolicTensor);
  }
  const pooled = layers.globalAveragePooling2d({}).apply(x);
  const kernelInitializer = initializers.heNormal({ seed: ++seed });
  const output = layers.dense({ units: 4, activation: 'softmax', kernelInitializer }).apply(pooled) as SymbolicTensor;
  const network = model({ inputs: input, outputs: output });
  network.compile({ optimizer: tf.train.momentum(0.02, 0.9), loss: 'categoricalCrossentropy' });
  return network;
}

const residualData = () => ({
  x: toTensor(sample([16, 8, 8, 3], 1)),
  y: tf.oneHot(
    tf.tensor1d(
      Array.from({ length: 16 }, (_, i) => (i * 7) % 4),
      'int32',
    ),
    4,
  ),
});

test('a residual network of plain layers runs the primitives of a hand-written one, and no others', async () => {
  await tf.setBackend('onednn');
  const blocks = 3;
  const network = residual(blocks);
  const { x, y } = residualData();
  await network.trainOnBatch(x, y);
  const { runtime } = tf.backend() as OneDnnBackend;
  const counts: Record<string, number> = {};
  runtime.observer = ({ label }) => {
    // Small tensors are weights in the optimizer.
    const kind = label.split(' ')[0] as string;
    counts[kind] = (counts[kind] ?? 0) + 1;
  };
  try {
    await network.trainOnBatch(x, y);
  } finally {
    runtime.observer = null;
  }
  const convolutions = 1 + 2 * blocks;
  // Forward convolutions of one channel block run in the data gradient's kernel, so only their sum is known: every forward
  // pass, and every data gradient but the first layer's.
  assert.equal((counts.convolution_forward ?? 0) + (counts.convolution_backward_data ?? 0), 2 * convolutions - 1);
  assert.equal(counts.convolution_backward_weights, convolutions);
  assert.equal(counts.batch_norm_forward, convolutions);
  assert.equal(counts.batch_norm_backward, convolutions);
  // With code of our own they are part of the batch norms before them.
  const apart = runtime.machine ? undefined : blocks;
  assert.equal(counts.add_relu, apart);
  assert.equal(counts.relu_grad, apart, 'behind additions only');
  assert.equal(counts.relu, undefined);
  assert.equal(counts.pooling_avg_forward, 1);
  assert.equal(counts.pooling_avg_backward, 1);
});

test('model.fit of a residual network gives the losses and weights of the cpu backend', async () => {
  const fit = async (backend: string): Promise<number[][]> => {
    await tf.setBackend(backend);
    const network = residual(2);
    const { x, y } = residualData();
    const { history } = await network.fit(x, y, { batchSize: 8, epochs: 2, shuffle: false, verbose: 0 });
    const predictions = (network.predict(x) as tf.Tensor).dataSync();
    return [history.loss as number[], Array.from(predictions), ...network.getWeights().map((w) => [...w.dataSync()])];
  };
  const expected = await fit('cpu');
  const actual = await fit('onednn');
  actual.forEach((values, i) => {
    assertClose(values, expected[i] as number[], 2e-3, `result ${i}`);
  });
});
