/**
 * Every kernel of the backend, and TensorFlow.js' own, as a step that is recorded: a replay on new data gives the bits that the
 * same kernel gives when TensorFlow.js calls it. Each in a loop's size and in a primitive's where there are both.
 */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { kernelNames } from '../register.js';
import { ARITHMETIC, run, sample } from '../testing.js';
import { BACKEND_NAME } from './kernel.js';

await tf.setBackend(BACKEND_NAME);
const backend = tf.backend() as OneDnnBackend;

/** An input: a shape of f32, or one of integers below a limit; limit 2 is bool. */
type Input = readonly number[] | { readonly shape: readonly number[]; readonly below: number };
type Step = (...inputs: tf.Tensor[]) => tf.Tensor | tf.Tensor[];
/** What an input may be: positive numbers for a logarithm, variances and the optimizers' squares. */
type Transform = (value: number) => number;

const shapeOf = (input: Input) => [...('shape' in input ? input.shape : input)];

function write(tensor: tf.Tensor, input: Input, seed: number, transform: Transform): void {
  const { values } = sample(shapeOf(input), seed);
  const below = 'below' in input ? input.below : 0;
  const target = backend.storage(tensor).view() as Float32Array;
  for (let i = 0; i < target.length; i++) {
    const value = values[i] as number;
    target[i] = below > 0 ? Math.min(below - 1, Math.floor(((value + 1) / 2) * below)) : transform(value);
  }
}

/** Runs `step` ten times on new data, by TensorFlow.js and as a program, and compares results and inputs (some are updated). */
function assertReplays(what: string, inputs: readonly Input[], step: Step, transform: Transform = (x) => x): void {
  const tensors = inputs.map((input) => {
    const dtype = 'below' in input ? (input.below === 2 ? 'bool' : 'int32') : 'float32';
    return tf.keep(tf.zeros(shapeOf(input), dtype));
  });
  const feed = (seed: number) => {
    for (const [i, tensor] of tensors.entries()) write(tensor, inputs[i] as Input, seed + 31 * i, transform);
  };
  let outputs: Float32Array[] = [];
  let calls = 0;
  const compute = () => {
    calls++;
    tf.tidy(() => {
      const results = [step(...tensors)].flat();
      if (outputs.length === 0) outputs = results.map(({ size }) => new Float32Array(size));
      for (const [i, result] of results.entries()) backend.readInto(result.dataId, outputs[i] as Float32Array);
    });
  };
  const state = () =>
    [...outputs, ...tensors.map((tensor) => backend.storage(tensor).view() as Float32Array)].map((values) =>
      values.slice(),
    );
  const program = backend.program();
  try {
    for (let i = 0; i < 8; i++) {
      feed(100 + i);
      compute();
      const expected = state();
      for (const values of outputs) values.fill(Number.NaN);
      feed(100 + i);
      const before = calls;
      program.run(compute);
      assert.deepEqual(state(), expected, `${what}, run ${i}`);
      assert.equal(calls - before, i < 4 ? 1 : 0, `${what}, run ${i}: ${program.state}, ${program.refusal}`);
    }
  } finally {
    program.dispose();
    tf.dispose(tensors);
  }
}

/** Kernels that a test here records. DropoutMask draws anew: see dropout-layers.test.ts. */
const tested = new Set(['DropoutMask']);

/** A kernel with its inputs by name and its attributes. */
function replays(
  name: string,
  inputs: Readonly<Record<string, Input>>,
  attrs: Record<string, unknown> = {},
  transform?: Transform,
): void {
  tested.add(name);
  const keys = Object.keys(inputs);
  const shapes = Object.values(inputs).map((input) => `[${shapeOf(input)}]`);
  it(`${name} ${shapes.join(' ')}`, () => {
    const step: Step = (...tensors) =>
      run(name, Object.fromEntries(keys.map((key, i) => [key, tensors[i] as tf.Tensor])), attrs);
    assertReplays(name, Object.values(inputs), step, transform);
  });
}

