/** Our kernels on a GPU against TensorFlow.js' `cpu` with the operations that they stand for, on random shapes and on large sums. */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import setup from '../device.js';
import { whyNoGpu } from '../testing/software-gpu.js';

const EPSILON = 1e-3;
const RUNS = { numRuns: 12 };

/** Repeatable numbers in [−1, 1), some of them 0. */
function numbers(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % 11 === 0 ? 0 : state / 2 ** 31 - 1;
  });
}

const made = (shape: readonly number[], seed: number) =>
  tf.tensor(
    numbers(
      shape.reduce((product, size) => product * size, 1),
      seed,
    ),
    [...shape],
  );

type Tensors = readonly tf.Tensor[];

/** What `compute` gives on a backend. Nothing is left there. */
async function on(backend: string, compute: () => Tensors): Promise<Float32Array[]> {
  await tf.setBackend(backend);
  const before = tf.memory().numTensors;
  const dataIds = tf.engine().backend.numDataIds();
  const tensors = tf.tidy(() => [...compute()]);
  const values = await Promise.all(tensors.map(async (tensor) => (await tensor.data()) as Float32Array));
  tf.dispose(tensors);
  assert.equal(tf.memory().numTensors, before);
  assert.equal(tf.engine().backend.numDataIds(), dataIds, `${backend} keeps data that nobody has`);
  return values;
}

/** @param tolerance relative to the largest value of each tensor */
function assertClose(found: Float32Array[], wanted: Float32Array[], tolerance: number, what: string): void {
  assert.equal(found.length, wanted.length);
  for (const [t, values] of wanted.entries()) {
    const own = found[t] as Float32Array;
    assert.equal(own.length, values.length, what);
    const scale = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-6);
    for (const [i, value] of values.entries()) {
      const difference = Math.abs((own[i] as number) - value);
      assert.ok(difference <= tolerance * scale, `${what}: tensor ${t}[${i}] is ${own[i]}, expected ${value}`);
    }
  }
}

const run = (name: string, inputs: Record<string, tf.Tensor>, attrs: object = {}) => {
  const result = tf.engine().runKernel(name, inputs, attrs as tf.NamedAttrMap) as tf.Tensor | tf.Tensor[];
  return Array.isArray(result) ? result : [result];
};

