/**
 * Optimizers of the flat path: each against TensorFlow.js' own on the same gradients where it has it, against its closed form for one
 * scalar in f64, equal bits however memory is cut, and the numbers that they refuse. LARS' factors against TensorFlow 1.14's formula.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { FlatMemory } from '../../simd/flat-memory.js';
import type { FlatKernels } from '../../simd/kernels.js';
import { plainKernels } from '../../simd/plain-kernels.js';
import { flatOptimizer, type OptimizerConfig } from './create.js';

await tf.setBackend('cpu');

const memory = FlatMemory.create(1);
const KERNELS: FlatKernels[] = [memory.kernels, plainKernels];
const LENGTH = 37;
const STEPS = 20;
const RATE = 0.03;

const weightsAt = (i: number): number => Math.sin(i + 1) * 2;
/** Gradients of very different sizes, some 0. */
const gradientAt = (step: number, i: number): number =>
  i % 11 === 5 ? 0 : Math.cos(step * 1.3 + i) * 10 ** ((i % 5) - 2);

/** Weights after every step, from the flat optimizer; the gradient comes as the sum of `replicas` equal ones. */
function train(
  config: OptimizerConfig,
  { kernels = memory.kernels, replicas = 1, weightDecay = 0, cuts = [0, LENGTH], length = LENGTH } = {},
): Float32Array[] {
  const optimizer = flatOptimizer(config);
  const weights = memory.allocate(length);
  for (let i = 0; i < length; i++) weights[i] = weightsAt(i);
  const slots = memory.allocateEach(optimizer.slots.length, length);
  const gradients = memory.allocateEach(replicas, length);
  return Array.from({ length: STEPS }, (_, step) => {
    for (const gradient of gradients) for (let i = 0; i < length; i++) gradient[i] = gradientAt(step, i);
    for (const [index, end] of cuts.slice(1).entries()) {
      const cut = (array: Float32Array) => array.subarray(cuts[index], end);
      const piece = {
        weights: cut(weights),
        slots: slots.map(cut),
        gradients: gradients.map(cut),
        weightDecay,
        factor: 1,
      };
      const step1 = { learningRate: RATE, gradientScale: 1 / replicas, count: step + 1 };
      assert.equal(optimizer.apply(kernels, piece, step1), true);
    }
    return weights.slice();
  });
}

/** The same with an optimizer of TensorFlow.js. */
function reference(optimizer: tf.Optimizer): Float32Array[] {
  const variable = tf.variable(tf.tensor1d(Float32Array.from({ length: LENGTH }, (_, i) => weightsAt(i))));
  const all = Array.from({ length: STEPS }, (_, step) => {
    const gradient = tf.tensor1d(Float32Array.from({ length: LENGTH }, (_, i) => gradientAt(step, i)));
    optimizer.applyGradients({ [variable.name]: gradient });
    return Float32Array.from(variable.dataSync());
  });
  variable.dispose();
  return all;
}

function assertClose(actual: readonly Float32Array[], expected: readonly Float32Array[], what: string): void {
  for (const [step, weights] of actual.entries()) {
    for (const [i, value] of weights.entries()) {
      const want = (expected[step] as Float32Array)[i] as number;
      if (Object.is(value, want)) continue;
      // Relative to the way that was gone, too: a weight near 0 has no digits of its own.
      const size = Math.abs(want) + Math.abs(want - Math.fround(weightsAt(i)));
      assert.ok(
        Math.abs(value - want) <= 1e-5 * size,
        `${what}, step ${step}, weight ${i}: ${value} instead of ${want}`,
      );
    }
  }
}

const PAIRS: [string, OptimizerConfig, () => tf.Optimizer][] = [
  ['sgd', { kind: 'sgd' }, () => tf.train.sgd(RATE)],
  ['momentum', { kind: 'momentum', momentum: 0.9 }, () => tf.train.momentum(RATE, 0.9)],
  ['nesterov', { kind: 'momentum', momentum: 0.8, nesterov: true }, () => tf.train.momentum(RATE, 0.8, true)],
  ['adam', { kind: 'adam' }, () => tf.train.adam(RATE)],
  [
    'adam with its numbers',
    { kind: 'adam', beta1: 0.8, beta2: 0.95, epsilon: 1e-3 },
    () => tf.train.adam(RATE, 0.8, 0.95, 1e-3),
  ],
  ['rmsprop', { kind: 'rmsprop' }, () => tf.train.rmsprop(RATE)],
  [
    'rmsprop with its numbers',
    { kind: 'rmsprop', decay: 0.7, momentum: 0.5, epsilon: 1e-2 },
    () => tf.train.rmsprop(RATE, 0.7, 0.5, 1e-2),
  ],
  // A gradient that stays 0 is 0/0 here, for TensorFlow.js as well. With another epsilon its formula takes a root of less than 0.
  [
    'rmsprop, centered',
    { kind: 'rmsprop', decay: 0.7, momentum: 0.5, epsilon: 0, centered: true },
    () => tf.train.rmsprop(RATE, 0.7, 0.5, 0, true),
  ],
];

