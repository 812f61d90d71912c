/** Depthwise and three-dimensional convolution, transposed convolution, 3-D pooling: against `cpu` and finite differences. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { assertClose, assertSameAsCpu, run, runOn, sample, toTensor } from '../testing/backend.js';

const size = fc.integer({ min: 1, max: 9 });
const kernelSize = fc.integer({ min: 1, max: 3 });
const stride = fc.integer({ min: 1, max: 3 });

test('depthwise convolution and both gradients equal the cpu kernels for any geometry', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        batch: fc.integer({ min: 1, max: 3 }),
        height: size,
        width: size,
        channels: fc.constantFrom(1, 3, 8, 16, 32),
        multiplier: fc.constantFrom(1, 1, 2, 3),
        kernelHeight: kernelSize,
        kernelWidth: kernelSize,
        stride,
        dilation: fc.integer({ min: 1, max: 2 }),
        pad: fc.oneof(fc.constant('same' as const), fc.constant('valid' as const), fc.constant(1)),
        blocked: fc.boolean(),
        seed: fc.integer(),
      }),
      async (g) => {
        const dilation = g.stride > 1 ? 1 : g.dilation;
        const span = (Math.max(g.kernelHeight, g.kernelWidth) - 1) * dilation + 1;
        fc.pre(g.pad === 'same' || Math.min(g.height, g.width) >= span);
        const attrs = { strides: [g.stride, g.stride], dilations: [dilation, dilation], pad: g.pad };
        await assertSameAsCpu(
          () => {
            const plain = toTensor(sample([g.batch, g.height, g.width, g.channels], g.seed)) as tf.Tensor4D;
            const identity = tf.reshape(tf.eye(g.channels), [1, 1, g.channels, g.channels]) as tf.Tensor4D;
            const x = g.blocked ? tf.conv2d(plain, identity, 1, 'same') : plain;
            const filter = toTensor(sample([g.kernelHeight, g.kernelWidth, g.channels, g.multiplier], g.seed + 1));
            const [y] = run('DepthwiseConv2dNative', { x, filter }, attrs);
            if (dilation > 1) return [y!];
            const dy = toTensor(sample(y!.shape, g.seed + 2));
            return [
              y!,
              ...run('DepthwiseConv2dNativeBackpropInput', { dy, filter }, { ...attrs, inputShape: x.shape }),
              ...run('DepthwiseConv2dNativeBackpropFilter', { x, dy }, { ...attrs, filterShape: filter.shape }),
            ];
          },
          2e-5,
          JSON.stringify(g),
        );
      },
    ),
    { numRuns: 80 },
  );
});

test('fused depthwise convolution adds the bias and applies the activation', async () => {
  for (const activation of ['linear', 'relu', 'relu6', 'elu', 'sigmoid'] as const) {
    for (const [channels, multiplier] of [
      [3, 2],
      [16, 1],
    ] as const) {
      await assertSameAsCpu(() => {
        const x = toTensor(sample([2, 7, 6, channels], 1)) as tf.Tensor4D;
        const filter = toTensor(sample([3, 3, channels, multiplier], 2)) as tf.Tensor4D;
        const bias = toTensor(sample([channels * multiplier], 3)) as tf.Tensor1D;
        return [tf.fused.depthwiseConv2d({ x, filter, strides: 1, pad: 'same', bias, activation })];
      });
    }
  }
});

test('3-D convolution and both gradients equal the cpu kernels for any geometry', async () => {
  const small = fc.integer({ min: 1, max: 6 });
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        batch: fc.integer({ min: 1, max: 2 }),
        space: fc.tuple(small, small, small),
        channels: fc.tuple(fc.constantFrom(1, 3, 5, 16, 32), fc.constantFrom(1, 4, 16, 32)),
        kernel: fc.tuple(kernelSize, kernelSize, kernelSize),
        strides: fc.tuple(stride, stride, stride),
        dilation: fc.integer({ min: 1, max: 2 }),
        pad: fc.constantFrom('same' as const, 'valid' as const),
        seed: fc.integer(),
      }),
      async ({ batch, space, channels: [input, output], kernel, strides, dilation: d, pad, seed }) => {
        const dilation = strides.some((s) => s > 1) ? 1 : d;
        fc.pre(pad === 'same' || kernel.every((k, axis) => (k - 1) * dilation + 1 <= (space[axis] as number)));
        const attrs = { strides, dilations: [dilation, dilation, dilation], pad, dataFormat: 'NDHWC' };
        await assertSameAsCpu(
          () => {
            const x = toTensor(sample([batch, ...space, input], seed));
            const filter = toTensor(sample([...kernel, input, output], seed + 1));
            const [y] = run('Conv3D', { x, filter }, attrs);
            if (dilation > 1) return [y!];
            const dy = toTensor(sample(y!.shape, seed + 2));
            return [
              y!,
              ...run('Conv3DBackpropInputV2', { dy, filter }, { strides, pad, inputShape: x.shape }),
              ...run('Conv3DBackpropFilterV2', { x, dy }, { strides, pad, filterShape: filter.shape }),
            ];
          },
          2e-5,
          JSON.stringify({ batch, space, input, output, kernel, strides, dilation, pad }),
        );
      },
    ),
    { numRuns: 60 },
  );
});

for (const kind of ['Max', 'Avg'] as const) {
  test(`${kind}Pool3D and its gradient equal the cpu kernels for any geometry`, async () => {
    const side = fc.integer({ min: 3, max: 7 });
    await fc.assert(
      fc.asyncProperty(
        fc.tuple(fc.integer({ min: 1, max: 2 }), side, side, side, fc.constantFrom(1, 3, 16)),
        fc.tuple(kernelSize, kernelSize, kernelSize),
        fc.tuple(stride, stride, stride),
        fc.constantFrom('same' as const, 'valid' as const),
        fc.integer(),
        async (shape, [depth, height, width], strides, pad, seed) => {
          // TensorFlow.js' MaxPool3DGrad loses the maximum's place in windows that are not square (row × height, not × width).
          const filterSize = [depth, height, kind === 'Max' ? height : width];
          await assertSameAsCpu(() => {
            const x = toTensor(sample(shape, seed));
            const attrs = { filterSize, strides, pad, dataFormat: 'NDHWC' };
            const [y] = run(`${kind}Pool3D`, { x }, attrs);
            const dy = toTensor(sample(y!.shape, seed + 1));
            const inputs = { dy, input: x, output: y! };
            return [y!, ...run(`${kind}Pool3DGrad`, inputs, { filterSize, strides, pad })];
          });
        },
      ),
      { numRuns: 40 },
    );
  });
}

test('3-D max pooling gives each gradient to its maximum in windows of any shape', async () => {
  const [x, y, dx] = await runOn('onednn', () => {
    const input = toTensor(sample([1, 4, 4, 6, 2], 3));
    const attrs = { filterSize: [2, 1, 3], strides: [2, 1, 3], pad: 'valid' };
    const [output] = run('MaxPool3D', { x: input }, attrs);
    return [input, output!, ...run('MaxPool3DGrad', { dy: output!, input, output: output! }, attrs)];
  });
  // Windows do not overlap, so the gradient is the output where the input is the maximum and 0 elsewhere.
  const maxima = new Set(y!.values);
  assertClose(
    dx!.values,
    Array.from(x!.values, (v) => (maxima.has(v) ? v : 0)),
    1e-6,
  );
});

test('1-D convolution and transposed 2-D convolution, with gradients, equal the cpu backend', async () => {
  for (const [input, output] of [
    [3, 5],
    [16, 32],
  ] as const) {
    for (const pad of ['same', 'valid'] as const) {
      await assertSameAsCpu(() => {
        const x = toTensor(sample([2, 11, input], 1)) as tf.Tensor3D;
        const filter = toTensor(sample([3, input, output], 2)) as tf.Tensor3D;
        const loss = (a: tf.Tensor, b: tf.Tensor) =>
          tf.sum(tf.square(tf.conv1d(a as tf.Tensor3D, b as tf.Tensor3D, 2, pad)));
        return [loss(x, filter), ...tf.grads(loss)([x, filter])];
      });
      await assertSameAsCpu(() => {
        const x = toTensor(sample([2, 5, 4, input], 1)) as tf.Tensor4D;
        const filter = toTensor(sample([3, 2, output, input], 2)) as tf.Tensor4D;
        const shape: [number, number, number, number] = pad === 'same' ? [2, 10, 8, output] : [2, 11, 8, output];
        const up = (a: tf.Tensor, b: tf.Tensor) =>
          tf.conv2dTranspose(a as tf.Tensor4D, b as tf.Tensor4D, shape, 2, pad);
        const loss = (a: tf.Tensor, b: tf.Tensor) => tf.sum(tf.square(up(a, b)));
        return [up(x, filter), ...tf.grads(loss)([x, filter])];
      });
    }
  }
});

/** Central differences along `directions` random directions: (f(x + εv) − f(x − εv)) / 2ε against ⟨gradient, v⟩. */
async function checkByDifferences(shapes: number[][], f: (inputs: tf.Tensor[]) => tf.Tensor): Promise<void> {
  const inputs = shapes.map((shape, i) => sample(shape, 10 + i));
  const loss = (tensors: tf.Tensor[]) => {
    const y = f(tensors);
    return tf.sum(tf.mul(y, toTensor(sample(y.shape, 99))));
  };
  const gradients = await runOn('onednn', () => tf.grads((...t) => loss(t))(inputs.map(toTensor)));
  for (const [which, input] of inputs.entries()) {
    const direction = sample(input.shape, 50 + which).values;
    const epsilon = 1e-2;
    const at = async (sign: number) => {
      const moved = { shape: input.shape, values: input.values.map((v, i) => v + sign * epsilon * direction[i]!) };
      const [value] = await runOn('onednn', () => [
        loss(
          inputs.map((other, i) =>
            toTensor(i === which ? { ...moved, values: Float32Array.from(moved.values) } : other),
          ),
        ),
      ]);
      return value!.values[0] as number;
    };
    const slope = ((await at(1)) - (await at(-1))) / (2 * epsilon);
    const expected = (gradients[which]!.values as Float32Array).reduce((total, g, i) => total + g * direction[i]!, 0);
    assert.ok(
      Math.abs(slope - expected) < 2e-3 * Math.max(1, Math.abs(expected)),
      `input ${which}: finite differences ${slope}, gradient ${expected}`,
    );
  }
}

