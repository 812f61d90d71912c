/**
 * What `lockstep bench kernels` measures: each kernel of the backend with inputs of a small and of a large size that networks
 * have. Inputs are made anew on each backend; numbers are arbitrary but the same.
 */
import * as tf from '@tensorflow/tfjs-core';
import { CALL_ROWS } from './call-rows.js';
import { type KernelRow, numbers } from './kernel-row.js';

type Attrs = Record<string, unknown>;
type Inputs = Record<string, tf.Tensor>;

const run = (name: string, inputs: Inputs | tf.Tensor[], attrs: Attrs) =>
  tf.engine().runKernel(name, inputs as Inputs, attrs as never);

/** A kernel at two sizes: shapes of its inputs by name, and attributes for them. */
interface Size {
  readonly shapes: Readonly<Record<string, number[]>>;
  readonly attrs?: Attrs;
}

const describe = ({ shapes }: Size) =>
  Object.values(shapes)
    .map((shape) => `[${shape}]`)
    .join(' ');

function kernel(family: string, name: string, small: Size, large: Size, make = numbersFor): KernelRow {
  const side = (size: Size) => ({
    what: describe(size),
    prepare: () => {
      const inputs = Object.fromEntries(Object.entries(size.shapes).map(([key, shape]) => [key, make(key, shape)]));
      return () => run(name, inputs, size.attrs ?? {});
    },
  });
  return { name, family, small: side(small), large: side(large) };
}

const numbersFor = (_: string, shape: number[]): tf.Tensor => numbers(shape);
const positive = (_: string, shape: number[]): tf.Tensor => tf.add(numbers(shape), 1.5);

const unary = (name: string, attrs: Attrs = {}, make = numbersFor) =>
  kernel('element-wise', name, { shapes: { x: [32, 10] }, attrs }, { shapes: { x: [64, 64, 64] }, attrs }, make);

const binary = (name: string, make = numbersFor) =>
  kernel(
    'element-wise',
    name,
    { shapes: { a: [32, 10], b: [32, 10] } },
    { shapes: { a: [64, 64, 64], b: [64, 64, 64] } },
    make,
  );

const broadcast = (name: string, a: number[], b: number[]): KernelRow => ({
  ...kernel('element-wise', name, { shapes: { a: [32, 10], b: [10] } }, { shapes: { a, b } }),
  name: `${name}, broadcasting`,
});

const reduction = (name: string, axes: number[], attr = 'axis'): KernelRow => ({
  ...kernel(
    'reductions',
    name,
    { shapes: { x: [32, 10] }, attrs: { [attr]: [axes[0] === 0 ? 0 : 1], keepDims: false } },
    { shapes: { x: [16, 32, 32, 16] }, attrs: { [attr]: axes, keepDims: false } },
  ),
  name: `${name} over ${axes.length === 4 ? 'all axes' : axes[0] === 0 ? 'the first axes' : 'the last axis'}`,
});

const arg = (name: string) =>
  kernel(
    'reductions',
    name,
    { shapes: { x: [32, 10] }, attrs: { axis: 1 } },
    { shapes: { x: [256, 1000] }, attrs: { axis: 1 } },
  );

const grow = { alignCorners: false, halfPixelCenters: false };
const pool = { filterSize: 2, strides: 2, pad: 'valid' };
const pool3 = { filterSize: [2, 2, 2], strides: [2, 2, 2], pad: 'valid' };
const conv = { strides: [1, 1], pad: 'same', dataFormat: 'NHWC', dilations: [1, 1] };
const conv3 = { strides: [1, 1, 1], pad: 'same', dataFormat: 'NDHWC', dilations: [1, 1, 1] };
const matmul = { transposeA: false, transposeB: false };
const truth = (_: string, shape: number[]) => numbers(shape, 'bool');
const chosen = (key: string, shape: number[]) => numbers(shape, key === 'condition' ? 'bool' : 'float32');
const indexed = (limit: number) => (key: string, shape: number[]) =>
  key === 'indices' || key === 'segmentIds' ? numbers(shape, 'int32', limit) : numbers(shape);

const list = (family: string, name: string, small: number[][], large: number[][], attrs: Attrs): KernelRow => {
  const side = (shapes: number[][]) => ({
    what: shapes.map((shape) => `[${shape}]`).join(' '),
    prepare: () => {
      const inputs = shapes.map((shape) => numbers(shape));
      return () => run(name, inputs, attrs);
    },
  });
  return { name, family, small: side(small), large: side(large) };
};

