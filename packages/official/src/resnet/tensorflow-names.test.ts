/**
 * A run's checkpoint has the variables that upstream's graph has: their number, names and shapes are worked out here from the specification
 * alone (blocks, filters and their order in resnet_model.py), for CIFAR-10's networks and ImageNet's.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '../testing/provider.js';
import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { TensorFileError } from '../utils/checkpoint/safetensors.js';
import { type RunArrays, toTensorFile } from './replica/run-state.js';
import { cifar10Plan, imagenetPlan, Model, type ResNetPlan } from './resnet-model.js';
import { fromTensorFlow, toTensorFlow } from './tensorflow-names.js';

/** Names and shapes of the graph, in the order of making: a layer of each kind gets the next number. */
function specified(
  blocks: readonly number[],
  filters: number,
  first: number,
  classes: number,
  bottleneck: boolean,
  version: number,
) {
  const shapes = new Map<string, number[]>();
  const numbers = { conv2d: 0, batch_normalization: 0 };
  const layer = (kind: keyof typeof numbers) => {
    const number = numbers[kind]++;
    return `resnet_model/${kind}${number === 0 ? '' : `_${number}`}`;
  };
  let channels = 3;
  const conv = (size: number, out: number, from = channels) => {
    shapes.set(`${layer('conv2d')}/kernel`, [size, size, from, out]);
    channels = out;
  };
  const norm = (width: number) => {
    const name = layer('batch_normalization');
    for (const one of ['gamma', 'beta', 'moving_mean', 'moving_variance']) shapes.set(`${name}/${one}`, [width]);
  };
  conv(first, filters);
  if (version === 1) norm(channels);
  for (const [i, count] of blocks.entries()) {
    const width = filters * 2 ** i;
    const out = bottleneck ? 4 * width : width;
    for (let block = 0; block < count; block++) {
      const input = channels;
      if (version === 2) norm(input);
      if (block === 0) {
        conv(1, out);
        if (version === 1) norm(out);
      }
      channels = input;
      const steps: [number, number][] = bottleneck
        ? [
            [1, width],
            [3, width],
            [1, out],
          ]
        : [
            [3, width],
            [3, width],
          ];
      for (const [k, [size, to]] of steps.entries()) {
        conv(size, to);
        if (version === 1 || k < steps.length - 1) norm(to);
      }
    }
  }
  if (version === 2) norm(channels);
  shapes.set('resnet_model/dense/kernel', [channels, classes]);
  shapes.set('resnet_model/dense/bias', [classes]);
  return shapes;
}

/** A run's checkpoint with the network as it begins. */
function checkpointOf(plan: ResNetPlan) {
  tf.setBackend('cpu');
  const model = new Model(plan, 1, { initialize: false });
  let offset = 0;
  const segments = model.variables.map(({ name, shape, size: length }) => {
    offset += length;
    return { name, shape: [...shape], length, offset: offset - length };
  });
  const arrays: RunArrays = {
    trained: { segments, weights: new Float32Array(offset), slots: { momentum: new Float32Array(offset).fill(2) } },
    frozen: { segments: [], values: new Float32Array(0) },
    statistics: { segments: model.statisticSegments, values: model.statistics },
  };
  const position = { globalStep: 7, epochs: 0, callEpochs: 1, step: 7, batchSize: 8 };
  const network = { size: plan.resnetSize, version: plan.resnetVersion };
  const state = { position, seed: 1, fineTune: false, model: network, scalars: { updates: 7 } };
  const file = toTensorFile(state, arrays);
  model.dispose();
  return file;
}

