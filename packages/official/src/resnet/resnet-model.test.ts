/**
 * The networks against upstream's published facts (parameter counts, activation shapes) and against the f64 network of
 * testing/reference.ts: logits, moving statistics, and gradients by finite differences, on `cpu` and on the provider's backend.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { BACKENDS, FAST, on } from '../testing/provider.js';
import { Philox } from '../utils/random/philox.js';
import { smoothedCrossEntropy, sparseSoftmaxCrossEntropy } from './fused-ops.js';
import { BATCH_NORM_DECAY, cifar10Plan, imagenetPlan, Model, type ResNetPlan, upstreamName } from './resnet-model.js';
import { type Image, Reference, type Weights } from './testing/reference.js';

const BOTH = [1, 2] as const;

/** Small networks with every kind of block, every stride, odd sizes, and the pooling of ImageNet's. */
const SMALL: Record<string, (version: number) => ResNetPlan> = {
  'building blocks': (version) => ({ ...cifar10Plan(8, version), numFilters: 4, imageShape: [9, 7, 3] }),
  'bottleneck blocks after 7×7 and pooling': (version) => ({
    ...imagenetPlan(50, version),
    blockSizes: [2, 1],
    blockStrides: [1, 2],
    numFilters: 4,
    numClasses: 7,
    imageShape: [18, 15, 3],
  }),
};

function batchOf({ imageShape, numClasses }: ResNetPlan, n: number) {
  const random = new Philox(3);
  const [h, w, c] = imageShape;
  const values = Float32Array.from({ length: n * h * w * c }, () => random.normal());
  const labels = Int32Array.from({ length: n }, () => random.integer(numClasses));
  const image: Image = { n, h, w, c, values: Float64Array.from(values) };
  return { values, labels, image, shape: [n, h, w, c] as [number, number, number, number] };
}

/** The model's weights with scales and offsets that are not the initial ones and zeros, which would hide mistakes. */
function disturb(model: Model): Map<string, { shape: readonly number[]; values: Float64Array }> {
  const random = new Philox(11);
  const weights = new Map<string, { shape: readonly number[]; values: Float64Array }>();
  for (const variable of model.variables) {
    const values = variable.dataSync().map((value) => value + 0.1 * random.normal()) as Float32Array;
    const tensor = tf.tensor(values, variable.shape);
    variable.assign(tensor);
    tensor.dispose();
    weights.set(upstreamName(variable.name).replace('resnet_model/', ''), {
      shape: variable.shape,
      values: Float64Array.from(values),
    });
  }
  return weights;
}

function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what: string): void {
  assert.equal(actual.length, expected.length, what);
  const scale = Math.max(1e-3, ...Array.from(expected, Math.abs));
  for (let i = 0; i < expected.length; i++) {
    const gap = Math.abs(actual[i]! - expected[i]!);
    assert.ok(gap <= tolerance * scale, `${what}[${i}]: ${actual[i]}, expected ${expected[i]}`);
  }
}

it('a block leaves its result and nothing else', async () => {
  await on('cpu', () => {
    for (const version of BOTH) {
      const plan = (SMALL['building blocks'] as (version: number) => ResNetPlan)(version);
      const deeper = { ...plan, blockSizes: plan.blockSizes.map((size) => size + 1) };
      const [few, more] = [plan, deeper].map((each) => {
        const model = new Model(each, 1);
        const images = tf.zeros([1, ...each.imageShape]) as tf.Tensor4D;
        const { numTensors } = tf.memory();
        model.call(images, false);
        const made = tf.memory().numTensors - numTensors;
        model.dispose();
        return made;
      }) as [number, number];
      assert.equal(more - few, plan.blockSizes.length, `version ${version}`);
    }
  });
});