test('gradients agree with finite differences', async () => {
  await checkByDifferences(
    [
      [2, 6, 5, 16],
      [3, 3, 16, 1],
    ],
    ([x, f]) => tf.depthwiseConv2d(x as tf.Tensor4D, f as tf.Tensor4D, 2, 'same'),
  );
  await checkByDifferences(
    [
      [1, 4, 5, 3, 4],
      [2, 2, 2, 4, 16],
    ],
    ([x, f]) => tf.conv3d(x as tf.Tensor5D, f as tf.Tensor5D, 1, 'same'),
  );
  // Convolution is linear in each operand, so differences are exact up to rounding; TensorFlow.js has no such gradient.
  await checkByDifferences(
    [
      [1, 3, 3, 2, 4],
      [2, 2, 2, 16, 4],
    ],
    ([x, f]) => tf.conv3dTranspose(x as tf.Tensor5D, f as tf.Tensor5D, [1, 6, 6, 4, 16], 2, 'same'),
  );
  await checkByDifferences(
    [
      [2, 1, 3, 4],
      [5, 4, 2],
    ],
    ([a, b]) => tf.matMul(a as tf.Tensor, b as tf.Tensor),
  );
});

test('matrix products whose batches broadcast equal a loop in f64', async () => {
  const axis = fc.constantFrom(1, 2, 3);
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(axis, axis),
      fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      fc.boolean(),
      fc.boolean(),
      fc.integer(),
      async (batch, ones, transposeA, transposeB, seed) => {
        const [m, k, n] = [3, 4, 5];
        const lead = (a: boolean, b: boolean) => [a ? 1 : batch[0], b ? 1 : batch[1]];
        const [batchA, batchB] = [lead(ones[0]!, ones[1]!), lead(ones[2]!, ones[3]!)];
        const a = sample([...batchA, ...(transposeA ? [k, m] : [m, k])], seed);
        const b = sample([...batchB, ...(transposeB ? [n, k] : [k, n])], seed + 1);
        const [product] = await runOn('onednn', () => [tf.matMul(toTensor(a), toTensor(b), transposeA, transposeB)]);
        const outer = [0, 1].map((i) => Math.max(batchA[i]!, batchB[i]!));
        assert.deepEqual(product!.shape, [...outer, m, n]);
        const expected: number[] = [];
        const at = (shape: number[], i: number, j: number) => ((i % shape[0]!) * shape[1]! + (j % shape[1]!)) as number;
        for (let i = 0; i < outer[0]!; i++)
          for (let j = 0; j < outer[1]!; j++)
            for (let row = 0; row < m; row++)
              for (let column = 0; column < n; column++) {
                let total = 0;
                for (let t = 0; t < k; t++) {
                  const x = at(batchA, i, j) * m * k + (transposeA ? t * m + row : row * k + t);
                  const y = at(batchB, i, j) * k * n + (transposeB ? column * k + t : t * n + column);
                  total += a.values[x]! * b.values[y]!;
                }
                expected.push(total);
              }
        assertClose(product!.values, expected, 1e-5, JSON.stringify({ batchA, batchB, transposeA, transposeB }));
      },
    ),
    { numRuns: 60 },
  );
});