const KERNEL_ROWS: readonly KernelRow[] = [
  ...['Relu', 'Relu6', 'Elu', 'Selu', 'Sigmoid', 'Tanh', 'Softplus', 'Exp', 'Expm1', 'Erf', 'Sin', 'Cos'].map((name) =>
    unary(name),
  ),
  ...['Log', 'Log1p', 'Sqrt', 'Rsqrt', 'Reciprocal'].map((name) => unary(name, {}, positive)),
  ...['Square', 'Abs', 'Neg', 'Floor', 'Ceil', 'Round', 'Sign', 'IsNan', 'IsFinite', 'ZerosLike', 'OnesLike'].map(
    (name) => unary(name),
  ),
  unary('LeakyRelu', { alpha: 0.2 }),
  unary('Step', { alpha: 0 }),
  unary('ClipByValue', { clipValueMin: -0.5, clipValueMax: 0.5 }),
  ...['Add', 'Sub', 'Multiply', 'Maximum', 'Minimum', 'SquaredDifference', 'Greater', 'GreaterEqual'].map((name) =>
    binary(name),
  ),
  ...['Less', 'LessEqual', 'Equal', 'NotEqual'].map((name) => binary(name)),
  ...['RealDiv', 'Pow', 'FloorDiv'].map((name) => binary(name, positive)),
  ...['LogicalAnd', 'LogicalOr'].map((name) => binary(name, truth)),
  broadcast('Add', [4096, 64], [64]),
  broadcast('Multiply', [4096, 64], [4096, 1]),
  broadcast('Sub', [4096, 64], [1]),
  kernel('element-wise', 'Prelu', { shapes: { x: [32, 10], alpha: [10] } }, { shapes: { x: [4096, 64], alpha: [64] } }),
  kernel(
    'element-wise',
    'EluGrad',
    { shapes: { dy: [32, 10], y: [32, 10] } },
    { shapes: { dy: [4096, 64], y: [4096, 64] } },
  ),
  kernel(
    'element-wise',
    'Select',
    { shapes: { condition: [32, 10], t: [32, 10], e: [32, 10] } },
    { shapes: { condition: [4096, 64], t: [4096, 64], e: [4096, 64] } },
    chosen,
  ),
  kernel(
    'element-wise',
    'Cast',
    { shapes: { x: [32, 10] }, attrs: { dtype: 'int32' } },
    { shapes: { x: [4096, 64] }, attrs: { dtype: 'int32' } },
  ),
  kernel(
    'element-wise',
    'Fill',
    { shapes: {}, attrs: { shape: [32, 10], value: 1, dtype: 'float32' } },
    { shapes: {}, attrs: { shape: [4096, 64], value: 1, dtype: 'float32' } },
  ),
  reduction('Sum', [0, 1, 2]),
  reduction('Sum', [3]),
  reduction('Sum', [0, 1, 2, 3]),
  reduction('Mean', [0, 1, 2]),
  reduction('Max', [3], 'reductionIndices'),
  reduction('Max', [0, 1, 2], 'reductionIndices'),
  reduction('Min', [3]),
  reduction('Prod', [3]),
  arg('ArgMax'),
  arg('ArgMin'),
  ...['All', 'Any'].map((name) =>
    kernel(
      'reductions',
      name,
      { shapes: { x: [32, 10] }, attrs: { axis: [0], keepDims: false } },
      { shapes: { x: [256, 1000] }, attrs: { axis: [0], keepDims: false } },
      truth,
    ),
  ),
  kernel(
    'softmax',
    'Softmax',
    { shapes: { logits: [32, 10] }, attrs: { dim: -1 } },
    { shapes: { logits: [256, 1000] }, attrs: { dim: -1 } },
  ),
  list(
    'arrays',
    'Concat',
    [
      [32, 10],
      [32, 10],
    ],
    [
      [8, 32, 32, 16],
      [8, 32, 32, 16],
    ],
    { axis: -1 },
  ),
  list(
    'arrays',
    'Pack',
    [
      [32, 10],
      [32, 10],
    ],
    [
      [8, 32, 32, 16],
      [8, 32, 32, 16],
    ],
    { axis: 1 },
  ),
  kernel(
    'arrays',
    'PadV2',
    {
      shapes: { x: [1, 4, 4, 8] },
      attrs: {
        paddings: [
          [0, 0],
          [1, 1],
          [1, 1],
          [0, 0],
        ],
        constantValue: 0,
      },
    },
    {
      shapes: { x: [8, 32, 32, 32] },
      attrs: {
        paddings: [
          [0, 0],
          [1, 1],
          [1, 1],
          [0, 0],
        ],
        constantValue: 0,
      },
    },
  ),
  kernel(
    'arrays',
    'Slice',
    { shapes: { x: [32, 10] }, attrs: { begin: [0, 2], size: [32, 5] } },
    { shapes: { x: [8, 34, 34, 32] }, attrs: { begin: [0, 1, 1, 0], size: [8, 32, 32, 32] } },
  ),
  kernel(
    'arrays',
    'StridedSlice',
    { shapes: { x: [32, 10] }, attrs: stridedSlice(2) },
    { shapes: { x: [512, 512] }, attrs: stridedSlice(2) },
  ),
  kernel(
    'arrays',
    'Transpose',
    { shapes: { x: [32, 10] }, attrs: { perm: [1, 0] } },
    { shapes: { x: [8, 64, 8, 64] }, attrs: { perm: [0, 2, 1, 3] } },
  ),
  kernel(
    'arrays',
    'Tile',
    { shapes: { x: [32, 10] }, attrs: { reps: [1, 2] } },
    { shapes: { x: [512, 64] }, attrs: { reps: [2, 4] } },
  ),
  kernel(
    'arrays',
    'Reverse',
    { shapes: { x: [32, 10] }, attrs: { dims: [1] } },
    { shapes: { x: [8, 32, 32, 32] }, attrs: { dims: [2] } },
  ),
  kernel(
    'arrays',
    'SplitV',
    { shapes: { x: [32, 12] }, attrs: { numOrSizeSplits: [4, 4, 4], axis: 1 } },
    { shapes: { x: [4096, 64] }, attrs: { numOrSizeSplits: [32, 32], axis: 1 } },
  ),
  kernel(
    'arrays',
    'Unpack',
    { shapes: { value: [32, 4, 8] }, attrs: { axis: 1 } },
    { shapes: { value: [64, 32, 128] }, attrs: { axis: 1 } },
  ),
  kernel(
    'indexing',
    'GatherV2',
    { shapes: { x: [100, 16], indices: [32] }, attrs: { axis: 0 } },
    { shapes: { x: [10_000, 128], indices: [2048] }, attrs: { axis: 0 } },
    indexed(100),
  ),
  kernel(
    'indexing',
    'UnsortedSegmentSum',
    { shapes: { x: [32, 16], segmentIds: [32] }, attrs: { numSegments: 10 } },
    { shapes: { x: [2048, 64], segmentIds: [2048] }, attrs: { numSegments: 40 } },
    indexed(10),
  ),
  kernel(
    'indexing',
    'OneHot',
    { shapes: { indices: [32] }, attrs: { dtype: 'float32', depth: 10, onValue: 1, offValue: 0 } },
    { shapes: { indices: [512] }, attrs: { dtype: 'float32', depth: 1000, onValue: 1, offValue: 0 } },
    indexed(10),
  ),
  kernel(
    'resizing',
    'ResizeBilinear',
    { shapes: { images: [1, 8, 8, 3] }, attrs: { size: [16, 16], ...grow } },
    { shapes: { images: [4, 32, 32, 32] }, attrs: { size: [64, 64], ...grow } },
  ),
  kernel(
    'resizing',
    'ResizeBilinearGrad',
    { shapes: { images: [1, 8, 8, 3], dy: [1, 16, 16, 3] }, attrs: grow },
    { shapes: { images: [4, 32, 32, 32], dy: [4, 64, 64, 32] }, attrs: grow },
  ),
  kernel(
    'resizing',
    'ResizeNearestNeighbor',
    { shapes: { images: [1, 8, 8, 3] }, attrs: { size: [16, 16], ...grow } },
    { shapes: { images: [4, 32, 32, 32] }, attrs: { size: [64, 64], ...grow } },
  ),
  kernel(
    'resizing',
    'ResizeNearestNeighborGrad',
    { shapes: { images: [1, 8, 8, 3], dy: [1, 16, 16, 3] }, attrs: grow },
    { shapes: { images: [4, 32, 32, 32], dy: [4, 64, 64, 32] }, attrs: grow },
  ),
  kernel(
    'matrix products',
    'BatchMatMul',
    { shapes: { a: [1, 10, 10], b: [1, 10, 10] }, attrs: matmul },
    { shapes: { a: [8, 64, 128], b: [8, 128, 64] }, attrs: matmul },
  ),
  kernel(
    'matrix products',
    '_FusedMatMul',
    { shapes: { a: [10, 10], b: [10, 10], bias: [10] }, attrs: { ...matmul, activation: 'relu' } },
    { shapes: { a: [64, 256], b: [256, 256], bias: [256] }, attrs: { ...matmul, activation: 'relu' } },
  ),
  kernel(
    'convolution',
    'Conv2D',
    { shapes: { x: [1, 8, 8, 8], filter: [3, 3, 8, 8] }, attrs: conv },
    { shapes: { x: [2, 16, 16, 32], filter: [3, 3, 32, 32] }, attrs: conv },
  ),
  kernel(
    'convolution',
    'Conv2DBackpropInput',
    { shapes: { dy: [1, 8, 8, 8], filter: [3, 3, 8, 8] }, attrs: { ...conv, inputShape: [1, 8, 8, 8] } },
    { shapes: { dy: [2, 16, 16, 32], filter: [3, 3, 32, 32] }, attrs: { ...conv, inputShape: [2, 16, 16, 32] } },
  ),
  kernel(
    'convolution',
    'Conv2DBackpropFilter',
    { shapes: { x: [1, 8, 8, 8], dy: [1, 8, 8, 8] }, attrs: { ...conv, filterShape: [3, 3, 8, 8] } },
    { shapes: { x: [2, 16, 16, 32], dy: [2, 16, 16, 32] }, attrs: { ...conv, filterShape: [3, 3, 32, 32] } },
  ),
  kernel(
    'convolution',
    'FusedConv2D',
    { shapes: { x: [1, 8, 8, 8], filter: [3, 3, 8, 8], bias: [8] }, attrs: { ...conv, activation: 'relu' } },
    { shapes: { x: [2, 16, 16, 32], filter: [3, 3, 32, 32], bias: [32] }, attrs: { ...conv, activation: 'relu' } },
  ),
  kernel(
    'convolution',
    'DepthwiseConv2dNative',
    { shapes: { x: [1, 8, 8, 8], filter: [3, 3, 8, 1] }, attrs: conv },
    { shapes: { x: [2, 32, 32, 32], filter: [3, 3, 32, 1] }, attrs: conv },
  ),
  kernel(
    'convolution',
    'DepthwiseConv2dNativeBackpropInput',
    { shapes: { dy: [1, 8, 8, 8], filter: [3, 3, 8, 1] }, attrs: { ...conv, inputShape: [1, 8, 8, 8] } },
    { shapes: { dy: [2, 32, 32, 32], filter: [3, 3, 32, 1] }, attrs: { ...conv, inputShape: [2, 32, 32, 32] } },
  ),
  kernel(
    'convolution',
    'DepthwiseConv2dNativeBackpropFilter',
    { shapes: { x: [1, 8, 8, 8], dy: [1, 8, 8, 8] }, attrs: { ...conv, filterShape: [3, 3, 8, 1] } },
    { shapes: { x: [2, 32, 32, 32], dy: [2, 32, 32, 32] }, attrs: { ...conv, filterShape: [3, 3, 32, 1] } },
  ),
  kernel(
    'convolution',
    'FusedDepthwiseConv2D',
    { shapes: { x: [1, 8, 8, 8], filter: [3, 3, 8, 1], bias: [8] }, attrs: { ...conv, activation: 'relu' } },
    { shapes: { x: [2, 32, 32, 32], filter: [3, 3, 32, 1], bias: [32] }, attrs: { ...conv, activation: 'relu' } },
  ),
  kernel(
    'convolution',
    'Conv3D',
    { shapes: { x: [1, 4, 4, 4, 8], filter: [3, 3, 3, 8, 8] }, attrs: conv3 },
    { shapes: { x: [1, 8, 8, 8, 16], filter: [3, 3, 3, 16, 16] }, attrs: conv3 },
  ),
  kernel(
    'convolution',
    'Conv3DBackpropInputV2',
    { shapes: { dy: [1, 4, 4, 4, 8], filter: [3, 3, 3, 8, 8] }, attrs: { ...conv3, inputShape: [1, 4, 4, 4, 8] } },
    {
      shapes: { dy: [1, 8, 8, 8, 16], filter: [3, 3, 3, 16, 16] },
      attrs: { ...conv3, inputShape: [1, 8, 8, 8, 16] },
    },
  ),
  kernel(
    'convolution',
    'Conv3DBackpropFilterV2',
    { shapes: { x: [1, 4, 4, 4, 8], dy: [1, 4, 4, 4, 8] }, attrs: { ...conv3, filterShape: [3, 3, 3, 8, 8] } },
    {
      shapes: { x: [1, 8, 8, 8, 16], dy: [1, 8, 8, 8, 16] },
      attrs: { ...conv3, filterShape: [3, 3, 3, 16, 16] },
    },
  ),
  kernel(
    'normalization',
    'FusedBatchNorm',
    { shapes: perChannel([1, 4, 4, 8]), attrs: { varianceEpsilon: 1e-3 } },
    { shapes: perChannel([8, 32, 32, 32]), attrs: { varianceEpsilon: 1e-3 } },
    positive,
  ),
  kernel(
    'pooling',
    'MaxPool',
    { shapes: { x: [1, 8, 8, 8] }, attrs: pool },
    { shapes: { x: [8, 32, 32, 32] }, attrs: pool },
  ),
  kernel(
    'pooling',
    'MaxPoolGrad',
    { shapes: { dy: [1, 4, 4, 8], input: [1, 8, 8, 8], output: [1, 4, 4, 8] }, attrs: pool },
    { shapes: { dy: [8, 16, 16, 32], input: [8, 32, 32, 32], output: [8, 16, 16, 32] }, attrs: pool },
  ),
  kernel(
    'pooling',
    'AvgPool',
    { shapes: { x: [1, 8, 8, 8] }, attrs: pool },
    { shapes: { x: [8, 32, 32, 32] }, attrs: pool },
  ),
  kernel(
    'pooling',
    'AvgPoolGrad',
    { shapes: { dy: [1, 4, 4, 8], input: [1, 8, 8, 8] }, attrs: pool },
    { shapes: { dy: [8, 16, 16, 32], input: [8, 32, 32, 32] }, attrs: pool },
  ),
  kernel(
    'pooling',
    'MaxPool3D',
    { shapes: { x: [1, 4, 4, 4, 8] }, attrs: { ...pool3, dataFormat: 'NDHWC' } },
    { shapes: { x: [2, 16, 16, 16, 16] }, attrs: { ...pool3, dataFormat: 'NDHWC' } },
  ),
  kernel(
    'pooling',
    'MaxPool3DGrad',
    { shapes: { dy: [1, 2, 2, 2, 8], input: [1, 4, 4, 4, 8], output: [1, 2, 2, 2, 8] }, attrs: pool3 },
    { shapes: { dy: [2, 8, 8, 8, 16], input: [2, 16, 16, 16, 16], output: [2, 8, 8, 8, 16] }, attrs: pool3 },
  ),
  kernel(
    'pooling',
    'AvgPool3D',
    { shapes: { x: [1, 4, 4, 4, 8] }, attrs: { ...pool3, dataFormat: 'NDHWC' } },
    { shapes: { x: [2, 16, 16, 16, 16] }, attrs: { ...pool3, dataFormat: 'NDHWC' } },
  ),
  kernel(
    'pooling',
    'AvgPool3DGrad',
    { shapes: { dy: [1, 2, 2, 2, 8], input: [1, 4, 4, 4, 8] }, attrs: pool3 },
    { shapes: { dy: [2, 8, 8, 8, 16], input: [2, 16, 16, 16, 16] }, attrs: pool3 },
  ),
];

/** Families in the order in which they first appear, the rows of both files together. */
export const ROWS: readonly KernelRow[] = [
  ...new Set([...KERNEL_ROWS, ...CALL_ROWS].map(({ family }) => family)),
].flatMap((family) => [...KERNEL_ROWS, ...CALL_ROWS].filter((row) => row.family === family));

function perChannel(x: number[]): Record<string, number[]> {
  const channels = [x.at(-1) as number];
  return { x, scale: channels, offset: channels, mean: channels, variance: channels };
}

function stridedSlice(step: number): Attrs {
  const masks = { beginMask: 0, endMask: 0, ellipsisMask: 0, newAxisMask: 0, shrinkAxisMask: 0 };
  return { begin: [0, 0], end: [1 << 20, 1 << 20], strides: [step, step], ...masks };
}