describe('parameters', () => {
  const count = (plan: ResNetPlan) => {
    const model = new Model(plan, 0, { initialize: false });
    const trainable = model.variables.reduce((sum, { size }) => sum + size, 0);
    const statistics = model.statistics.length;
    model.dispose();
    return { trainable, statistics };
  };

  it('are as many as upstream’s, ImageNet', async () => {
    await on('cpu', () => {
      for (const [size, v1, v2] of [
        [18, 11_694_249, 11_692_329],
        [34, 21_802_409, 21_800_489],
        [50, 25_559_081, 25_551_401],
        [101, 44_551_209, 44_543_529],
        [152, 60_194_857, 60_187_177],
        [200, 64_675_881, 64_668_201],
      ] as const) {
        const counts = BOTH.map((version) => count(imagenetPlan(size, version)).trainable);
        assert.deepEqual(counts, [v1, v2], `ResNet-${size}`);
      }
      assert.deepEqual(
        BOTH.map((version) => count(imagenetPlan(50, version)).statistics),
        [53_120, 45_440],
      );
    });
  });

  it('are as many as upstream’s, CIFAR-10', async () => {
    await on('cpu', () => {
      for (const [size, v1, v2] of [
        [20, 272_762, 272_538],
        [32, 467_194, 466_970],
        [44, 661_626, 661_402],
        [56, 856_058, 855_834],
        [110, 1_731_002, 1_730_778],
      ] as const) {
        const counts = BOTH.map((version) => count(cifar10Plan(size, version)).trainable);
        assert.deepEqual(counts, [v1, v2], `ResNet-${size}`);
      }
      assert.deepEqual(
        BOTH.map((version) => count(cifar10Plan(56, version)).statistics),
        [4_288, 4_064],
      );
    });
  });

  it('have upstream’s names, in the order of creation, and upstream’s initial values', async () => {
    await on('cpu', () => {
      const model = new Model(cifar10Plan(8, 1), 5);
      const names = model.variables.map(({ name }) => upstreamName(name).replace('resnet_model/', ''));
      assert.deepEqual(names.slice(0, 9), [
        'conv2d/kernel',
        'batch_normalization/gamma',
        'batch_normalization/beta',
        'conv2d_1/kernel',
        'batch_normalization_1/gamma',
        'batch_normalization_1/beta',
        'conv2d_2/kernel',
        'batch_normalization_2/gamma',
        'batch_normalization_2/beta',
      ]);
      assert.deepEqual(names.slice(-2), ['dense/kernel', 'dense/bias']);
      for (const variable of model.variables) {
        const values = Array.from(variable.dataSync());
        const name = upstreamName(variable.name);
        if (name.endsWith('gamma')) assert.ok(values.every((value) => value === 1));
        else if (name.endsWith('beta') || name.endsWith('bias')) assert.ok(values.every((value) => value === 0));
        else {
          const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
          const [kh, kw, inputs] = variable.shape as [number, number, number];
          // Truncated normal of variance 1/fan-in; Glorot uniform of variance 2/(in + out).
          const expected = name.includes('dense') ? Math.sqrt(2 / (64 + 10)) : Math.sqrt(1 / (kh * kw * inputs));
          const sigmas = Math.abs(deviation / expected - 1) * Math.sqrt(2 * values.length);
          assert.ok(sigmas < 4, `${name}: deviation ${deviation}, expected ${expected}`);
          const limit = name.includes('dense') ? Math.sqrt(6 / 74) : (2 * expected) / 0.87962566103423978;
          assert.ok(
            values.every((value) => Math.abs(value) <= limit * 1.000001),
            name,
          );
        }
      }
      assert.ok(
        model.statisticSegments.every(({ name }) => /^resnet_model\/batch_normalization(_\d+)?\/moving_/.test(name)),
      );
      model.dispose();
    });
  });
});