describe('kernels', { skip: whyNoGpu() || false }, () => {
  before(async () => {
    await setup({ index: 0, device: 'gpu:0' });
    tf.env().set('WEBGPU_CPU_FORWARD', false);
  });

  const side = fc.integer({ min: 1, max: 9 });
  const images = fc.tuple(fc.integer({ min: 1, max: 4 }), side, side, fc.integer({ min: 1, max: 9 }));

  for (const activation of ['linear', 'relu']) {
    test(`batch norm in training, ${activation}: values, statistics and gradients`, async () => {
      await fc.assert(
        fc.asyncProperty(images, fc.nat(1000), async (shape, seed) => {
          const c = shape[3];
          const inputs = () => ({
            ...{ x: made(shape, seed), scale: made([c], seed + 1), offset: made([c], seed + 2) },
            dy: made(shape, seed + 3),
          });
          const attrs = { epsilon: EPSILON, activation };
          const found = await on('webgpu', () => {
            const { x, scale, offset, dy } = inputs();
            const [y, mean, variance] = run('FusedBatchNormV3', { x, scale, offset }, attrs) as [
              tf.Tensor,
              tf.Tensor,
              tf.Tensor,
            ];
            return [...[y, mean, variance], ...run('FusedBatchNormGradV3', { dy, x, scale, y, mean, variance }, attrs)];
          });
          const wanted = await on('cpu', () => {
            const { x, scale, offset, dy } = inputs();
            const normalize = (...[a, b, d]: tf.Tensor[]) => {
              const { mean, variance } = tf.moments(a as tf.Tensor, [0, 1, 2]);
              const args = [mean, variance, d, b, EPSILON] as [
                tf.Tensor1D,
                tf.Tensor1D,
                tf.Tensor1D,
                tf.Tensor1D,
                number,
              ];
              const y = tf.batchNorm4d(a as tf.Tensor4D, ...args);
              return activation === 'relu' ? tf.relu(y) : y;
            };
            const { mean, variance } = tf.moments(x, [0, 1, 2]);
            return [normalize(x, scale, offset), mean, variance, ...tf.grads(normalize)([x, scale, offset], dy)];
          });
          // A variance near 0 makes large factors of rounding.
          assertClose(found, wanted, 2e-3, `[${shape}]`);
        }),
        RUNS,
      );
    });
  }

  test('batch norm of many rows: the mean of numbers far from 0 keeps its digits', async () => {
    const [rows, offset] = [40_000, 100];
    const values = numbers(rows, 5).map((value) => value + offset);
    const mean = values.reduce((sum, value) => sum + value, 0) / rows;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / rows;
    const [, found, spread] = await on('webgpu', () =>
      run(
        'FusedBatchNormV3',
        { x: tf.tensor4d(values, [4, 100, 100, 1]), scale: tf.ones([1]), offset: tf.zeros([1]) },
        { epsilon: EPSILON, activation: 'linear' },
      ),
    );
    assert.ok(Math.abs((found?.[0] as number) - mean) < 1e-6 * mean, `${found?.[0]}, expected ${mean}`);
    assert.ok(Math.abs((spread?.[0] as number) - variance) < 1e-5, `${spread?.[0]}, expected ${variance}`);
  });

  test('the gradient of a filter: strides, paddings, and more or fewer rows than parts', async () => {
    const filters = fc.tuple(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 7 }),
    );
    const strides = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }));
    await fc.assert(
      fc.asyncProperty(
        images,
        filters,
        strides,
        fc.constantFrom('same', 'valid'),
        async (shape, filter, stride, pad) => {
          const [height, width, co] = filter;
          if (pad === 'valid' && (height > shape[1] || width > shape[2])) return;
          const filterShape = [height, width, shape[3], co] as [number, number, number, number];
          const info = tf.backend_util.computeConv2DInfo(
            ...([shape, filterShape, stride, 1, pad as 'same'] as [never, never, never, 1, 'same']),
          );
          const attrs = { strides: stride, pad, dataFormat: 'NHWC', filterShape };
          const compute = () => run('Conv2DBackpropFilter', { x: made(shape, 1), dy: made(info.outShape, 2) }, attrs);
          const what = `[${shape}] by [${filterShape}], strides ${stride}, ${pad}`;
          assertClose(await on('webgpu', compute), await on('cpu', compute), 1e-5, what);
        },
      ),
      RUNS,
    );
  });

  test('the gradient of a filter with channels first is still right', async () => {
    const attrs = { strides: [1, 1], pad: 'same', dataFormat: 'NCHW', filterShape: [3, 3, 2, 4] };
    const compute = () => run('Conv2DBackpropFilter', { x: made([2, 2, 5, 6], 1), dy: made([2, 4, 5, 6], 2) }, attrs);
    assertClose(await on('webgpu', compute), await on('cpu', compute), 1e-5, 'NCHW');
  });

  test('the gradient of a filter of many images keeps its digits', async () => {
    // All products are the same, so the sum is known: 4 × 96 × 96 of them, less the border where the filter hangs over.
    const [n, edge, value] = [4, 96, 0.1];
    const attrs = { strides: [1, 1], pad: 'same', dataFormat: 'NHWC', filterShape: [3, 3, 1, 1] };
    const [found] = await on('webgpu', () =>
      run(
        'Conv2DBackpropFilter',
        { x: tf.fill([n, edge, edge, 1], value), dy: tf.fill([n, edge, edge, 1], value) },
        attrs,
      ),
    );
    const product = Math.fround(value) ** 2;
    const span = (at: number) => (at === 1 ? edge : edge - 1);
    for (const [i, sum] of (found as Float32Array).entries()) {
      const wanted = n * span(Math.floor(i / 3)) * span(i % 3) * product;
      assert.ok(Math.abs(sum - wanted) < 3e-6 * wanted, `weight ${i} is ${sum}, expected ${wanted}`);
    }
  });

  test('the end of a residual block, and its gradient; a number that is none stays none', async () => {
    const shape = [3, 5, 7];
    const compute = (backend: string) => () => {
      const [a, b, dy] = [made(shape, 1), made(shape, 2), made(shape, 3)];
      if (backend === 'cpu') {
        const y = tf.relu(tf.add(a, b));
        return [y, tf.mul(dy, tf.step(y))];
      }
      const [y] = run('AddRelu', { a, b }) as [tf.Tensor];
      return [y, ...run('ReluGrad', { dy, y })];
    };
    // Zeros of either sign are equal.
    assertClose(await on('webgpu', compute('webgpu')), await on('cpu', compute('cpu')), 0, 'block');
    const [none] = await on('webgpu', () => run('AddRelu', { a: tf.tensor1d([Number.NaN]), b: tf.tensor1d([1]) }));
    assert.ok(Number.isNaN(none?.[0]));
  });

  test('a layers model with batch norm has the gradients of cpu: kernels that replace TensorFlow.js’ own are found by it', async () => {
    const gradients = (backend: string) =>
      on(backend, () => {
        const [x, filter, scale] = [made([2, 8, 8, 3], 1), made([3, 3, 3, 4], 2), made([4], 3)];
        const loss = (w: tf.Tensor) => {
          const y = tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 2, 'same');
          const { mean, variance } = tf.moments(y, [0, 1, 2]);
          const args = [mean, variance, tf.zeros([4]), scale] as [tf.Tensor1D, tf.Tensor1D, tf.Tensor1D, tf.Tensor1D];
          // Each output counts differently: the norm alone would hardly depend on the filter.
          return tf.sum(tf.mul(tf.batchNorm4d(y, ...args), made(y.shape, 4)));
        };
        return [tf.grad(loss)(filter)];
      });
    assertClose(await gradients('webgpu'), await gradients('cpu'), 1e-4, 'gradient');
  });
});