function replaysList(name: string, inputs: readonly Input[], attrs: Record<string, unknown>): void {
  tested.add(name);
  it(`${name} of a list`, () => assertReplays(name, inputs, (...tensors) => run(name, tensors as never, attrs)));
}

/** A step of kernels that a call runs. */
function replaysCall(what: string, names: readonly string[], inputs: readonly Input[], step: Step): void {
  for (const name of names) tested.add(name);
  it(what, () => assertReplays(what, inputs, step));
}

const positive: Transform = (x) => Math.abs(x) + 0.1;
const SMALL = [4, 6];
const LARGE = [64, 96];
const integers = (shape: readonly number[], below: number): Input => ({ shape, below });
const bools = (shape: readonly number[]): Input => integers(shape, 2);

describe('a recorded step of a kernel of the backend', () => {
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
      ...['Ceil', 'Round', 'Sign', 'Erf', 'Sin', 'Cos', 'IsNan', 'IsFinite', 'ZerosLike', 'OnesLike', 'L2Penalty'],
    ]) {
      replays(name, { x: shape });
    }
    for (const name of ['Log', 'Log1p', 'Sqrt', 'Rsqrt', 'Reciprocal']) replays(name, { x: shape }, {}, positive);
    replays('LeakyRelu', { x: shape }, { alpha: 0.2 });
    replays('Step', { x: shape }, { alpha: 0.5 });
    replays('ClipByValue', { x: shape }, { clipValueMin: -0.5, clipValueMax: 0.5 });
    replays('Cast', { x: shape }, { dtype: 'int32' });
    replays('Cast', { x: integers(shape, 9) }, { dtype: 'float32' });
    replays('Cast', { x: shape }, { dtype: 'bool' });
    replays('Cast', { x: bools(shape) }, { dtype: 'int32' });
    for (const name of ['EluGrad', 'SigmoidGrad', 'TanhGrad', 'ReluGrad']) replays(name, { dy: shape, y: shape });
    for (const name of ARITHMETIC) {
      replays(name, { a: shape, b: shape });
      replays(name, { a: shape, b: shape.slice(1) });
    }
    for (const name of ['RealDiv', 'Pow', 'FloorDiv']) replays(name, { a: shape, b: shape }, {}, positive);
    for (const name of ['LogicalAnd', 'LogicalOr']) replays(name, { a: bools(shape), b: bools(shape) });
    replays('AddRelu', { a: shape, b: shape });
    replays('Prelu', { x: shape, alpha: shape.slice(1) });
    replays('Select', { condition: bools(shape), t: shape, e: shape });
    for (const axis of [0, 1]) {
      for (const name of ['Sum', 'Mean', 'Min', 'Prod']) replays(name, { x: shape }, { axis, keepDims: false });
      replays('Max', { x: shape }, { reductionIndices: axis, keepDims: false });
      for (const name of ['ArgMax', 'ArgMin']) replays(name, { x: shape }, { axis });
      for (const name of ['All', 'Any']) replays(name, { x: bools(shape) }, { axis, keepDims: false });
      replaysList('Concat', [shape, shape, shape], { axis });
      replaysList('Pack', [shape, shape], { axis });
      replays('SplitV', { x: shape }, { numOrSizeSplits: 2, axis });
      replays('Unpack', { value: shape }, { axis });
    }
    replays('Softmax', { logits: shape }, { dim: -1 });
    replays('LogSoftmax', { logits: shape }, { axis: -1 });
    replays('Transpose', { x: shape }, { perm: [1, 0] });
    replays('Slice', { x: shape }, { begin: [1, 2], size: [2, 3] });
    replays('Slice', { x: shape }, { begin: [1, 0], size: [2, shape[1]] });
    const masks = { beginMask: 0, endMask: 0, ellipsisMask: 0, newAxisMask: 0, shrinkAxisMask: 0 };
    replays('StridedSlice', { x: shape }, { begin: [0, 0], end: shape, strides: [2, 2], ...masks });
    replays(
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
    replays('Tile', { x: shape }, { reps: [2, 3] });
    replays('Reverse', { x: shape }, { dims: [1] });
    replays('GatherV2', { x: shape, indices: integers([7], 4) }, { axis: 0 });
    replays('GatherV2', { x: shape, indices: integers([7], 4) }, { axis: 1 });
    replays('UnsortedSegmentSum', { x: shape, segmentIds: integers([shape[0] as number], 3) }, { numSegments: 3 });
    replays('SparseSoftmaxCrossEntropyWithLogits', { logits: shape, labels: integers([shape[0] as number], 6) });
    replays('BatchMatMul', { a: shape, b: shape }, { transposeA: false, transposeB: true });
    const product = { a: shape, b: [shape[1] as number, 8], bias: [8] };
    replays('_FusedMatMul', product, { transposeA: false, transposeB: false, activation: 'relu' });
    const normalized = { x: shape, scale: shape.slice(1), offset: shape.slice(1) };
    replays('LayerNorm', normalized, { epsilon: 1e-3 });
    const rows = shape.slice(0, 1);
    const statistics = { dy: shape, x: shape, scale: shape.slice(1), mean: rows, variance: rows };
    replays('LayerNormGrad', statistics, { epsilon: 1e-3 }, positive);
    replays('MovingAverage', { average: shape, batch: shape }, { momentum: 0.9 });
  }
  replays('OneHot', { indices: integers([5], 4) }, { dtype: 'float32', depth: 4, onValue: 1, offValue: 0 });
  replaysCall('Fill', ['Fill'], [SMALL], (x) => tf.mul(x as tf.Tensor, tf.fill(SMALL, 3)));
});