describe('an optimizer', () => {
  for (const [name, config, make] of PAIRS) {
    it(`${name} is TensorFlow.js' own, over ${STEPS} steps`, () => {
      const expected = reference(make());
      for (const kernels of KERNELS) {
        const finite = train(config, { kernels });
        assertClose(finite, expected, kernels.name);
      }
    });
  }

  const decay = 0.1;
  const scalar = (i: number, update: (w: number, g: number, t: number) => number): number => {
    let w = Math.fround(weightsAt(i));
    for (let step = 0; step < STEPS; step++) w = update(w, Math.fround(gradientAt(step, i)), step + 1);
    return w;
  };
  const closedForms: [string, OptimizerConfig, () => (w: number, g: number, t: number) => number][] = [
    ['sgd', { kind: 'sgd' }, () => (w, g) => w - RATE * (g + decay * w)],
    [
      'momentum',
      { kind: 'momentum', momentum: 0.9 },
      () => {
        let m = 0;
        return (w, g) => {
          m = 0.9 * m + g + decay * w;
          return w - RATE * m;
        };
      },
    ],
    ...(['adam', 'adamw'] as const).map(
      (kind): [string, OptimizerConfig, () => (w: number, g: number, t: number) => number] => [
        kind,
        { kind },
        () => {
          let [m, v] = [0, 0];
          return (w, g, t) => {
            const all = kind === 'adam' ? g + decay * w : g;
            m = 0.9 * m + 0.1 * all;
            v = 0.999 * v + 0.001 * all * all;
            const step = (RATE * (m / (1 - 0.9 ** t))) / (Math.sqrt(v / (1 - 0.999 ** t)) + 1e-7);
            return (kind === 'adam' ? w : w - RATE * decay * w) - step;
          };
        },
      ],
    ),
    [
      'rmsprop',
      { kind: 'rmsprop', momentum: 0.5 },
      () => {
        let [s, m] = [0, 0];
        return (w, g) => {
          const all = g + decay * w;
          s = 0.9 * s + 0.1 * all * all;
          m = 0.5 * m + (RATE * all) / Math.sqrt(s + 1e-7);
          return w - m;
        };
      },
    ],
    [
      'lars, as plain momentum where nothing makes a factor',
      { kind: 'lars', momentum: 0.9 },
      () => {
        let m = 0;
        return (w, g) => {
          m = 0.9 * m + g + decay * w;
          return w - RATE * m;
        };
      },
    ],
  ];
  for (const [name, config, make] of closedForms) {
    it(`${name}, with weight decay, is its closed form in f64`, () => {
      const last = train(config, { weightDecay: decay }).at(-1) as Float32Array;
      for (let i = 0; i < LENGTH; i++) {
        const want = scalar(i, make());
        const size = Math.abs(want) + Math.abs(want - weightsAt(i));
        assert.ok(Math.abs((last[i] as number) - want) <= 2e-5 * size, `weight ${i}: ${last[i]} instead of ${want}`);
      }
    });
  }

  const CONFIGS: OptimizerConfig[] = [
    ...PAIRS.map(([, config]) => config),
    { kind: 'adamw' },
    { kind: 'lars', nesterov: true },
  ];
  for (const config of CONFIGS) {
    it(`${JSON.stringify(config)} gives the same bits on both kinds of kernels and however memory is cut`, () => {
      // Two equal gradients halved are one, to the bit.
      const whole = train(config, { weightDecay: 1e-3 });
      for (const kernels of KERNELS) {
        for (const cuts of [
          [0, 1, 5, 21, LENGTH],
          [0, 16, 32, LENGTH],
        ]) {
          for (const replicas of [1, 2]) {
            assert.deepEqual(
              train(config, { weightDecay: 1e-3, kernels, cuts, replicas }),
              whole,
              `${cuts} ${replicas}`,
            );
          }
        }
      }
    });
  }

  it('refuses kinds that there are not and numbers that mean nothing, by name', () => {
    for (const [config, pattern] of [
      [{ kind: 'adagrad' }, /must be \{ kind: 'sgd' \| 'momentum' \| .*, got kind 'adagrad'\.\nhelp: /],
      [undefined, /got undefined/],
      ['adam', /got 'adam'/],
      [{ kind: 'momentum' }, /momentum: momentum must be a number that is not negative, got undefined/],
      [{ kind: 'momentum', momentum: 0.9, nesterov: 1 }, /momentum: nesterov must be true or false/],
      [{ kind: 'adam', beta1: 1 }, /adam: beta1 must be a number from 0 to below 1, got 1/],
      [{ kind: 'adamw', beta2: Number.NaN }, /adamw: beta2 .* got NaN/],
      [{ kind: 'adam', epsilon: -1 }, /adam: epsilon must be a number that is not negative, got -1/],
      [{ kind: 'rmsprop', decay: 1.5 }, /rmsprop: decay /],
      [{ kind: 'rmsprop', centered: 'no' }, /rmsprop: centered must be true or false/],
      [{ kind: 'lars', eeta: Number.POSITIVE_INFINITY }, /lars: eeta /],
    ] as [OptimizerConfig, RegExp][]) {
      assert.throws(() => flatOptimizer(config), pattern);
    }
  });
});

describe("LARS' factors", () => {
  it("are TensorFlow 1.14's trust ratios: 1 for skipped variables and where a norm is 0", () => {
    const optimizer = flatOptimizer({
      kind: 'lars',
      weightDecay: 1e-4,
      eeta: 0.001,
      epsilon: 0.1,
      skip: ['batch_normalization', 'bias'],
    });
    const factors = optimizer.factors?.([
      { name: 'conv2d/kernel', weight: 2, gradient: 0.5 },
      { name: 'batch_normalization_3/gamma', weight: 2, gradient: 0.5 },
      { name: 'dense/bias', weight: 2, gradient: 0.5 },
      { name: 'zero weights', weight: 0, gradient: 0.5 },
      { name: 'zero gradient', weight: 2, gradient: 0 },
      { name: 'gradient overflows', weight: 2, gradient: Number.NaN },
    ]);
    assert.deepEqual([...(factors as Float64Array)], [(0.001 * 2) / (0.5 + 1e-4 * 2 + 0.1), 1, 1, 1, 1, 1]);
    assert.deepEqual(
      ['conv2d/kernel', 'dense/bias'].map((name) => optimizer.ownDecay?.(name)),
      [1e-4, 0],
    );
  });
});
