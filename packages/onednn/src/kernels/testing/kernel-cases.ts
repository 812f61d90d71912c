/**
 * Test support: every kernel of the backend with inputs that it may have, in a loop's size and in a primitive's where there are
 * both. Tests go through all of them: see replay.test.ts and not-finite.test.ts. Not part of the package.
 */
import { describe } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { ARITHMETIC, sample } from '../../testing/backend.js';

/** An input: a shape of f32, or one of integers below a limit; limit 2 is bool. */
export type Input = readonly number[] | { readonly shape: readonly number[]; readonly below: number };
export type Step = (...inputs: tf.Tensor[]) => tf.Tensor | tf.Tensor[];
/** What an input may be: positive numbers for a logarithm, variances and the optimizers' squares. */
export type Transform = (value: number) => number;

export const shapeOf = (input: Input): number[] => [...('shape' in input ? input.shape : input)];

export function dtypeOf(input: Input): 'float32' | 'int32' | 'bool' {
  return 'below' in input ? (input.below === 2 ? 'bool' : 'int32') : 'float32';
}

/** Values of an input from a seed; `transform` is of f32 alone. */
export function valuesOf(input: Input, seed: number, transform: Transform): Float32Array | Int32Array | Uint8Array {
  const { values } = sample(shapeOf(input), seed);
  if (!('below' in input)) return Float32Array.from(values, transform);
  const { below } = input;
  const integers = Array.from(values, (value) => Math.min(below - 1, Math.floor(((value + 1) / 2) * below)));
  return below === 2 ? Uint8Array.from(integers) : Int32Array.from(integers);
}

/** What is done with each case. */
export interface Visitor {
  /** A kernel with its inputs by name and its attributes. */
  kernel(
    name: string,
    inputs: Readonly<Record<string, Input>>,
    attrs?: Record<string, unknown>,
    transform?: Transform,
  ): void;
  /** A kernel of a list of tensors. */
  list(name: string, inputs: readonly Input[], attrs: Record<string, unknown>): void;
  /** A step of kernels that a call runs. */
  call(what: string, names: readonly string[], inputs: readonly Input[], step: Step): void;
}

const positive: Transform = (x) => Math.abs(x) + 0.1;
export const SMALL = [4, 6];
export const LARGE = [64, 96];
export const integers = (shape: readonly number[], below: number): Input => ({ shape, below });
const bools = (shape: readonly number[]): Input => integers(shape, 2);