describe('a recorded step of a layer', () => {
  const flags = { alignCorners: false, halfPixelCenters: false };
  for (const kind of ['Bilinear', 'NearestNeighbor']) {
    replays(`Resize${kind}`, { images: [2, 5, 4, 3] }, { size: [7, 9], ...flags });
    replays(`Resize${kind}Grad`, { images: [2, 5, 4, 3], dy: [2, 7, 9, 3] }, flags);
  }
  for (const [size, channels] of [
    [4, 3],
    [12, 32],
  ] as const) {
    const x = [2, size, size, channels];
    const filter = [3, 3, channels, channels];
    const conv = { strides: [1, 1], pad: 'same', dataFormat: 'NHWC', dilations: [1, 1] };
    replays('Conv2D', { x, filter }, conv);
    replays('FusedConv2D', { x, filter, bias: [channels] }, { ...conv, activation: 'relu' });
    replays('Conv2DBackpropInput', { dy: x, filter }, { ...conv, inputShape: x });
    replays('Conv2DBackpropFilter', { x, dy: x }, { ...conv, filterShape: filter });
    const deep = [3, 3, channels, 1];
    replays('DepthwiseConv2dNative', { x, filter: deep }, conv);
    replays('FusedDepthwiseConv2D', { x, filter: deep, bias: [channels] }, { ...conv, activation: 'relu' });
    replays('DepthwiseConv2dNativeBackpropInput', { dy: x, filter: deep }, { ...conv, inputShape: x });
    replays('DepthwiseConv2dNativeBackpropFilter', { x, dy: x }, { ...conv, filterShape: deep });
    const x3 = [1, 4, 4, 4, channels];
    const filter3 = [3, 3, 3, channels, channels];
    const conv3 = { strides: [1, 1, 1], pad: 'same', dataFormat: 'NDHWC', dilations: [1, 1, 1] };
    replays('Conv3D', { x: x3, filter: filter3 }, conv3);
    replays('Conv3DBackpropInputV2', { dy: x3, filter: filter3 }, { ...conv3, inputShape: x3 });
    replays('Conv3DBackpropFilterV2', { x: x3, dy: x3 }, { ...conv3, filterShape: filter3 });
    const pool = { filterSize: 2, strides: 2, pad: 'valid' };
    const half = [2, size / 2, size / 2, channels];
    replays('MaxPool', { x }, pool);
    replays('AvgPool', { x }, pool);
    replays('MaxPoolGrad', { dy: half, input: x, output: half }, pool);
    replays('AvgPoolGrad', { dy: half, input: x }, pool);
    const pool3 = { filterSize: [2, 2, 2], strides: [2, 2, 2], pad: 'valid', dataFormat: 'NDHWC' };
    const half3 = [1, 2, 2, 2, channels];
    replays('MaxPool3D', { x: x3 }, pool3);
    replays('AvgPool3D', { x: x3 }, pool3);
    replays('MaxPool3DGrad', { dy: half3, input: x3, output: half3 }, pool3);
    replays('AvgPool3DGrad', { dy: half3, input: x3 }, pool3);
    const perChannel = { scale: [channels], offset: [channels] };
    const statistics = { mean: [channels], variance: [channels] };
    replays('FusedBatchNorm', { x, ...perChannel, ...statistics }, { varianceEpsilon: 1e-3 }, positive);
    replays('FusedBatchNormV3', { x, ...perChannel }, { epsilon: 1e-3, activation: 'linear' });
    const backward = { dy: x, x, scale: [channels], y: x, ...statistics };
    replays('FusedBatchNormGradV3', backward, { epsilon: 1e-3, activation: 'linear' }, positive);
    replaysCall(
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
      replays('LSTMBlockCell', { z: [n, 4 * units], c: h }, attrs);
      replays('LSTMBlockCellGrad', { dh: h, dc: h, z: [n, 4 * units], c: h, gates, tanh: h }, attrs);
      const weights = { h, kernel: [units, 3 * units] };
      const gruGates = [recurrentActivation === 'sigmoid' ? 3 : 5, n, units];
      replays('GRUBlockCell', { x: [n, 3 * units], ...weights }, attrs);
      replays('GRUBlockCellGrad', { dh: h, ...weights, gates: gruGates }, attrs);
    }
    replays('SimpleRNNBlockCell', { x: h, h, kernel: [units, units] });
    replays('SimpleRNNBlockCellGrad', { dy: h, y: h, h, kernel: [units, units] });
  }
});

