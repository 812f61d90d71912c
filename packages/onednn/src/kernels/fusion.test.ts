/** Fusion by waiting: which primitives run, and that nobody can tell by the values. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import type { OneDnnBackend } from '../backend.js';
import { assertClose, assertSameAsCpu, run, runOn, sample, toTensor } from '../testing.js';

const CHANNELS = 16;
const shape = [2, 8, 8, CHANNELS];

/** Kinds of the primitives that `compute` runs, with their counts; reorders are left out. */
async function primitivesOf(compute: () => void): Promise<Record<string, number>> {
  await tf.setBackend('onednn');
  const { runtime } = tf.backend() as OneDnnBackend;
  const counts: Record<string, number> = {};
  runtime.observer = ({ label }) => {
    const kind = label.split(' ')[0] as string;
    if (kind !== 'reorder') counts[kind] = (counts[kind] ?? 0) + 1;
  };
  try {
    tf.tidy(compute);
  } finally {
    runtime.observer = null;
  }
  return counts;
}

const parameters = () => ({ scale: toTensor(sample([CHANNELS], 7)), offset: toTensor(sample([CHANNELS], 8)) });

function normalize(x: tf.Tensor): [tf.Tensor, tf.Tensor, tf.Tensor] {
  return run('FusedBatchNormV3', { x, ...parameters() }, { epsilon: 1e-3, activation: 'linear' }) as never;
}

function blocked(seed: number): tf.Tensor4D {
  const identity = tf.reshape(tf.eye(CHANNELS), [1, 1, CHANNELS, CHANNELS]) as tf.Tensor4D;
  return tf.conv2d(toTensor(sample(shape, seed)) as tf.Tensor4D, identity, 1, 'same');
}

test('batch norm, ReLU and their gradients are one primitive each way', async () => {
  const counts = await primitivesOf(() => {
    const x = toTensor(sample(shape, 1));
    tf.grad((input) => tf.sum(tf.square(tf.relu(normalize(input)[0]))))(x).dataSync();
  });
  assert.equal(counts.batch_norm_forward, 1);
  assert.equal(counts.batch_norm_backward, 1);
  assert.equal(counts.relu, undefined);
  assert.equal(counts.relu_grad, undefined);
});

test('a convolution takes bias and activation along while training', async () => {
  const x = () => tf.relu(blocked(1)) as tf.Tensor4D;
  const counts = await primitivesOf(() => {
    const loss = (filter: tf.Tensor, bias: tf.Tensor) =>
      tf.sum(tf.relu(tf.add(tf.conv2d(x(), filter as tf.Tensor4D, 1, 'same'), bias)));
    const inputs = [toTensor(sample([3, 3, CHANNELS, CHANNELS], 2)), toTensor(sample([CHANNELS], 3))];
    for (const gradient of tf.grads(loss)(inputs)) gradient.dataSync();
  });
  // One of the two is the identity that makes the input blocked; the ReLU is that one's.
  assert.equal(counts.convolution_forward, 2);
  assert.equal(counts.add, undefined);
});

test('a residual addition takes its ReLU along', async () => {
  const counts = await primitivesOf(() => {
    const sum = tf.add(normalize(blocked(1))[0], normalize(blocked(2))[0]);
    tf.relu(sum).dataSync();
  });
  assert.equal(counts.add_relu, 1);
  assert.equal(counts.add, undefined);
  assert.equal(counts.relu, undefined);
});

/** Reference for 'FusedBatchNormV3', which `cpu` does not have. */
function composed(x: tf.Tensor): [tf.Tensor, tf.Tensor, tf.Tensor] {
  const { mean, variance } = tf.moments(x, [0, 1, 2]);
  const { scale, offset } = parameters();
  const centred = tf.mul(tf.sub(x, mean), tf.rsqrt(tf.add(variance, 1e-3)));
  return [tf.add(tf.mul(centred, scale), offset), mean, variance];
}

test('whoever reads in between, in whatever order, gets the same values', async () => {
  const reads = ['y', 'mean', 'relu', 'second', 'sum', 'dispose'] as const;
  await fc.assert(
    fc.asyncProperty(fc.shuffledSubarray([...reads], { minLength: 1 }), fc.boolean(), async (order, isBlocked) => {
      const play = (norm: typeof normalize) => {
        const x = isBlocked ? blocked(1) : toTensor(sample(shape, 1));
        const other = blocked(2);
        const [y, mean, variance] = norm(x);
        const results: tf.Tensor[] = [];
        let isDisposed = false;
        for (const read of order) {
          if (read === 'dispose') {
            y.dispose();
            isDisposed = true;
          } else if (read === 'mean') results.push(mean, variance);
          else if (isDisposed) continue;
          else if (read === 'y') results.push(tf.clone(y));
          else if (read === 'sum') results.push(tf.relu(tf.add(y, other)), tf.add(other, y));
          else results.push(tf.relu(y), tf.relu(y));
          for (const result of results) result.dataSync();
        }
        return [...results, mean, variance];
      };
      const expected = await runOn('cpu', () => play(composed));
      const actual = await runOn('onednn', () => play(normalize));
      actual.forEach((result, i) => {
        assertClose(result.values, expected[i]!.values, 2e-5, `${order} result ${i}`);
      });
    }),
    { numRuns: 60 },
  );
});