/** Describes the cases, each with a test of the visitor's. */
export function describeKernels({ kernel: visit, list: visitList, call: visitCall }: Visitor): void {
  describe('a kernel of the backend', () => {
    for (const shape of [SMALL, LARGE]) {
      for (const name of [
        ...[
          'Relu',
          'Relu6',
          'Elu',
          'Selu',
          'Sigmoid',
          'Tanh',
          'Softplus',
          'Exp',
          'Expm1',
          'Square',
          'Abs',
          'Neg',
          'Floor',
        ],
        ...['Ceil', 'Round', 'Sign', 'Erf', 'Sin', 'Cos', 'IsNan', 'IsFinite', 'ZerosLike', 'OnesLike'],
      ]) {
        visit(name, { x: shape });
      }
      for (const name of ['Log', 'Log1p', 'Sqrt', 'Rsqrt', 'Reciprocal']) visit(name, { x: shape }, {}, positive);
      visit('L2Penalty', { x: shape }, { rate: 0.01 });
      visit('LeakyRelu', { x: shape }, { alpha: 0.2 });
      visit('Step', { x: shape }, { alpha: 0.5 });
      visit('ClipByValue', { x: shape }, { clipValueMin: -0.5, clipValueMax: 0.5 });
      visit('Cast', { x: shape }, { dtype: 'int32' });
      visit('Cast', { x: integers(shape, 9) }, { dtype: 'float32' });
      visit('Cast', { x: shape }, { dtype: 'bool' });
      visit('Cast', { x: bools(shape) }, { dtype: 'int32' });
      for (const name of ['EluGrad', 'SigmoidGrad', 'TanhGrad', 'ReluGrad']) visit(name, { dy: shape, y: shape });
      for (const name of ARITHMETIC) {
        visit(name, { a: shape, b: shape });
        visit(name, { a: shape, b: shape.slice(1) });
      }
      for (const name of ['RealDiv', 'Pow', 'FloorDiv']) visit(name, { a: shape, b: shape }, {}, positive);
      for (const name of ['LogicalAnd', 'LogicalOr']) visit(name, { a: bools(shape), b: bools(shape) });
      visit('AddRelu', { a: shape, b: shape });
      visit('Prelu', { x: shape, alpha: shape.slice(1) });
      visit('Select', { condition: bools(shape), t: shape, e: shape });
      for (const axis of [0, 1]) {
        for (const name of ['Sum', 'Mean', 'Min', 'Prod']) visit(name, { x: shape }, { axis, keepDims: false });
        visit('Max', { x: shape }, { reductionIndices: axis, keepDims: false });
        for (const name of ['ArgMax', 'ArgMin']) visit(name, { x: shape }, { axis });
        for (const name of ['All', 'Any']) visit(name, { x: bools(shape) }, { axis, keepDims: false });
        visitList('Concat', [shape, shape, shape], { axis });
        visitList('Pack', [shape, shape], { axis });
        visit('SplitV', { x: shape }, { numOrSizeSplits: 2, axis });
        visit('Unpack', { value: shape }, { axis });
      }
      visit('Softmax', { logits: shape }, { dim: -1 });
      visit('LogSoftmax', { logits: shape }, { axis: -1 });
      visit('Transpose', { x: shape }, { perm: [1, 0] });
      visit('Slice', { x: shape }, { begin: [1, 2], size: [2, 3] });
      visit('Slice', { x: shape }, { begin: [1, 0], size: [2, shape[1]] });
      const masks = { beginMask: 0, endMask: 0, ellipsisMask: 0, newAxisMask: 0, shrinkAxisMask: 0 };
      visit('StridedSlice', { x: shape }, { begin: [0, 0], end: shape, strides: [2, 2], ...masks });
      visit(
        'PadV2',
        { x: shape },
        {
          paddings: [
            [1, 0],
            [2, 1],
          ],
          constantValue: 3,
        },
      );
      visit('Tile', { x: shape }, { reps: [2, 3] });
      visit('Reverse', { x: shape }, { dims: [1] });
      visit('GatherV2', { x: shape, indices: integers([7], 4) }, { axis: 0 });
      visit('GatherV2', { x: shape, indices: integers([7], 4) }, { axis: 1 });
      visit('UnsortedSegmentSum', { x: shape, segmentIds: integers([shape[0] as number], 3) }, { numSegments: 3 });
      visit('SparseSoftmaxCrossEntropyWithLogits', { logits: shape, labels: integers([shape[0] as number], 6) });
      visit('BatchMatMul', { a: shape, b: shape }, { transposeA: false, transposeB: true });
      const product = { a: shape, b: [shape[1] as number, 8], bias: [8] };
      visit('_FusedMatMul', product, { transposeA: false, transposeB: false, activation: 'relu' });
      const normalized = { x: shape, scale: shape.slice(1), offset: shape.slice(1) };
      visit('LayerNorm', normalized, { epsilon: 1e-3 });
      const rows = shape.slice(0, 1);
      const statistics = { dy: shape, x: shape, scale: shape.slice(1), mean: rows, variance: rows };
      visit('LayerNormGrad', statistics, { epsilon: 1e-3 }, positive);
      visit('MovingAverage', { average: shape, batch: shape }, { momentum: 0.9 });
    }
    visit('OneHot', { indices: integers([5], 4) }, { dtype: 'float32', depth: 4, onValue: 1, offValue: 0 });
    visitCall('Fill', ['Fill'], [SMALL], (x) => tf.mul(x as tf.Tensor, tf.fill(SMALL, 3)));
  });

  describe('a kernel of a layer', () => {
    const flags = { alignCorners: false, halfPixelCenters: false };
    for (const kind of ['Bilinear', 'NearestNeighbor']) {
      visit(`Resize${kind}`, { images: [2, 5, 4, 3] }, { size: [7, 9], ...flags });
      visit(`Resize${kind}Grad`, { images: [2, 5, 4, 3], dy: [2, 7, 9, 3] }, flags);
    }
    for (const [size, channels] of [
      [4, 3],
      [12, 32],
    ] as const) {
      const x = [2, size, size, channels];
      const filter = [3, 3, channels, channels];
      const conv = { strides: [1, 1], pad: 'same', dataFormat: 'NHWC', dilations: [1, 1] };
      visit('Conv2D', { x, filter }, conv);
      visit('FusedConv2D', { x, filter, bias: [channels] }, { ...conv, activation: 'relu' });
      visit('Conv2DBackpropInput', { dy: x, filter }, { ...conv, inputShape: x });
      visit('Conv2DBackpropFilter', { x, dy: x }, { ...conv, filterShape: filter });
      const deep = [3, 3, channels, 1];
      visit('DepthwiseConv2dNative', { x, filter: deep }, conv);
      visit('FusedDepthwiseConv2D', { x, filter: deep, bias: [channels] }, { ...conv, activation: 'relu' });
      visit('DepthwiseConv2dNativeBackpropInput', { dy: x, filter: deep }, { ...conv, inputShape: x });
      visit('DepthwiseConv2dNativeBackpropFilter', { x, dy: x }, { ...conv, filterShape: deep });
      const x3 = [1, 4, 4, 4, channels];
      const filter3 = [3, 3, 3, channels, channels];
      const conv3 = { strides: [1, 1, 1], pad: 'same', dataFormat: 'NDHWC', dilations: [1, 1, 1] };
      visit('Conv3D', { x: x3, filter: filter3 }, conv3);
      visit('Conv3DBackpropInputV2', { dy: x3, filter: filter3 }, { ...conv3, inputShape: x3 });
      visit('Conv3DBackpropFilterV2', { x: x3, dy: x3 }, { ...conv3, filterShape: filter3 });
      const pool = { filterSize: 2, strides: 2, pad: 'valid' };
      const half = [2, size / 2, size / 2, channels];
      visit('MaxPool', { x }, pool);
      visit('AvgPool', { x }, pool);
      visit('MaxPool', { x: [1, 48, 48, 1] }, { ...pool, filterSize: 48 });
      visit('MaxPoolGrad', { dy: half, input: x, output: half }, pool);
      visit('AvgPoolGrad', { dy: half, input: x }, pool);
      const pool3 = { filterSize: [2, 2, 2], strides: [2, 2, 2], pad: 'valid', dataFormat: 'NDHWC' };
      const half3 = [1, 2, 2, 2, channels];
      visit('MaxPool3D', { x: x3 }, pool3);
      visit('AvgPool3D', { x: x3 }, pool3);
      visit('MaxPool3DGrad', { dy: half3, input: x3, output: half3 }, pool3);
      visit('AvgPool3DGrad', { dy: half3, input: x3 }, pool3);
      const perChannel = { scale: [channels], offset: [channels] };
      const statistics = { mean: [channels], variance: [channels] };
      visit('FusedBatchNorm', { x, ...perChannel, ...statistics }, { varianceEpsilon: 1e-3 }, positive);
      visit('FusedBatchNormV3', { x, ...perChannel }, { epsilon: 1e-3, activation: 'linear' });
      const backward = { dy: x, x, scale: [channels], y: x, ...statistics };
      visit('FusedBatchNormGradV3', backward, { epsilon: 1e-3, activation: 'linear' }, positive);
      visitCall(
        `a convolution's channel blocks joined, split and passed through a loop, ${channels} channels`,
        [],
        [x, filter],
        (image, weights) => {
          const y = tf.conv2d(image as tf.Tensor4D, weights as tf.Tensor4D, 1, 'same');
          const z = tf.concat([tf.softplus(y), y], -1);
          return [z, ...tf.split(z, 2, -1), tf.selu(y), tf.sum(tf.maxPool(y, size, size, 'valid'), [0, 1, 2])];
        },
      );
    }
    for (const [n, units] of [
      [2, 3],
      [16, 40],
    ] as const) {
      const h = [n, units];
      for (const recurrentActivation of ['sigmoid', 'hardSigmoid']) {
        const attrs = { recurrentActivation };
        const gates = [4, n, units];
        visit('LSTMBlockCell', { z: [n, 4 * units], c: h }, attrs);
        visit('LSTMBlockCellGrad', { dh: h, dc: h, z: [n, 4 * units], c: h, gates, tanh: h }, attrs);
        const weights = { h, kernel: [units, 3 * units] };
        const gruGates = [recurrentActivation === 'sigmoid' ? 3 : 5, n, units];
        visit('GRUBlockCell', { x: [n, 3 * units], ...weights }, attrs);
        visit('GRUBlockCellGrad', { dh: h, ...weights, gates: gruGates }, attrs);
      }
      visit('SimpleRNNBlockCell', { x: h, h, kernel: [units, units] });
      visit('SimpleRNNBlockCellGrad', { dy: h, y: h, h, kernel: [units, units] });
    }
  });

  describe("an optimizer's kernel", () => {
    for (const size of [100, 40_000]) {
      const [one, epsilon] = [[size], 1e-7];
      visit('ResourceApplyGradientDescent', { var: one, grad: one }, { c: -0.1 });
      for (const useNesterov of [false, true]) {
        const attrs = { c: -0.1, momentum: 0.9, useNesterov };
        visit('ResourceApplyMomentum', { var: one, accum: one, grad: one }, attrs);
      }
      const adam = { rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon, correction1: 0.1, correction2: 0.001 };
      visit('ResourceApplyAdam', { var: one, m: one, v: one, grad: one }, adam, positive);
      const rms = { rate: 0.01, decay: 0.9, momentum: 0.5, epsilon };
      visit('ResourceApplyRMSProp', { var: one, ms: one, mom: one, grad: one }, rms, positive);
      visit('ResourceApplyCenteredRMSProp', { var: one, mg: one, ms: one, mom: one, grad: one }, rms, positive);
      visit('ResourceApplyAdagrad', { var: one, accum: one, grad: one }, { rate: 0.01, epsilon }, positive);
    }
  });
}
