/** The cases of strategy-cases.ts for OneDevice and Mirrored, and upstream's device rules and texts (I.11, I.12). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createCrossDeviceOps } from '../cross-device-ops/create.js';
import { checkReduceOp } from '../cross-device-ops/reduce-op.js';
import { checkVariableModes, VariableAggregation, VariableSynchronization } from './enums.js';
import { MirroredStrategy } from './mirrored-strategy.js';
import { OneDeviceStrategy } from './one-device-strategy.js';
import { getStrategy, runInScope } from './scope.js';
import { assertClose, strategyCases, train, trainByHand } from './testing/strategy-cases.js';

function mirrored(count: number): MirroredStrategy {
  return new MirroredStrategy({ devices: Array.from({ length: count }, (_, i) => `cpu:${i}`), log: () => {} });
}

strategyCases('OneDeviceStrategy', () => new OneDeviceStrategy());
for (const count of [1, 2, 3, 5, 9]) {
  const selection = count === 3 ? 'all' : 'arithmetic';
  strategyCases(`MirroredStrategy of ${count}`, () => mirrored(count), selection);
}

describe('MirroredStrategy: packs and algorithms', () => {
  const recipe = { steps: 4, learningRate: 0.1, momentum: 0.9, weightDecay: 0.01 };
  const three = (algorithm: string, numPacks: number) =>
    new MirroredStrategy({
      devices: ['cpu:0', 'cpu:1', 'cpu:2'],
      crossDeviceOps: createCrossDeviceOps(algorithm, numPacks),
    });

  for (const algorithm of ['sharded', 'hierarchical_copy', 'reduction_to_one_device']) {
    test(`${algorithm}: the same weights for every number of packs, and those of the reference`, async () => {
      const expected = (await trainByHand(3, recipe)).variables.flat();
      const one = await train(three(algorithm, 1), recipe);
      assertClose(one[0]?.weights as number[], expected, 2e-5, 'weights');
      // The model has 50 parameters: 1,000 packs are more than elements.
      for (const numPacks of [7, 1000]) {
        const many = await train(three(algorithm, numPacks), recipe);
        assert.deepEqual(many[0]?.weights, one[0]?.weights, `${numPacks} packs`);
        for (const result of many) assert.deepEqual(result.weights, many[0]?.weights);
      }
    });
  }
});

describe('dynamic loss scale', () => {
  const module = new URL('./testing/replicas.js', import.meta.url);
  interface Step {
    skipped: boolean;
    finite: boolean;
    lossScale: number;
    weights: number[];
    slot: number;
  }

  for (const count of [1, 3]) {
    test(`${count} replica(s): steps that overflow anywhere are skipped everywhere, then training goes on`, async () => {
      const lossScale = { initial: 2 ** 15, growthSteps: 2 };
      const args = { scene: 'lossScale', steps: 8, lossScale };
      const results = await mirrored(count).run<Step[]>(module, args);
      for (const steps of results) {
        assert.deepEqual(
          steps.map(({ skipped, lossScale: scale }) => [skipped, scale]),
          [
            [true, 32768],
            [true, 16384],
            [true, 8192],
            [true, 4096],
            [false, 2048],
            [false, 2048],
            [true, 4096],
            [false, 2048],
          ],
        );
        for (const step of steps) assert.equal(step.finite, !step.skipped);
        assert.deepEqual(steps[3]?.weights, [1, 1], 'skipped steps leave weights alone');
        assert.equal(steps[3]?.slot, 0, 'and momentum');
        for (const [taken, index] of [4, 5, 7].entries()) {
          const expected = 1 - (taken + 1) / count;
          assert.ok(Math.abs((steps[index]?.weights[0] as number) - expected) < 1e-5, `after ${taken + 1} steps`);
        }
      }
    });
  }

  for (const count of [1, 3]) {
    test(`${count} replica(s): a loss that is not finite anywhere leaves weights and momentum alone, and is said`, async () => {
      for (const steps of await mirrored(count).run<Step[]>(module, { scene: 'lossNotFinite' })) {
        const untouched = { finite: false, skipped: false, weights: [1, 1], slot: 0 };
        // w − rate · g = 1 − 0.25 · 2, as if nothing had been before.
        assert.deepEqual(steps, [untouched, untouched, { finite: true, skipped: false, weights: [0.5, 0.5], slot: 2 }]);
      }
    });
  }

  test('a fixed scale that overflows is no reason to skip: it is said, and weights change', async () => {
    const [steps] = await mirrored(1).run<Step[]>(module, { scene: 'lossScale', steps: 1, lossScale: 2 ** 15 });
    assert.deepEqual([steps?.[0]?.skipped, steps?.[0]?.finite], [false, false]);
    assert.notDeepEqual(steps?.[0]?.weights, [1, 1]);
    const args = { scene: 'lossScale', steps: 1, lossScale: 2 ** 15, skipNonFinite: true };
    for (const count of [1, 2]) {
      for (const [step] of await mirrored(count).run<Step[]>(module, args)) {
        assert.deepEqual(
          [step?.skipped, step?.finite, step?.weights, step?.slot],
          [false, false, [1, 1], 0],
          'with skipNonFinite',
        );
      }
    }
  });
});

describe('MirroredStrategy: devices', () => {
  test('the default without a GPU is the CPU, and the choice of the reduction is said', () => {
    const lines: string[] = [];
    const strategy = new MirroredStrategy({ log: (line) => lines.push(line), numPacks: 2 });
    assert.deepEqual(
      strategy.devices.map((device) => device.name),
      ['cpu:0'],
    );
    assert.deepEqual(lines, [
      'MirroredStrategy on cpu:0 (cpu): gradients are reduced by ShardedAllReduce(num_packs=2).',
    ]);
    assert.equal(strategy.crossDeviceOpsDescription, 'ShardedAllReduce(num_packs=2)');
  });

  const refused: [string[], string][] = [
    [[], 'Got an empty `devices` list. Please make sure the `devices` you pass in is not empty.'],
    [['cpu:0', 'device:CPU:0'], "No duplicates allowed in `devices` argument: ['cpu:0', 'cpu:0']"],
    [
      ['cpu:0', '/job:worker/task:1/device:CPU:0'],
      "Local device string cannot have job specified other than 'localhost'",
    ],
    [['/job:worker/task:1/device:CPU:0', 'cpu:0'], 'Remote device string must have job specified.'],
    [['/job:worker/device:CPU:0'], 'Remote device string must have task specified.'],
    [['/job:worker/task:0/device:CPU:0'], 'In-graph multi-worker training with `MirroredStrategy` is not supported.'],
  ];
  for (const [devices, message] of refused) {
    test(`refuses [${devices}]`, () => {
      assert.throws(() => new MirroredStrategy({ devices, log: () => {} }), { message });
    });
  }
});

describe('modes of combination', () => {
  test('reduce operations', () => {
    for (const op of ['SUM', 'MEAN']) checkReduceOp(op);
    assert.throws(() => checkReduceOp('MAX'), { message: '`reduce_op` must be Reduce.SUM or Reduce.MEAN.' });
  });
  test('variable synchronization and aggregation', () => {
    const { AUTO, ON_READ, ON_WRITE, NONE } = VariableSynchronization;
    assert.equal(checkVariableModes('v', AUTO, VariableAggregation.MEAN), 'mirrored');
    assert.equal(checkVariableModes('v', ON_WRITE, VariableAggregation.NONE), 'mirrored');
    assert.equal(checkVariableModes('v', ON_READ, VariableAggregation.MEAN), 'on-read');
    assert.throws(() => checkVariableModes('v', NONE, VariableAggregation.SUM), {
      message:
        '`NONE` variable synchronization mode is not supported with `Mirrored` distribution strategy. Please change the ' +
        '`synchronization` for variable: v',
    });
    assert.throws(() => checkVariableModes('v', 'Invalid' as never, VariableAggregation.SUM), {
      message: 'Invalid variable synchronization mode: Invalid for variable: v',
    });
    assert.throws(() => checkVariableModes('v', AUTO, 'Invalid' as never), {
      message: 'Invalid variable aggregation mode: Invalid for variable: v',
    });
  });
  test('the current strategy is the innermost scope’s', () => {
    const [outer, inner] = [mirrored(2), new OneDeviceStrategy()];
    assert.equal(getStrategy(), null);
    runInScope(outer, () => {
      assert.equal(getStrategy(), outer);
      runInScope(inner, () => assert.equal(getStrategy(), inner));
      assert.equal(getStrategy(), outer);
    });
    assert.equal(getStrategy(), null);
  });
});
