/**
 * NaN, both infinities and −0 in every kernel of the backend: planted into each input in turn, in a loop's size and in a
 * primitive's, they come out as TensorFlow.js' `cpu` has them (for kernels that it lacks: as the composition that they stand
 * for), and a step that was recorded while everything was finite has them too.
 */
import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { OneDnnBackend } from '../backend.js';
import { kernelNames } from '../register.js';
import { run } from '../testing/backend.js';
import { BACKEND_NAME } from './kernel.js';
import { COMPOSED } from './testing/compositions.js';
import {
  describeKernels,
  dtypeOf,
  type Input,
  type Step,
  shapeOf,
  type Transform,
  valuesOf,
} from './testing/kernel-cases.js';

const PLANTS: readonly (readonly [string, number])[] = [
  ['NaN', Number.NaN],
  ['+∞', Number.POSITIVE_INFINITY],
  ['−∞', Number.NEGATIVE_INFINITY],
  ['−0', -0],
];
const tested = new Set<string>();

type Values = Float32Array | Int32Array | Uint8Array;

/** A few elements, apart from each other, or all. */
function plant(values: Values, value: number, isWhole: boolean): void {
  if (isWhole) values.fill(value);
  else
    for (const at of [1, values.length >> 1, values.length - 2]) if (at >= 0 && at < values.length) values[at] = value;
}

function compute(step: Step, tensors: tf.Tensor[]): Values[] {
  return tf.tidy(() => [step(...tensors)].flat().map((result) => (result.dataSync() as Float32Array).slice()));
}

/** Whether an element is right: the same number nearly, or the same that is none; of two zeros the same. */
function agrees(actual: number, expected: number, isAnyZero: boolean): boolean {
  if (Number.isNaN(expected)) return Number.isNaN(actual);
  if (expected === 0 && actual === 0) return isAnyZero || Object.is(actual, expected);
  if (!Number.isFinite(expected)) return actual === expected;
  return Math.abs(actual - expected) <= 2e-3 * Math.max(1, Math.abs(expected));
}

function assertAgree(what: string, actual: Values[], expected: Values[], { isSpread, isAnyZero }: Exceptions): void {
  assert.equal(actual.length, expected.length, what);
  for (const [r, want] of expected.entries()) {
    const got = actual[r] as Values;
    assert.equal(got.length, want.length, `${what}, result ${r}`);
    for (let i = 0; i < want.length; i++) {
      const [own, value] = [got[i] as number, want[i] as number];
      if (agrees(own, value, isAnyZero) || (isSpread && Number.isNaN(own))) continue;
      const near = (list: Values) => list.slice(Math.max(0, i - 2), i + 3);
      assert.fail(`${what}, result ${r}[${i}]: ${own}, not ${value} (${near(got)} beside ${near(want)})`);
    }
  }
}

interface Exceptions {
  /** What is not finite may spread. */
  readonly isSpread: boolean;
  /** Equal elements are not compared. */
  readonly isTied: boolean;
  /** The sign of a zero is not compared. */
  readonly isAnyZero: boolean;
}

