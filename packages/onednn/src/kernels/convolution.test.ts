/** Convolution and its gradients against TensorFlow.js' `cpu` kernels on random shapes. */
import { test } from 'node:test';
import { type backend_util, conv2d, fused, type Tensor4D } from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import { assertSameAsCpu, run, sample, toTensor } from '../testing/backend.js';

const channels = fc.constantFrom(1, 2, 3, 5, 8, 16, 32, 48);
const geometry = fc.record({
  batch: fc.integer({ min: 1, max: 3 }),
  height: fc.integer({ min: 1, max: 11 }),
  width: fc.integer({ min: 1, max: 11 }),
  input: channels,
  output: channels,
  kernelHeight: fc.integer({ min: 1, max: 4 }),
  kernelWidth: fc.integer({ min: 1, max: 4 }),
  stride: fc.integer({ min: 1, max: 3 }),
  dilation: fc.integer({ min: 1, max: 2 }),
  pad: fc.oneof(
    fc.constant('same' as const),
    fc.constant('valid' as const),
    fc.integer({ min: 0, max: 1 }),
    fc.tuple(fc.nat(2), fc.nat(2), fc.nat(2), fc.nat(2)),
  ),
  seed: fc.integer(),
});
type Geometry = typeof geometry extends fc.Arbitrary<infer T> ? T : never;

function attrsOf(g: Geometry) {
  // Strides and dilations together are not defined by TensorFlow.
  const dilation = g.stride > 1 ? 1 : g.dilation;
  const pad = Array.isArray(g.pad)
    ? ([
        [0, 0],
        [g.pad[0], g.pad[1]],
        [g.pad[2], g.pad[3]],
        [0, 0],
      ] as backend_util.ExplicitPadding)
    : g.pad;
  return {
    strides: [g.stride, g.stride] as [number, number],
    dilations: [dilation, dilation] as [number, number],
    pad,
  };
}

function fits(g: Geometry): boolean {
  const { dilations, pad } = attrsOf(g);
  const spanHeight = (g.kernelHeight - 1) * dilations[0] + 1;
  const spanWidth = (g.kernelWidth - 1) * dilations[1] + 1;
  const extra = pad === 'same' ? 100 : pad === 'valid' ? 0 : typeof pad === 'number' ? 2 * pad : 0;
  // With a number as padding TensorFlow.js takes the filter for square.
  const span = typeof pad === 'number' ? Math.max(spanHeight, spanWidth) : 0;
  return g.height + extra >= Math.max(span, spanHeight) && g.width + extra >= Math.max(span, spanWidth);
}

function inputs(g: Geometry) {
  const x = toTensor(sample([g.batch, g.height, g.width, g.input], g.seed)) as Tensor4D;
  const filter = toTensor(sample([g.kernelHeight, g.kernelWidth, g.input, g.output], g.seed + 1)) as Tensor4D;
  return { x, filter };
}

test('Conv2D and its gradients equal the cpu kernels for any geometry', async () => {
  await fc.assert(
    fc.asyncProperty(geometry.filter(fits), async (g) => {
      const attrs = { ...attrsOf(g), dataFormat: 'NHWC' };
      await assertSameAsCpu(
        () => {
          const { x, filter } = inputs(g);
          const [y] = run('Conv2D', { x, filter }, attrs);
          // TensorFlow.js defines no gradient for dilated filters: its own kernels ignore the dilation.
          if (attrs.dilations[0] > 1) return [y!];
          const dy = toTensor(sample(y!.shape, g.seed + 2));
          return [
            y!,
            ...run('Conv2DBackpropInput', { dy, filter }, { ...attrs, inputShape: x.shape }),
            ...run('Conv2DBackpropFilter', { x, dy }, { ...attrs, filterShape: filter.shape }),
          ];
        },
        2e-5,
        JSON.stringify(g),
      );
    }),
    { numRuns: 150 },
  );
});

