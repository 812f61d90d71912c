/**
 * Every kernel of the backend, and TensorFlow.js' own, as a step that is recorded: a replay on new data gives the bits that the
 * same kernel gives when TensorFlow.js calls it. Each in a loop's size and in a primitive's where there are both.
 */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { kernelNames } from '../register.js';
import { run } from '../testing/backend.js';
import { BACKEND_NAME } from './kernel.js';
import {
  describeKernels,
  dtypeOf,
  type Input,
  integers,
  LARGE,
  SMALL,
  type Step,
  shapeOf,
  type Transform,
  valuesOf,
} from './testing/kernel-cases.js';

await tf.setBackend(BACKEND_NAME);
const backend = tf.backend() as OneDnnBackend;

/** Runs `step` eight times on new data, by TensorFlow.js and as a program, and compares results and inputs (some are updated). */
function assertReplays(what: string, inputs: readonly Input[], step: Step, transform: Transform = (x) => x): void {
  const tensors = inputs.map((input) => tf.keep(tf.zeros(shapeOf(input), dtypeOf(input))));
  const feed = (seed: number) => {
    for (const [i, tensor] of tensors.entries()) {
      const values = valuesOf(inputs[i] as Input, seed + 31 * i, transform);
      (backend.storage(tensor).view() as Float32Array).set(values);
    }
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

describeKernels({ kernel: replays, list: replaysList, call: replaysCall });

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