async function check(
  what: string,
  inputs: readonly Input[],
  step: Step,
  reference: Step,
  transform: Transform,
  exceptions: Exceptions,
): Promise<void> {
  const finite = inputs.map((input, i) => valuesOf(input, 7 + 31 * i, transform));
  const cases = [{ name: 'finite', data: finite }];
  for (const [at, input] of inputs.entries()) {
    if (dtypeOf(input) !== 'float32') continue;
    for (const [name, value] of PLANTS) {
      for (const isWhole of exceptions.isTied ? [false] : [false, true]) {
        const data = finite.map((values) => values.slice());
        plant(data[at] as Values, value, isWhole);
        cases.push({ name: `${name} in ${isWhole ? 'all of ' : ''}input ${at}`, data });
      }
    }
  }
  const tensorsOf = (data: readonly Values[]) =>
    inputs.map((input, i) => tf.tensor((data[i] as Values).slice(), shapeOf(input), dtypeOf(input)));
  await tf.setBackend('cpu');
  const expected = cases.map(({ data }) => compute(reference, tensorsOf(data)));
  await tf.setBackend(BACKEND_NAME);
  const backend = tf.backend() as OneDnnBackend;
  for (const [i, { name, data }] of cases.entries()) {
    assertAgree(`${what}, ${name}`, compute(step, tensorsOf(data)), expected[i] as Values[], exceptions);
  }
  // Recorded with numbers, then replayed with what is none.
  const kept = inputs.map((input) => tf.keep(tf.zeros(shapeOf(input), dtypeOf(input))));
  const feed = (data: readonly Values[]) => {
    for (const [i, tensor] of kept.entries())
      (backend.storage(tensor).view() as Float32Array).set(data[i] as Float32Array);
  };
  let outputs: Float32Array[] = [];
  let calls = 0;
  const program = backend.program();
  const once = () =>
    program.run(() => {
      calls++;
      tf.tidy(() => {
        const results = [step(...kept)].flat();
        if (outputs.length === 0) outputs = results.map(({ size }) => new Float32Array(size));
        for (const [r, result] of results.entries()) backend.readInto(result.dataId, outputs[r] as Float32Array);
      });
    });
  try {
    for (let i = 0; i < 5; i++) {
      feed(finite);
      once();
    }
    const before = calls;
    for (const [i, { name, data }] of cases.entries()) {
      feed(data);
      once();
      assertAgree(`${what}, replayed, ${name}`, outputs, expected[i] as Values[], exceptions);
      assert.equal(calls, before, `${what}, ${name}: ${program.state}, ${program.refusal}`);
    }
  } finally {
    program.dispose();
    tf.dispose(kept);
  }
}

/**
 * Winograd's convolution computes tiles of outputs together, so what is not finite in one is NaN in the whole tile. None is
 * hidden by that. A row's gradient from statistics that are infinite is NaN or infinite by the version.
 */
const SPREADS = new Set(['Conv2D', 'FusedConv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter', 'LayerNormGrad']);

/** Of equal elements, `cpu` takes the last for the greatest, and of −∞ too; in two dimensions it takes the first. */
const TIED = 'MaxPool3DGrad';
/** oneDNN's ELU makes 0 of −0; a batch norm's gradient adds its terms in another order. */
const ANY_ZERO = new Set(['Elu', 'FusedBatchNormGradV3']);
const NO_EXCEPTIONS: Exceptions = { isSpread: false, isTied: false, isAnyZero: false };

const keep: Transform = (x) => x;

describeKernels({
  kernel(name, inputs, attrs = {}, transform = keep) {
    tested.add(name);
    const keys = Object.keys(inputs);
    const step: Step = (...tensors) => {
      const results = run(name, Object.fromEntries(keys.map((key, i) => [key, tensors[i] as tf.Tensor])), attrs);
      // An optimizer's kernel has no results: it changes its inputs.
      return results.length > 0 ? results : tensors;
    };
    const composed = COMPOSED[name];
    const reference: Step = composed
      ? (...tensors) => composed(Object.fromEntries(keys.map((key, i) => [key, tensors[i] as tf.Tensor])), attrs)
      : step;
    const shapes = Object.values(inputs).map((input) => `[${shapeOf(input)}]`);
    it(`${name} ${shapes.join(' ')}`, () =>
      check(name, Object.values(inputs), step, reference, transform, {
        isSpread: SPREADS.has(name),
        isTied: name === TIED,
        isAnyZero: ANY_ZERO.has(name),
      }));
  },
  list(name, inputs, attrs) {
    tested.add(name);
    const step: Step = (...tensors) => run(name, tensors as never, attrs);
    it(`${name} of a list`, () => check(name, inputs, step, step, keep, NO_EXCEPTIONS));
  },
  call(_, names) {
    for (const name of names) tested.add(name);
  },
});

after(() => {
  const random = ['DropoutMask'];
  assert.deepEqual(
    kernelNames.filter((name) => !tested.has(name) && !random.includes(name)),
    [],
    'kernels that no test here plants into',
  );
});