describe('activation shapes', () => {
  /** Shapes of what the network's kernels put out, in order. */
  async function shapes(plan: ResNetPlan, n = 1): Promise<{ kernel: string; shape: number[] }[]> {
    return on(FAST, async () => {
      const model = new Model(plan, 0, { initialize: false });
      const images = tf.zeros([n, ...plan.imageShape]) as tf.Tensor4D;
      const { kernels } = await tf.profile(() => {
        const logits = tf.tidy(() => model.call(images, false));
        logits.dispose();
        return images;
      });
      images.dispose();
      model.dispose();
      return kernels.flatMap(({ name, outputShapes }) =>
        outputShapes.map((shape) => ({ kernel: name, shape: shape as number[] })),
      );
    });
  }

  // Every size, and both versions of each kind of block: the large ones differ in the number of blocks alone.
  for (const [size, versions] of [
    [18, BOTH],
    [34, [2]],
    [50, BOTH],
    [101, [2]],
    [152, [1]],
    [200, [2]],
  ] as const) {
    it(`of ResNet-${size} are upstream’s`, async () => {
      for (const version of versions) {
        const seen = await shapes(imagenetPlan(size, version));
        const of = (kernel: RegExp) => seen.filter((one) => kernel.test(one.kernel)).map(({ shape }) => shape);
        const widths = size < 50 ? [64, 128, 256, 512] : [256, 512, 1024, 2048];
        assert.deepEqual(of(/Conv2D$/)[0], [1, 112, 112, 64], 'initial_conv');
        assert.deepEqual(of(/^MaxPool$/), [[1, 56, 56, 64]], 'max_pool');
        for (const [i, side] of [56, 28, 14, 7].entries()) {
          // A block ends with adding its shortcut.
          const last = of(/^Add/).filter((shape) => shape[1] === side);
          assert.deepEqual(last.at(-1), [1, side, side, widths[i]], `block_layer${i + 1}`);
        }
        assert.deepEqual(of(/^AvgPool$/), [[1, 1, 1, widths[3]]], 'final_reduce_mean');
        assert.deepEqual(of(/MatMul$/), [[1, 1001]], 'final_dense');
      }
    });
  }

  it('of other image sizes follow (upstream: 135 × 246)', async () => {
    for (const version of BOTH) {
      const last = (await shapes({ ...cifar10Plan(8, version), imageShape: [135, 246, 3] }, 2)).at(-1);
      assert.deepEqual(last?.shape, [2, 10]);
      const imagenet = await shapes({ ...imagenetPlan(18, version), imageShape: [135, 246, 3] });
      assert.deepEqual(imagenet.at(-1)?.shape, [1, 1001]);
    }
  });
});

/** What upstream's tests of `cifar10_model_fn` and `imagenet_model_fn` look at, in training, evaluation and prediction. */
describe('what the model functions gave', () => {
  for (const version of BOTH) {
    for (const [name, plan, n] of [
      ['CIFAR-10, size 32, batch 128', cifar10Plan(32, version), 128],
      ['ImageNet, size 50, batch 32, of small images', { ...imagenetPlan(50, version), imageShape: [32, 32, 3] }, 32],
    ] as const) {
      it(`v${version}, ${name}: probabilities, classes, a loss, an accuracy`, async () => {
        await on(FAST, () => {
          const model = new Model(plan, 1);
          const { values, labels, shape } = batchOf(plan as ResNetPlan, n);
          const images = tf.tensor4d(values, shape);
          for (const training of [true, false]) {
            tf.tidy(() => {
              const logits = model.call(images, training);
              const probabilities = tf.softmax(logits);
              assert.deepEqual(probabilities.shape, [n, plan.numClasses]);
              assert.equal(probabilities.dtype, 'float32');
              for (const sum of tf.sum(probabilities, 1).dataSync()) assert.ok(Math.abs(sum - 1) < 1e-4);
              const classes = tf.argMax(logits, 1);
              // TensorFlow.js has no 64-bit integers.
              assert.deepEqual([classes.shape, classes.dtype], [[n], 'int32']);
              const expected = tf.tensor1d(labels, 'int32');
              const loss = tf.mean(sparseSoftmaxCrossEntropy(logits, expected));
              assert.deepEqual([loss.shape, loss.dtype, Number.isFinite(loss.dataSync()[0])], [[], 'float32', true]);
              const accuracy = tf.mean(tf.cast(tf.equal(classes, expected), 'float32'));
              assert.deepEqual([accuracy.shape, accuracy.dtype], [[], 'float32']);
            });
          }
          images.dispose();
          model.dispose();
        });
      });
    }
  }
});

