/** Code for batch norm against the definition in f64, on numbers that lose digits easily, and with any number of threads. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { backwardPlan, forwardPlan } from '../kernels/batch-norm-plans.js';
import { blocked, channelsLast } from '../layout.js';
import { Runtime } from '../runtime.js';
import { sample } from '../testing/backend.js';
import type { DataType } from './norm-code.js';

const runtime = new Runtime();
const skip = runtime.machine === null && 'no AVX-512, or another OpenMP than libgomp';
const EPSILON = 1e-5;

interface Case {
  readonly shape: readonly [images: number, height: number, width: number, channels: number];
  readonly relu: boolean;
  /** Of x: what is added to numbers of about −1 to 1. */
  readonly middle: number;
  /** In a residual network; with a gradient that arrives in two parts. */
  readonly residual?: boolean;
  readonly hasSecond?: boolean;
  /** Of all tensors but those of channels. Default f32. */
  readonly type?: DataType;
  /** Whether numbers are such that bf16 has them exactly. */
  readonly exact?: boolean;
}

/** Numbers of −1 to 1. */
function numbers(count: number, seed: number, isExact = false): Float32Array {
  const values = sample([count], seed).values as Float32Array;
  return isExact ? values.map((value) => Math.round(value * 128) / 128) : values;
}

/** Runs both passes. Values of [n, h, w, c]. */
function compute(
  { shape, relu, middle, residual = false, hasSecond = false, type = 'f32', exact }: Case,
  threads: number,
): Record<string, Float32Array> {
  const { pool } = runtime;
  const channels = shape[3];
  const size = shape.reduce((product, count) => product * count, 1);
  const attrs = { epsilon: EPSILON, activation: relu ? 'relu' : 'linear' } as const;
  const [plain, layout] = [channelsLast(runtime, shape), blocked(runtime, shape, type)];
  const buffer = (count: number, values?: Float32Array) => {
    const place = pool.acquire(4 * count);
    const view = new Float32Array(place.memory, place.byteOffset, count);
    view.set(values ?? new Float32Array(count).fill(Number.NaN));
    return { place, view, address: place.address };
  };
  const inBlocks = (values: Float32Array) => {
    const [from, to] = [buffer(size, values), buffer(size)];
    runtime.reorder(from.address, plain, to.address, layout);
    return to;
  };
  const x = inBlocks(numbers(size, 1, exact).map((value) => value + middle));
  const dy = inBlocks(numbers(size, 2, exact));
  const [scale, shift] = [3, 4].map((seed) => buffer(channels, numbers(channels, seed))) as [typeof x, typeof x];
  const [mean, variance, dScale, dShift] = [0, 0, 0, 0].map(() => buffer(channels)) as [
    typeof x,
    typeof x,
    typeof x,
    typeof x,
  ];
  const [addend, second] = [inBlocks(numbers(size, 5, exact)), inBlocks(numbers(size, 6, exact))];
  const [y, dx, up] = [buffer(size), buffer(size), buffer(size)];
  const before = runtime.threads;
  runtime.threads = threads;
  try {
    const forward = forwardPlan(runtime, shape, layout, attrs, { residual, hasSecond: false });
    const backward = backwardPlan(runtime, shape, layout, attrs, { residual, hasSecond });
    assert.equal(forward.primitive.implementation, 'lockstep:avx512');
    assert.equal(backward.primitive.implementation, 'lockstep:avx512');
    const bits = relu ? [pool.acquire(forward.bitBytes).address] : [];
    const parameters = [x, y, scale, shift, mean, variance].map(({ address }) => address);
    forward.primitive.run(...parameters, ...bits, ...(residual ? [addend.address] : []));
    const operands = [x, dy, dx, scale, mean, variance, dScale, dShift].map(({ address }) => address);
    const ties = [...(residual ? [up.address] : []), ...(hasSecond ? [second.address] : [])];
    backward.primitive.run(...operands, ...bits, ...ties);
  } finally {
    runtime.threads = before;
  }
  const plainly = ({ address }: { address: number }) => {
    const to = buffer(size);
    runtime.reorder(address, layout, to.address, plain);
    return to.view.slice();
  };
  return {
    y: plainly(y),
    dx: plainly(dx),
    ...(residual ? { up: plainly(up) } : {}),
    ...Object.fromEntries(Object.entries({ mean, variance, dScale, dShift }).map(([name, { view }]) => [name, view])),
  };
}

