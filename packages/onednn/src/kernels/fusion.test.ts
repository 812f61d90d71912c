/** Fusion by waiting: which primitives run, and that nobody can tell by the values. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import type { OneDnnBackend } from '../backend.js';
import { assertClose, assertSameAsCpu, run, runOn, sample, toTensor } from '../testing/backend.js';

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
    // Their values are known to be finite, and neither waits.
    const [a, b] = [1, 2].map((seed) => tf.relu(normalize(blocked(seed))[0])) as [tf.Tensor, tf.Tensor];
    tf.relu(tf.add(a, b)).dataSync();
  });
  assert.equal(counts.add_relu, 1);
  assert.equal(counts.add, undefined);
  assert.equal(counts.relu, undefined);
});

for (const order of ['norm first', 'shortcut first']) {
  test(`batch norm takes the addition and ReLU behind it along, and both gradients (${order})`, async () => {
    await tf.setBackend('onednn');
    const block = (x: tf.Tensor, norm: typeof normalize) => {
      const [y] = norm(tf.mul(x, 2));
      return tf.relu(order === 'norm first' ? tf.add(y, x) : tf.add(x, y));
    };
    const loss = (x: tf.Tensor, norm: typeof normalize) => {
      const h = tf.relu(norm(x)[0]);
      const z = block(h, norm);
      return tf.sum(tf.square(block(z, norm)));
    };
    const counts = await primitivesOf(() =>
      tf
        .grad((x) => loss(x, normalize))(blocked(1))
        .dataSync(),
    );
    assert.equal(counts.batch_norm_forward, 3);
    assert.equal(counts.batch_norm_backward, 3);
    // Without code of ours a primitive each, for two blocks.
    const isOurs = (tf.backend() as OneDnnBackend).runtime.machine !== null;
    assert.equal(counts.relu, undefined);
    assert.equal(counts.add_relu, isOurs ? undefined : 2);
    assert.equal(counts.relu_grad, isOurs ? undefined : 2);
    // Of h's two gradients; with code those of z went into the batch norm's.
    assert.equal(counts.add, isOurs ? 1 : 2);
    const expected = await runOn('cpu', () => [tf.grad((x) => loss(x, composed))(blocked(1))]);
    const [actual] = await runOn('onednn', () => [tf.grad((x) => loss(x, normalize))(blocked(1))]);
    assertClose(actual!.values, expected[0]!.values, 1e-4, 'gradient');
  });
}

test('a batch norm that two additions read has the gradient of both', async () => {
  const loss = (x: tf.Tensor, norm: typeof normalize) => {
    const h = tf.relu(norm(x)[0]);
    const [y] = norm(h);
    return tf.sum(tf.square(tf.add(tf.relu(tf.add(y, h)), tf.mul(tf.relu(tf.add(h, y)), 3))));
  };
  const expected = await runOn('cpu', () => [tf.grad((x) => loss(x, composed))(blocked(1))]);
  const actual = await runOn('onednn', () => [tf.grad((x) => loss(x, normalize))(blocked(1))]);
  assertClose(actual[0]!.values, expected[0]!.values, 1e-4, 'gradient');
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

/** Parameters of a batch norm with given statistics; `change` may spoil them. */
function given(change: (parameters: Record<string, Float32Array>) => void = () => {}): Record<string, tf.Tensor> {
  const parameters = Object.fromEntries(
    ['scale', 'offset', 'mean', 'variance'].map((name, i) => {
      const { values } = sample([CHANNELS], 30 + i);
      return [name, Float32Array.from(values, (value) => (name === 'variance' ? Math.abs(value) : value))];
    }),
  );
  change(parameters);
  return Object.fromEntries(Object.entries(parameters).map(([name, values]) => [name, tf.tensor1d(values)]));
}

const inference = (x: tf.Tensor, { mean, variance, scale, offset }: Record<string, tf.Tensor>) =>
  tf.relu(
    tf.batchNorm(
      x as tf.Tensor4D,
      mean as tf.Tensor1D,
      variance as tf.Tensor1D,
      offset as tf.Tensor1D,
      scale as tf.Tensor1D,
    ),
  );