for (const backend of BACKENDS) {
  describe(`the network on ${backend}`, () => {
    for (const [what, plan] of Object.entries(SMALL)) {
      for (const version of BOTH) {
        it(`v${version}, ${what}: logits and moving statistics are the reference’s`, async () => {
          await on(backend, () => {
            const decay = version === 1 ? BATCH_NORM_DECAY : 0.9;
            const model = new Model(plan(version), 1, version === 1 ? {} : { batchNormDecay: decay });
            const weights = disturb(model);
            const { values, shape, image } = batchOf(model.plan, 3);
            const logits = tf.tidy(() => model.call(tf.tensor4d(values, shape), true).dataSync());
            const reference = new Reference(model.plan, weights);
            assertClose(logits, reference.logits(image), 2e-4, 'logits');
            // One step from 0 and 1: decay·old + (1 − decay)·batch, with the unbiased variance.
            for (const { name, offset, length } of model.statisticSegments) {
              const [, norm, kind] = /resnet_model\/(.*)\/moving_(.*)/.exec(name) as unknown as [
                string,
                string,
                string,
              ];
              const { mean, variance, count } = reference.seen.get(norm)!;
              const expected =
                kind === 'mean'
                  ? mean.map((value) => (1 - decay) * value)
                  : variance.map((value) => decay + ((1 - decay) * value * count) / (count - 1));
              assertClose(model.statistics.subarray(offset, offset + length), expected, 1e-5, name);
            }
            model.dispose();
          });
        });

        it(`v${version}, ${what}: gradients agree with finite differences`, async () => {
          await on(backend, () => {
            const model = new Model(plan(version), 1);
            const weights = disturb(model);
            const { values, labels, shape, image } = batchOf(model.plan, 3);
            const { grads } = tf.variableGrads(
              () =>
                tf.mean(
                  sparseSoftmaxCrossEntropy(model.call(tf.tensor4d(values, shape), true), tf.tensor1d(labels, 'int32')),
                ) as tf.Scalar,
              [...model.variables],
            );
            const reference = new Reference(model.plan, weights as Weights);
            for (const variable of model.variables) {
              const name = upstreamName(variable.name).replace('resnet_model/', '');
              const own = weights.get(name)!.values;
              const gradient = grads[variable.name]!.dataSync();
              const largest = Math.max(1e-2, ...Array.from(gradient, Math.abs));
              // Two elements of every variable, the ends: 150 forward passes a network.
              for (const i of new Set([0, own.length - 1])) {
                const kept = own[i]!;
                const step = 1e-6;
                own[i] = kept + step;
                const above = reference.loss(image, labels);
                own[i] = kept - step;
                const below = reference.loss(image, labels);
                own[i] = kept;
                const expected = (above - below) / (2 * step);
                const gap = Math.abs(gradient[i]! - expected);
                assert.ok(gap <= 2e-3 * largest, `${name}[${i}]: ${gradient[i]}, by differences ${expected}`);
              }
            }
            for (const gradient of Object.values(grads)) gradient.dispose();
            model.dispose();
          });
        });
      }
    }

    it('evaluation uses the moving statistics and leaves them alone', async () => {
      await on(backend, () => {
        const model = new Model(SMALL['building blocks']!(1), 1);
        const weights = disturb(model);
        const { values, shape, image } = batchOf(model.plan, 4);
        const call = (training: boolean) =>
          tf.tidy(() => model.call(tf.tensor4d(values, shape), training).dataSync().slice());
        const reference = new Reference(model.plan, weights);
        const expected = reference.logits(image);
        // Twice, because a backend may keep a copy of what it has read once.
        const atFirst = call(false);
        // With the batch's own statistics as the moving ones, evaluation gives what training gives.
        for (const { name, offset } of model.statisticSegments) {
          const [, norm, kind] = /resnet_model\/(.*)\/moving_(.*)/.exec(name) as unknown as [string, string, string];
          const { mean, variance } = reference.seen.get(norm)!;
          model.statistics.set(kind === 'mean' ? mean : variance, offset);
        }
        const before = model.statistics.slice();
        const evaluated = call(false);
        assert.deepEqual(model.statistics, before);
        assert.notDeepEqual(evaluated, atFirst);
        assertClose(evaluated, expected, 2e-4, 'logits');
        model.dispose();
      });
    });
  });
}