/** The same by definition, in f64. */
function define({
  shape,
  relu,
  middle,
  residual = false,
  hasSecond = false,
  exact,
}: Case): Record<string, Float64Array> {
  const channels = shape[3];
  const size = shape.reduce((product, count) => product * count, 1);
  const x = numbers(size, 1, exact).map((value) => value + middle);
  const [dy, addend, second] = [2, 5, 6].map((seed) => numbers(size, seed, exact)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const [scale, shift] = [3, 4].map((seed) => numbers(channels, seed)) as [Float32Array, Float32Array];
  const of = (count: number) => new Float64Array(count);
  const result = {
    y: of(size),
    dx: of(size),
    up: of(size),
    mean: of(channels),
    variance: of(channels),
    dScale: of(channels),
    dShift: of(channels),
  };
  const count = size / channels;
  for (let c = 0; c < channels; c++) {
    let sum = 0;
    for (let i = c; i < size; i += channels) sum += x[i] as number;
    const mean = sum / count;
    let squares = 0;
    for (let i = c; i < size; i += channels) squares += ((x[i] as number) - mean) ** 2;
    const variance = squares / count;
    const deviation = Math.sqrt(variance + EPSILON);
    const normal = (i: number) => ((x[i] as number) - mean) / deviation;
    const norm = (i: number) => normal(i) * (scale[c] as number) + (shift[c] as number);
    const value = (i: number) => norm(i) + (residual ? (addend[i] as number) : 0);
    const arriving = (i: number) => (dy[i] as number) + (hasSecond ? (second[i] as number) : 0);
    const up = (i: number) => (relu && value(i) <= 0 ? 0 : arriving(i));
    let [dShift, dScale] = [0, 0];
    for (let i = c; i < size; i += channels) {
      result.y[i] = relu ? Math.max(0, value(i)) : value(i);
      result.up[i] = up(i);
      dShift += up(i);
      dScale += up(i) * normal(i);
    }
    for (let i = c; i < size; i += channels) {
      result.dx[i] = ((scale[c] as number) / deviation) * (up(i) - dShift / count - (normal(i) * dScale) / count);
    }
    Object.assign(result.mean, { [c]: mean });
    Object.assign(result.variance, { [c]: variance });
    Object.assign(result.dScale, { [c]: dScale });
    Object.assign(result.dShift, { [c]: dShift });
  }
  return result;
}

function assertNear(actual: Float32Array, expected: Float64Array, tolerance: number, what: string): void {
  for (const [i, value] of expected.entries()) {
    const error = Math.abs((actual[i] as number) - value);
    if (!(error <= tolerance)) assert.fail(`${what}[${i}] is ${actual[i]}, not ${value}`);
  }
}

describe('code for batch norm', { skip }, () => {
  after(() => runtime.trim());

  // One pixel, a piece and a rest, more blocks than a group takes, one image, results that are written past the caches.
  const shapes: readonly Case['shape'][] = [
    [2, 1, 1, 16],
    [1, 5, 3, 32],
    [3, 7, 7, 48],
    [2, 27, 19, 16],
    [1, 60, 41, 32],
    [4, 2, 2, 2048],
    [9, 90, 90, 64],
  ];
  for (const shape of shapes) {
    const kinds = {
      '': { relu: false },
      ' with ReLU': { relu: true },
      ' in a residual network': { relu: true, residual: true },
      ' in a residual network, of two gradients': { relu: true, residual: true, hasSecond: true },
    };
    // Among millions of elements some are next to 0, where ReLU's slope is either of two; the largest one goes without it.
    const isLarge = shape.reduce((product, count) => product * count, 1) > 2 ** 20;
    for (const [kind, ties] of Object.entries(kinds).slice(0, isLarge ? 1 : undefined)) {
      test(`[${shape}]${kind} is the definition`, () => {
        const one: Case = { shape, middle: 0.5, ...ties };
        const [actual, expected] = [compute(one, 2), define(one)];
        const count = shape[0] * shape[1] * shape[2];
        for (const name of ['y', 'dx', 'mean', 'variance', ...(one.residual ? ['up'] : [])]) {
          assertNear(actual[name] as Float32Array, expected[name] as Float64Array, 2e-5, name);
        }
        for (const name of ['dScale', 'dShift']) {
          assertNear(actual[name] as Float32Array, expected[name] as Float64Array, 2e-6 * count + 1e-5, name);
        }
      });
    }
  }

  test('in bf16 it is the definition, to the digits that bf16 has', {
    skip: !runtime.hasBf16 && 'no bf16 here',
  }, () => {
    // Enough for results that are written past the caches; numbers that bf16 has exactly, so that nothing is lost before.
    const cases: readonly Omit<Case, 'middle'>[] = [
      { shape: [2, 7, 5, 48], relu: true, residual: true, hasSecond: true },
      { shape: [8, 93, 91, 128], relu: false },
    ];
    for (const ties of cases) {
      const { shape } = ties;
      const one: Case = { ...ties, middle: 0, type: 'bf16', exact: true };
      const [actual, expected] = [compute(one, 2), define(one)];
      const count = shape[0] * shape[1] * shape[2];
      for (const name of ['y', 'dx', ...(one.residual ? ['up'] : [])]) {
        // Half of the last of 8 bits, of numbers up to 8.
        assertNear(actual[name] as Float32Array, expected[name] as Float64Array, 2 ** -6, name);
      }
      for (const name of ['mean', 'variance']) {
        assertNear(actual[name] as Float32Array, expected[name] as Float64Array, 1e-5, name);
      }
      for (const name of ['dScale', 'dShift']) {
        assertNear(actual[name] as Float32Array, expected[name] as Float64Array, 2e-6 * count + 1e-5, name);
      }
    }
  });

  test('a mean that is ten thousand times the deviation costs no more than the input has lost already', () => {
    const one = { shape: [2, 40, 40, 16], relu: false, middle: 10_000 } as const;
    const [{ variance, mean }, expected] = [compute(one, 2), define(one)];
    assertNear(mean as Float32Array, expected.mean as Float64Array, 2e-3, 'mean');
    // By sum and sum of squares in f32 the variance, a third, would be off by more than 1.
    assertNear(variance as Float32Array, expected.variance as Float64Array, 1e-4, 'variance');
  });

  test('bits do not depend on the number of threads', () => {
    fc.assert(
      fc.property(
        fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 30 })),
        fc.constantFrom(16, 32, 80),
        fc.boolean(),
        fc.boolean(),
        fc.integer({ min: 2, max: 5 }),
        ([images, height, width], channels, relu, residual, threads) => {
          const ties = { relu: relu || residual, residual, hasSecond: relu && residual };
          const one = { shape: [images, height, width, channels], middle: 1, ...ties } as const;
          const [alone, together] = [compute(one, 1), compute(one, threads)];
          for (const [name, values] of Object.entries(alone)) {
            assert.deepEqual(
              new Int32Array(values.buffer, values.byteOffset, values.length),
              new Int32Array(
                (together[name] as Float32Array).buffer,
                (together[name] as Float32Array).byteOffset,
                values.length,
              ),
              name,
            );
          }
        },
      ),
      { numRuns: 40 },
    );
  });
});