test('in inference batch norm takes its ReLU along, with the values of the cpu backend', async () => {
  await assertSameAsCpu(() => {
    const x = toTensor(sample(shape, 1));
    const { mean, variance, scale, offset } = given();
    const some = { mean: mean as tf.Tensor, variance: variance as tf.Tensor };
    return [
      inference(x, given()),
      inference(x, { ...some, scale: scale as tf.Tensor }),
      inference(x, { ...some, offset: offset as tf.Tensor }),
      inference(x, some),
    ];
  });
  const counts = await primitivesOf(() => {
    inference(toTensor(sample(shape, 1)), given()).dataSync();
  });
  assert.deepEqual(counts, { batch_norm_inference: 1, all_finite: 1 });
  await runOn('onednn', () => {
    const x = blocked(1);
    const parameters = given();
    // Whoever reads in between gets what there is without ReLU.
    const norm = tf.batchNorm(x as tf.Tensor4D, parameters.mean as tf.Tensor1D, parameters.variance as tf.Tensor1D);
    const activated = tf.relu(norm).dataSync();
    const plain = norm.dataSync();
    assert.ok(plain.some((value) => value < 0));
    activated.forEach((value, i) => {
      assert.equal(value, Math.max(0, plain[i] as number));
    });
    return [];
  });
});

test('a ReLU of reshaped data has the shape that it was given, and so has its gradient', async () => {
  const flat = [2 * 8 * 8, CHANNELS];
  const parts = (composes: boolean) => (input: tf.Tensor) => {
    const image = tf.reshape(input, shape);
    const norm = composes ? composed(image)[0] : normalize(image)[0];
    const { mean, variance, scale, offset } = given();
    const still = tf.batchNorm2d(
      input as tf.Tensor2D,
      mean as tf.Tensor1D,
      variance as tf.Tensor1D,
      offset as tf.Tensor1D,
      scale as tf.Tensor1D,
    );
    const sum = tf.reshape(tf.add(tf.relu(image), blocked(2)), flat);
    return [tf.reshape(norm, flat), still, sum].map((x) => tf.relu(x));
  };
  const network = (composes: boolean) => () => {
    const x = toTensor(sample(flat, 1));
    const loss = (input: tf.Tensor) => tf.addN(parts(composes)(input).map((y, i) => tf.mul(y, i + 1)));
    return [...parts(composes)(x), tf.grad(loss)(x)];
  };
  const expected = await runOn('cpu', network(true));
  const actual = await runOn('onednn', network(false));
  actual.forEach(({ values, shape: found }, i) => {
    assert.deepEqual(found, flat);
    assertClose(values, (expected[i] as (typeof expected)[0]).values, 1e-4, `result ${i}`);
  });
});