describe("a recorded optimizer's kernel", () => {
  for (const size of [100, 40_000]) {
    const [one, epsilon] = [[size], 1e-7];
    replays('ResourceApplyGradientDescent', { var: one, grad: one }, { c: -0.1 });
    for (const useNesterov of [false, true]) {
      const attrs = { c: -0.1, momentum: 0.9, useNesterov };
      replays('ResourceApplyMomentum', { var: one, accum: one, grad: one }, attrs);
    }
    const adam = { rate: 0.01, beta1: 0.9, beta2: 0.999, epsilon, correction1: 0.1, correction2: 0.001 };
    replays('ResourceApplyAdam', { var: one, m: one, v: one, grad: one }, adam, positive);
    const rms = { rate: 0.01, decay: 0.9, momentum: 0.5, epsilon };
    replays('ResourceApplyRMSProp', { var: one, ms: one, mom: one, grad: one }, rms, positive);
    replays('ResourceApplyCenteredRMSProp', { var: one, mg: one, ms: one, mom: one, grad: one }, rms, positive);
    replays('ResourceApplyAdagrad', { var: one, accum: one, grad: one }, { rate: 0.01, epsilon }, positive);
  }
});

describe("a recorded step of TensorFlow.js' own kernels", () => {
  const image: Input = [2, 6, 6, 4];
  const cases: readonly (readonly [string, readonly Input[], Step])[] = [
    ['cumulative sums', [SMALL], (x) => [tf.cumsum(x as tf.Tensor, 1), tf.cumprod(x as tf.Tensor, 0, true, true)]],
    ['functions', [SMALL], (x) => [tf.tan(x as tf.Tensor), tf.atan(x as tf.Tensor), tf.cosh(x as tf.Tensor)]],
    [
      'arithmetic',
      [SMALL, SMALL],
      (a, b) => [tf.mod(a as tf.Tensor, b as tf.Tensor), tf.atan2(a as tf.Tensor, b as tf.Tensor)],
    ],
    [
      'integers',
      [integers(SMALL, 9), integers(SMALL, 5)],
      (a, b) => tf.relu(tf.cast(tf.mul(a as tf.Tensor, tf.mod(b as tf.Tensor, 3)), 'float32')),
    ],
    ['top k', [SMALL], (x) => Object.values(tf.topk(x as tf.Tensor, 2))],
    ['gathering', [SMALL, integers([3, 1], 4)], (x, at) => tf.gatherND(x as tf.Tensor, at as tf.Tensor)],
    ['scattering', [[3, 6], integers([3, 1], 4)], (x, at) => tf.scatterND(at as tf.Tensor, x as tf.Tensor, [4, 6])],
    ['Einstein sums', [SMALL, SMALL], (a, b) => tf.einsum('ij,kj->ik', a as tf.Tensor, b as tf.Tensor)],
    [
      'a mirrored border',
      [SMALL],
      (x) =>
        tf.mirrorPad(
          x as tf.Tensor2D,
          [
            [1, 1],
            [2, 2],
          ],
          'reflect',
        ),
    ],
    [
      'crops',
      [image, [3, 4], integers([3], 2)],
      (x, boxes, of) =>
        tf.image.cropAndResize(
          x as tf.Tensor4D,
          boxes as tf.Tensor2D,
          tf.cast(of as tf.Tensor, 'int32') as tf.Tensor1D,
          [3, 3],
        ),
    ],
    [
      'blocks of space',
      [image],
      (x) =>
        tf.spaceToBatchND(
          x as tf.Tensor,
          [2, 2],
          [
            [0, 0],
            [0, 0],
          ],
        ),
    ],
    [
      'response normalization and its gradient',
      [image],
      (x) => tf.grad((a) => tf.sum(tf.square(tf.localResponseNormalization(a as tf.Tensor4D))))(x as tf.Tensor),
    ],
    ['dilation', [image, [2, 2, 4]], (x, filter) => tf.dilation2d(x as tf.Tensor4D, filter as tf.Tensor3D, 1, 'same')],
    ['counts', [integers([20], 5)], (x) => tf.bincount(x as tf.Tensor1D, [], 5)],
    [
      'a search',
      [[5], [4]],
      (x, values) => tf.searchSorted(tf.cumsum(tf.abs(x as tf.Tensor)) as tf.Tensor1D, values as tf.Tensor1D),
    ],
    ['seeded draws', [[2, 5]], (x) => tf.multinomial(x as tf.Tensor2D, 3, 7)],
    [
      'between ours',
      [LARGE],
      (x) => tf.matMul(tf.cumsum(tf.relu(x as tf.Tensor2D)), tf.asinh(x as tf.Tensor2D), false, true),
    ],
    [
      'of a convolution',
      [image, [3, 3, 4, 16]],
      (x, w) => tf.softplus(tf.cumsum(tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 1, 'same'), 3)),
    ],
  ];
  for (const [what, inputs, step] of cases) replaysCall(what, [], inputs, step);
});

describe('a replay that meets an index out of range', () => {
  it("throws TensorFlow.js' error, and goes on with good ones", () => {
    const x = tf.keep(tf.tensor2d([1, 2, 3, 4], [2, 2]));
    const indices = tf.keep(tf.tensor1d([1, 0], 'int32'));
    const output = new Float32Array(4);
    const step = () => tf.tidy(() => void backend.readInto(tf.gather(x, indices).dataId, output));
    const program = backend.program();
    for (let i = 0; i < 5; i++) program.run(step);
    assert.equal(program.state, 'recorded', `${program.refusal}`);
    const values = backend.storage(indices).view() as Int32Array;
    values[1] = 2;
    assert.throws(() => program.run(step), /GatherV2: the index value 2 is not in \[0, 1\]/);
    values.fill(1);
    program.run(step);
    assert.deepEqual(output, new Float32Array([3, 4, 3, 4]));
    program.dispose();
    tf.dispose([x, indices]);
  });
});

after(() => {
  assert.deepEqual(
    kernelNames.filter((name) => !tested.has(name)),
    [],
    'kernels that no test here records',
  );
});