const CASES: [
  string,
  ResNetPlan,
  ReturnType<typeof specified>,
  trainable: number,
  parameters: number,
  statistics: number,
][] = [];
for (const version of [1, 2]) {
  // Parameters as derived from the specification; ResNet-8's by the same sums.
  const of = (one: number, two: number) => (version === 1 ? one : two);
  CASES.push(
    [
      'CIFAR-10 ResNet-8',
      cifar10Plan(8, version),
      specified([1, 1, 1], 16, 3, 10, false, version),
      of(32, 26),
      of(78_330, 78_106),
      of(704, 480),
    ],
    [
      'CIFAR-10 ResNet-20',
      cifar10Plan(20, version),
      specified([3, 3, 3], 16, 3, 10, false, version),
      of(68, 62),
      of(272_762, 272_538),
      of(1600, 1376),
    ],
    [
      'ImageNet ResNet-18',
      imagenetPlan(18, version),
      specified([2, 2, 2, 2], 64, 7, 1001, false, version),
      of(65, 57),
      of(11_694_249, 11_692_329),
      of(9728, 7808),
    ],
    [
      'ImageNet ResNet-50',
      imagenetPlan(50, version),
      specified([3, 4, 6, 3], 64, 7, 1001, true, version),
      of(161, 153),
      of(25_559_081, 25_551_401),
      of(53_120, 45_440),
    ],
  );
}

describe("a run's checkpoint under TensorFlow's names", () => {
  for (const [name, plan, expected, trainable, parameters, statistics] of CASES) {
    it(`has the variables of ${name} v${plan.resnetVersion}, and their slots`, () => {
      const ours = checkpointOf(plan);
      const theirs = toTensorFlow(ours);
      const found = new Map(Object.entries(theirs.tensors).map(([key, { shape }]) => [key, [...shape]]));
      const isStatistic = (key: string) => key.includes('/moving_');
      const slots = [...expected]
        .filter(([key]) => !isStatistic(key))
        .map(([key, shape]) => [`${key}/Momentum`, shape] as const);
      assert.deepEqual(new Map([...found].sort()), new Map([...expected, ...slots].sort()));
      const sizes = (keep: (key: string) => boolean) =>
        [...expected].filter(([key]) => keep(key)).map(([, shape]) => shape.reduce((a, b) => a * b, 1));
      const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
      assert.equal(slots.length, trainable);
      assert.equal(sum(sizes((key) => !isStatistic(key))), parameters);
      assert.equal(sum(sizes(isStatistic)), statistics);
      assert.deepEqual(fromTensorFlow(theirs), ours);
      // What TensorFlow saves has no metadata but the step; size and version follow from the variables.
      const { metadata } = fromTensorFlow({ tensors: theirs.tensors, metadata: { global_step: '7' } });
      assert.deepEqual(metadata, {
        global_step: '7',
        origin: 'tensorflow',
        resnet_size: String(plan.resnetSize),
        resnet_version: String(plan.resnetVersion),
      });
    });
  }

  it("has LARS' slots by the optimizer's name as well", () => {
    const tensor = { shape: [1], values: Float32Array.of(1) };
    const kernel = 'resnet_model/conv2d/kernel';
    const { tensors } = fromTensorFlow({
      tensors: {
        [kernel]: { shape: [7, 7, 3, 64], values: new Float32Array(9408) },
        [`${kernel}/LARSOptimizer`]: tensor,
      },
      metadata: {},
    });
    assert.deepEqual(tensors[`${kernel}/momentum`], tensor);
  });

  it('is nothing but the official ResNet', () => {
    const tensor = { shape: [1], values: Float32Array.of(1) };
    const read =
      (...names: string[]) =>
      () =>
        fromTensorFlow({ tensors: Object.fromEntries(names.map((name) => [name, tensor])), metadata: {} });
    for (const [names, pattern] of [
      [[], /has no variable, but no resnet_model\/conv2d\/kernel: it is none of the official ResNet's/],
      [['dense/kernel', 'dense/bias'], /has 'dense\/kernel' and 1 others, but no resnet_model\/conv2d\/kernel/],
    ] as const) {
      assert.throws(read(...names), (error) => error instanceof TensorFileError && pattern.test(error.message));
    }
  });
});
