/** Element-wise kernels against TensorFlow.js' `cpu` kernels: any shape, type, layout, and values that are no numbers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import fc from 'fast-check';
import type { OneDnnBackend } from '../backend.js';
import { ARITHMETIC, run, runOn, sample } from '../testing/backend.js';
import {
  assertGradientIsSlope,
  assertKernelSameAsCpu,
  blocked,
  type Flavor,
  flavors,
  random,
  shapes,
} from './testing/kernels.js';

/** Attributes of those that have some. */
const ATTRIBUTES: Record<string, Record<string, unknown>> = {
  LeakyRelu: { alpha: 0.3 },
  Step: { alpha: 0.25 },
  ClipByValue: { clipValueMin: -0.7, clipValueMax: 1.2 },
};
const FLOAT_ONLY = [
  'Elu',
  'Selu',
  'Sigmoid',
  'Tanh',
  'Softplus',
  'Exp',
  'Expm1',
  'Log',
  'Log1p',
  'Sqrt',
  'Rsqrt',
].concat(['Square', 'Abs', 'Reciprocal', 'Erf', 'Sin', 'Cos', 'IsNan', 'IsFinite', 'LeakyRelu']);
const ANY_NUMBER = ['Relu', 'Relu6', 'Neg', 'Step', 'Floor', 'Ceil', 'Round', 'Sign', 'ClipByValue'];

const unary = (name: string, x: tf.Tensor) => run(name, { x }, ATTRIBUTES[name] ?? {});

test('every unary kernel equals cpu for any shape, type and value', async () => {
  for (const name of [...FLOAT_ONLY, ...ANY_NUMBER]) {
    const dtypes = ANY_NUMBER.includes(name) ? (['float32', 'int32'] as const) : (['float32'] as const);
    await fc.assert(
      fc.asyncProperty(
        shapes,
        fc.constantFrom(...dtypes),
        flavors,
        fc.integer(),
        async (shape, dtype, flavor, seed) => {
          await assertKernelSameAsCpu(() => unary(name, random(shape, seed, dtype, flavor)), 2e-6, `${name} ${shape}`);
        },
      ),
      { numRuns: 16 },
    );
  }
});

test('a special value anywhere in a large tensor comes out as on cpu', async () => {
  for (const name of [...FLOAT_ONLY, ...ANY_NUMBER]) {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 100, -100, 0]) {
      await assertKernelSameAsCpu(
        () => {
          const values = sample([5000], 3).values;
          values[4321] = value;
          return unary(name, tf.tensor(values));
        },
        2e-6,
        `${name} with ${value}`,
      );
    }
  }
});

test('unary kernels leave a blocked tensor blocked, with the values of cpu', async () => {
  for (const name of [...FLOAT_ONLY, ...ANY_NUMBER]) {
    for (const flavor of ['plain', 'special'] as Flavor[]) {
      await assertKernelSameAsCpu(
        () => {
          const x = blocked(random([2, 9, 7, 32], 5, 'float32', 'plain'));
          const y = unary(name, flavor === 'special' ? tf.div(x, tf.relu(x)) : x);
          return y;
        },
        5e-6,
        `${name} blocked`,
      );
    }
  }
  await runOn('onednn', () => {
    const backend = tf.backend() as OneDnnBackend;
    for (const name of ['Relu', 'Sigmoid', 'Tanh', 'Sqrt', 'Softplus', 'Floor', 'ClipByValue']) {
      const [y] = unary(name, blocked(random([2, 9, 7, 32], 5)));
      assert.ok(backend.storage((y as tf.Tensor).dataId).layout, `${name} gave up the layout`);
    }
    return [];
  });
});

/** Two shapes that broadcast: dimensions of one become 1, or leave at the front. */
const pairs = fc
  .tuple(shapes, fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 5, maxLength: 5 }), fc.nat(3))
  .map(([shape, choices, dropped]) => {
    const a = shape.map((size, axis) => (choices[axis] === 1 ? 1 : size));
    const b = shape.map((size, axis) => (choices[axis] === 2 ? 1 : size));
    return dropped < shape.length ? [a, b.slice(dropped)] : [a, b];
  }) as fc.Arbitrary<[number[], number[]]>;

test('every binary kernel equals cpu for any two shapes that broadcast, any type and value', async () => {
  for (const name of [...ARITHMETIC, 'RealDiv', 'Pow', 'FloorDiv', 'LogicalAnd', 'LogicalOr', 'Prelu']) {
    const dtypes: tf.NumericDataType[] = name.startsWith('Logical')
      ? ['bool']
      : name === 'FloorDiv'
        ? ['int32']
        : ARITHMETIC.includes(name)
          ? ['float32', 'float32', 'int32']
          : ['float32'];
    await fc.assert(
      fc.asyncProperty(
        pairs,
        fc.boolean(),
        fc.constantFrom(...dtypes),
        flavors,
        fc.integer(),
        async ([a, b], isSwapped, dtype, flavor, seed) => {
          const [left, right] = isSwapped ? [b, a] : [a, b];
          await assertKernelSameAsCpu(
            () => {
              const x = random(left, seed, dtype, flavor);
              const y = random(right, seed + 1, dtype, flavor);
              return run(name, (name === 'Prelu' ? { x, alpha: y } : { a: x, b: y }) as Record<string, tf.Tensor>);
            },
            2e-6,
            `${name} [${left}] [${right}] ${dtype} ${flavor}`,
          );
        },
      ),
      { numRuns: 30 },
    );
  }
});