test('in inference a NaN of batch norm is not hidden by ReLU', async () => {
  const spoil = (name: string, value: number) => (parameters: Record<string, Float32Array>) => {
    (parameters[name] as Float32Array)[3] = value;
  };
  const infinite = (x: tf.Tensor) => {
    const values = x.dataSync().slice();
    values[3] = Number.POSITIVE_INFINITY;
    values[4] = Number.NEGATIVE_INFINITY;
    values[5] = Number.NaN;
    return tf.tensor(values, x.shape);
  };
  for (const [name, value] of [
    ['mean', Number.NaN],
    ['mean', Number.POSITIVE_INFINITY],
    ['variance', Number.NaN],
    ['variance', -1],
    ['scale', Number.NaN],
    ['scale', 0],
    ['offset', Number.NaN],
    ['offset', 1],
  ] as [string, number][]) {
    for (const change of [(x: tf.Tensor) => x, infinite]) {
      await assertSameAsCpu(
        () => [inference(change(toTensor(sample(shape, 1))), given(spoil(name, value)))],
        1e-5,
        `${name} ${value}`,
      );
    }
  }
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

/** Where a tensor's elements lie. */
const addressOf = (tensor: tf.Tensor) => (tf.backend() as OneDnnBackend).storage(tensor).address;
const copyOf = (tensor: tf.Tensor) => (tensor.dataSync() as Float32Array).slice();

for (const name of ['Add', 'AddRelu', 'ReluGrad'] as const) {
  const names = name === 'ReluGrad' ? ['dy', 'y'] : ['a', 'b'];
  const compute = (first: tf.Tensor, second: tf.Tensor) =>
    (run(name, { [names[0] as string]: first, [names[1] as string]: second }) as [tf.Tensor])[0];
  const expected = (a: number, b: number) => {
    if (name === 'ReluGrad') return b > 0 ? a : 0;
    return name === 'Add' ? Math.fround(a + b) : Math.max(0, Math.fround(a + b));
  };

  test(`${name} works in place exactly where nobody else will read the operand`, async () => {
    await tf.setBackend('onednn');
    for (const holder of ['nobody', 'a clone', 'a waiting addition', 'the tensor itself'] as const) {
      tf.tidy(() => {
        // Made by batch norm, so that whether they are finite is known.
        const [first, second] = [normalize(blocked(1))[0], normalize(blocked(2))[0]];
        const values = [copyOf(tf.add(first, 0)), copyOf(tf.add(second, 0))] as const;
        const before = addressOf(first);
        const result = compute(first, second);
        const clone = holder === 'a clone' ? tf.clone(first) : null;
        const waiting = holder === 'a waiting addition' ? tf.add(first, second) : null;
        if (holder !== 'the tensor itself') first.dispose();
        assert.equal(addressOf(result) === before, holder === 'nobody', holder);
        const wanted = values[0].map((value, i) => expected(value, values[1][i] as number));
        // Adding 0 makes 0 of −0.
        assert.deepEqual(
          Array.from(copyOf(result), (value) => value + 0),
          Array.from(wanted, (value) => value + 0),
          holder,
        );
        assert.deepEqual(copyOf(second), values[1], holder);
        if (holder === 'the tensor itself') assert.deepEqual(copyOf(first), values[0]);
        if (clone) assert.deepEqual(copyOf(clone), values[0]);
        if (waiting)
          assert.deepEqual(
            copyOf(waiting),
            values[0].map((value, i) => Math.fround(value + (values[1][i] as number))),
          );
      });
    }
  });
}

test('a ReLU that takes an addition along leaves it its operands, though their tensors are gone', async () => {
  await tf.setBackend('onednn');
  tf.tidy(() => {
    const [first, second] = [normalize(blocked(1))[0], normalize(blocked(2))[0]];
    const wanted = copyOf(tf.add(first, 0)).map((value, i) =>
      Math.fround(value + (copyOf(tf.add(second, 0))[i] as number)),
    );
    const sum = tf.add(first, second);
    first.dispose();
    second.dispose();
    const cut = tf.relu(sum);
    assert.deepEqual(
      copyOf(cut),
      wanted.map((value) => Math.max(0, value)),
    );
    assert.deepEqual(copyOf(sum), wanted);
  });
});

test('memory that a result took over is given back once', async () => {
  await tf.setBackend('onednn');
  const { pool } = (tf.backend() as OneDnnBackend).runtime;
  const round = () =>
    tf.tidy(() => {
      const [first, second] = [normalize(blocked(1))[0], normalize(blocked(2))[0]];
      first.dataSync();
      const result = (run('AddRelu', { a: first, b: second }) as [tf.Tensor])[0];
      first.dispose();
      return result.dataSync()[0];
    });
  round();
  const before = pool.statistics();
  for (let i = 0; i < 5; i++) round();
  const { bytesInUse, allocations } = pool.statistics();
  assert.deepEqual({ bytesInUse, allocations }, { bytesInUse: before.bytesInUse, allocations: before.allocations });
});