test('gradients through batch norm, ReLU, shortcut and convolution equal the cpu backend', async () => {
  const network = (norm: typeof normalize) => {
    const filters = [11, 12].map((seed) => toTensor(sample([3, 3, CHANNELS, CHANNELS], seed)));
    const bias = toTensor(sample([CHANNELS], 13));
    const loss = (...[x, first, second, b]: tf.Tensor[]) => {
      const conv = (input: tf.Tensor, filter: tf.Tensor) =>
        tf.conv2d(input as tf.Tensor4D, filter as tf.Tensor4D, 1, 'same');
      const h = tf.relu(norm(conv(x!, first!))[0]);
      // h is read twice, and the batch norm's own result is read beside its ReLU.
      const [y] = norm(conv(h, second!));
      const z = tf.relu(tf.add(y, h));
      const w = tf.relu(tf.add(conv(z, first!), b!));
      return tf.add(tf.sum(tf.square(w)), tf.sum(tf.mul(tf.relu(y), y))) as tf.Scalar;
    };
    const inputs = [toTensor(sample(shape, 1)), ...filters, bias];
    return [loss(...inputs), ...tf.grads((...t: tf.Tensor[]) => loss(...t))(inputs)];
  };
  const expected = await runOn('cpu', () => network(composed));
  const actual = await runOn('onednn', () => network(normalize));
  actual.forEach(({ values }, i) => {
    assertClose(values, expected[i]!.values, 1e-3, `result ${i}`);
  });
});

test('a NaN is never hidden by a fused ReLU', async () => {
  const spoil = (t: tf.Tensor) => {
    const values = t.dataSync().slice();
    values[5] = Number.NaN;
    return tf.tensor(values, t.shape);
  };
  await runOn('onednn', () => {
    const x = spoil(toTensor(sample(shape, 1)));
    assert.ok(Number.isNaN(tf.relu(normalize(x)[0]).dataSync()[5]), 'behind batch norm');
    assert.ok(Number.isNaN(tf.relu(tf.add(x, blocked(1))).dataSync()[5]), 'behind an addition');
    for (const spoiled of ['x', 'filter', 'bias'] as const) {
      const inputs = {
        x: tf.relu(blocked(1)) as tf.Tensor,
        filter: toTensor(sample([1, 1, CHANNELS, CHANNELS], 2)) as tf.Tensor,
        bias: toTensor(sample([CHANNELS], 3)) as tf.Tensor,
      };
      inputs[spoiled] = spoil(inputs[spoiled]);
      let output: tf.Tensor | undefined;
      tf.grad((bias) => {
        const conv = tf.conv2d(inputs.x as tf.Tensor4D, inputs.filter as tf.Tensor4D, 1, 'same');
        output = tf.keep(tf.relu(tf.add(conv, bias)));
        return tf.sum(output);
      })(inputs.bias);
      assert.ok(output?.dataSync().some(Number.isNaN), `a convolution's ${spoiled}`);
      output?.dispose();
    }
    return [];
  });
  await assertSameAsCpu(() => [tf.relu(spoil(toTensor(sample(shape, 1))))]);
});

test('what waits and is never read costs no memory once it is disposed', async () => {
  await tf.setBackend('onednn');
  const { pool } = (tf.backend() as OneDnnBackend).runtime;
  const step = () =>
    tf.tidy(() => {
      const x = blocked(1);
      const [y] = normalize(x);
      tf.add(y, x);
      tf.grad((input) => tf.sum(tf.relu(normalize(input)[0])))(x);
    });
  step();
  const before = { bytes: pool.statistics().bytesInUse, tensors: tf.memory().numTensors };
  const ids = (tf.backend() as OneDnnBackend).numDataIds();
  for (let i = 0; i < 20; i++) step();
  assert.deepEqual({ bytes: pool.statistics().bytesInUse, tensors: tf.memory().numTensors }, before);
  assert.equal((tf.backend() as OneDnnBackend).numDataIds(), ids);
});