test('arithmetic with blocked tensors equals cpu and stays blocked where the other operand fits', async () => {
  for (const name of ['Add', 'Sub', 'Multiply', 'RealDiv', 'Maximum', 'Minimum']) {
    for (const other of [[2, 9, 7, 32], [32], [], [1, 1, 1, 32], [2, 1, 1, 32], [9, 7, 32], [2, 9, 7, 1]]) {
      for (const isSwapped of [false, true]) {
        await assertKernelSameAsCpu(
          () => {
            const a = blocked(random([2, 9, 7, 32], 5));
            const b = random(other, 6);
            return run(name, isSwapped ? { a: b, b: a } : { a, b });
          },
          5e-6,
          `${name} blocked with [${other}]`,
        );
      }
    }
  }
  await runOn('onednn', () => {
    const backend = tf.backend() as OneDnnBackend;
    const x = () => blocked(random([2, 9, 7, 32], 5));
    for (const y of [tf.add(x(), x()), tf.mul(x(), random([32], 3)), tf.sub(x(), 2), tf.add(1, x())]) {
      assert.ok(backend.storage(y.dataId).layout, `[${y.shape}] gave up the layout`);
    }
    return [];
  });
});

test('Select, Cast, Fill, ZerosLike and OnesLike equal cpu', async () => {
  const dtype = fc.constantFrom<tf.NumericDataType>('float32', 'int32', 'bool');
  await fc.assert(
    fc.asyncProperty(shapes, dtype, dtype, flavors, fc.integer(), async (shape, from, to, flavor, seed) => {
      await assertKernelSameAsCpu(
        () => {
          const x = random(shape, seed, from, flavor === 'special' ? 'wide' : flavor);
          const e = random(shape, seed + 1, from);
          const condition = random(shape, seed + 2, 'bool');
          const results = [tf.cast(x, to), tf.where(condition, x, e), tf.zerosLike(x), tf.onesLike(x)];
          return [...results, tf.fill(shape, 3, to)];
        },
        0,
        `${from} to ${to} [${shape}]`,
      );
    }),
    { numRuns: 60 },
  );
});

test('gradients of element-wise functions are their slopes', async () => {
  const functions: Record<string, (x: tf.Tensor) => tf.Tensor> = {
    relu: tf.relu,
    relu6: tf.relu6,
    elu: tf.elu,
    selu: tf.selu,
    leakyRelu: (x) => tf.leakyRelu(x, 0.2),
    sigmoid: tf.sigmoid,
    tanh: tf.tanh,
    softplus: tf.softplus,
    exp: tf.exp,
    log: (x) => tf.log(tf.add(tf.square(x), 0.5)),
    sqrt: (x) => tf.sqrt(tf.add(tf.square(x), 0.5)),
    rsqrt: (x) => tf.rsqrt(tf.add(tf.square(x), 0.5)),
    abs: tf.abs,
    neg: tf.neg,
    reciprocal: (x) => tf.reciprocal(tf.add(x, 3)),
    erf: tf.erf,
    clip: (x) => tf.clipByValue(x, -0.5, 0.5),
  };
  // Away from the kinks at 0, ±0.5, by more than the step.
  const away = (shape: number[], seed: number) => {
    const { values } = sample(shape, seed);
    return { shape, values: Float32Array.from(values, (v) => (Math.abs(v % 0.5) < 0.03 ? v + 0.06 : v)) };
  };
  for (const [name, f] of Object.entries(functions)) {
    for (const shape of [
      [3, 4],
      [60, 50],
    ])
      await assertGradientIsSlope(f, [away(shape, 11)], name);
  }
});

test('gradients of arithmetic with broadcasting are its slopes', async () => {
  const functions: Record<string, (a: tf.Tensor, b: tf.Tensor) => tf.Tensor> = {
    add: tf.add,
    sub: tf.sub,
    mul: tf.mul,
    div: (a, b) => tf.div(a, tf.add(b, 3)),
    maximum: (a, b) => tf.maximum(a, tf.add(b, 0.01)),
    minimum: (a, b) => tf.minimum(a, tf.add(b, 0.01)),
    squaredDifference: tf.squaredDifference,
    pow: (a, b) => tf.pow(tf.add(a, 2.5), b),
  };
  for (const [name, f] of Object.entries(functions)) {
    const isSameShapeOnly = name === 'maximum' || name === 'minimum' || name === 'squaredDifference';
    for (const [a, b] of [
      [[3, 4], [4]],
      [
        [60, 50],
        [60, 1],
      ],
      [
        [60, 50],
        [60, 50],
      ],
      [[50], [60, 50]],
    ] as [number[], number[]][]) {
      // TensorFlow.js has no gradient of these three with broadcasting.
      if (isSameShapeOnly && `${a}` !== `${b}`) continue;
      await assertGradientIsSlope(
        (x, y) => f(x as tf.Tensor, y as tf.Tensor),
        [sample(a, 3), sample(b, 40)],
        name,
        4e-3,
      );
    }
  }
});

test('the gradient of a gradient is there: a penalty on the gradient of relu, sigmoid and tanh', async () => {
  for (const f of [tf.relu, tf.sigmoid, tf.tanh]) {
    const penalty = (x: tf.Tensor) => tf.square(tf.grad((v: tf.Tensor) => f(tf.mul(v, v)) as tf.Tensor)(x));
    await assertKernelSameAsCpu(() => [tf.grad(penalty)(random([40], 9))], 1e-5, 'second gradient');
  }
});