test('Winograd shapes (3×3, stride 1, 32 channels and more) stay within 1e-4 of the cpu kernels', async () => {
  for (const [size, count] of [
    [7, 32],
    [16, 64],
  ] as const) {
    const attrs = { strides: [1, 1], dilations: [1, 1], pad: 'same', dataFormat: 'NHWC' };
    await assertSameAsCpu(() => {
      const x = toTensor(sample([2, size, size, count], 1));
      const filter = toTensor(sample([3, 3, count, count], 2));
      const dy = toTensor(sample([2, size, size, count], 3));
      return [
        ...run('Conv2D', { x, filter }, attrs),
        ...run('Conv2DBackpropInput', { dy, filter }, { ...attrs, inputShape: x.shape }),
        ...run('Conv2DBackpropFilter', { x, dy }, { ...attrs, filterShape: filter.shape }),
      ];
    }, 1e-4);
  }
});

test('one block of channels on both sides (forward by the data gradient’s kernel) equals the cpu kernels', async () => {
  const attrs = { strides: [1, 1], dilations: [1, 1], pad: 'same', dataFormat: 'NHWC' };
  for (const channels of [8, 16]) {
    for (const [batch, height, width] of [
      [1, 5, 7],
      [3, 8, 4],
      [2, 1, 1],
    ] as const) {
      await assertSameAsCpu(
        () => {
          const x = toTensor(sample([batch, height, width, channels], 1));
          const filter = toTensor(sample([3, 3, channels, channels], 2));
          const [y] = run('Conv2D', { x, filter }, attrs) as [Tensor4D];
          // The second layer reads what the first wrote, in whatever layout that is.
          const [z] = run('Conv2D', { x: y, filter }, attrs) as [Tensor4D];
          return [
            y,
            z,
            ...run('Conv2DBackpropInput', { dy: z, filter }, { ...attrs, inputShape: x.shape }),
            ...run('Conv2DBackpropFilter', { x: y, dy: z }, { ...attrs, filterShape: filter.shape }),
            ...run('Conv2DBackpropFilter', { x, dy: z }, { ...attrs, filterShape: filter.shape }),
          ];
        },
        2e-5,
        `${channels} channels, ${batch}×${height}×${width}`,
      );
    }
  }
});

test('a chain of convolutions keeps its blocked layout and gives the cpu values', async () => {
  await assertSameAsCpu(() => {
    const x = toTensor(sample([2, 8, 8, 3], 1)) as Tensor4D;
    const first = toTensor(sample([3, 3, 3, 16], 2)) as Tensor4D;
    const second = toTensor(sample([3, 3, 16, 32], 3)) as Tensor4D;
    const third = toTensor(sample([1, 1, 32, 5], 4)) as Tensor4D;
    return [conv2d(conv2d(conv2d(x, first, 1, 'same'), second, 2, 'same'), third, 1, 'same')];
  });
});

test('FusedConv2D adds the bias and applies the activation', async () => {
  for (const activation of ['linear', 'relu', 'relu6', 'elu', 'sigmoid', 'leakyrelu'] as const) {
    for (const output of [4, 16]) {
      await assertSameAsCpu(
        () => {
          const x = toTensor(sample([2, 5, 6, 3], 1)) as Tensor4D;
          const filter = toTensor(sample([3, 3, 3, output], 2)) as Tensor4D;
          const bias = toTensor(sample([output], 3));
          return [fused.conv2d({ x, filter, strides: 1, pad: 'same', bias, activation, leakyreluAlpha: 0.3 })];
        },
        1e-5,
        `${activation} ${output}`,
      );
    }
  }
});

test('one channel in, one column out, and strides that differ (oneDNN 3.7 errs there)', async () => {
  for (const output of [1, 4]) {
    const attrs = { dilations: [1, 1], pad: 'valid' };
    await assertSameAsCpu(() => [
      ...run(
        'Conv2D',
        { x: toTensor(sample([1, 3, 3, 1], 1)), filter: toTensor(sample([1, 2, 1, output], 2)) },
        { ...attrs, strides: [1, 2], dataFormat: 'NHWC' },
      ),
      ...run(
        'Conv3D',
        { x: toTensor(sample([1, 2, 3, 3, 1], 1)), filter: toTensor(sample([1, 1, 2, 1, output], 2)) },
        { ...attrs, strides: [1, 1, 2], dilations: [1, 1, 1], dataFormat: 'NDHWC' },
      ),
    ]);
  }
});