describe('sparseSoftmaxCrossEntropy', () => {
  const logits = [
    [1, 2, 3],
    [1000, 0, -1000],
    [-5, -5, -5],
  ];
  const labels = [2, 1, 0];

  for (const backend of BACKENDS) {
    it(`is log Σ exp − the label’s logit, and its gradient softmax − one-hot, on ${backend}`, async () => {
      await on(backend, () => {
        const x = tf.tensor2d(logits);
        const y = tf.tensor1d(labels, 'int32');
        const losses = sparseSoftmaxCrossEntropy(x, y).dataSync();
        const gradient = tf
          .grad((a: tf.Tensor) => tf.sum(sparseSoftmaxCrossEntropy(a as tf.Tensor2D, y)))(x)
          .dataSync();
        const softmax = logits.map((row) => {
          const largest = Math.max(...row);
          const e = row.map((value) => Math.exp(value - largest));
          const total = e.reduce((a, b) => a + b);
          return e.map((value) => value / total);
        });
        assertClose(losses, [Math.log(1 + Math.exp(-1) + Math.exp(-2)), 1000, Math.log(3)], 1e-6, 'losses');
        const expected = softmax.flatMap((row, i) => row.map((value, k) => value - (k === labels[i] ? 1 : 0)));
        assertClose(gradient, expected, 1e-6, 'gradient');
      });
    });
  }
});

describe('smoothedCrossEntropy', () => {
  const logits = [
    [1, 2, 3, -1],
    [40, 0, -40, 2],
  ];
  const labels = [2, 1];

  for (const backend of BACKENDS) {
    it(`is the cross-entropy of softened labels, and its gradient softmax − those, on ${backend}`, async () => {
      await on(backend, () => {
        for (const smoothing of [0, 0.1, 1]) {
          const softmax = logits.map((row) => {
            const total = row.reduce((sum, value) => sum + Math.exp(value), 0);
            return row.map((value) => Math.exp(value) / total);
          });
          const targets = logits.map((row, i) =>
            row.map((_, k) => (k === labels[i] ? 1 - smoothing : 0) + smoothing / 4),
          );
          const losses = targets.map((row, i) => -row.reduce((sum, p, k) => sum + p * Math.log(softmax[i]![k]!), 0));
          const gradient = targets.flatMap((row, i) => row.map((p, k) => softmax[i]![k]! - p));
          const x = tf.tensor2d(logits);
          const y = tf.tensor1d(labels, 'int32');
          const loss = (a: tf.Tensor) => smoothedCrossEntropy(a as tf.Tensor2D, y, smoothing);
          assertClose(loss(x).dataSync(), losses, 1e-6, 'losses');
          assertClose(
            tf
              .grad((a) => tf.sum(loss(a)))(x)
              .dataSync(),
            gradient,
            1e-6,
            'gradient',
          );
        }
      });
    });
  }
});

describe('sizes', () => {
  it('that are not 6n + 2, or not upstream’s, are errors', () => {
    for (const size of [0, 2, 18, 19, 21]) assert.throws(() => cifar10Plan(size), /resnet_size must be 6n \+ 2: \d+/);
    for (const size of [0, 20, 56]) {
      assert.throws(() => imagenetPlan(size), {
        message: `Could not find layers for selected Resnet size.\nSize received: ${size}; sizes allowed: 18, 34, 50, 101, 152, 200.`,
      });
    }
    for (const version of [0, 3]) {
      assert.throws(() => new Model(cifar10Plan(8, version), 0), {
        message: 'Resnet version should be 1 or 2. See README for citations.',
      });
    }
  });
});
