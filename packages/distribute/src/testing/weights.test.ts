/**
 * Weights and slots after a short run of each strategy, bit by bit: hashes that were taken once and are kept. A change of the trainer
 * that changes a bit of SGD or momentum fails here; so does one that makes bits depend on packs or on where replicas run.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NUM_PS_VARIABLE } from '../cluster/index.js';
import { createCrossDeviceOps } from '../cross-device-ops/create.js';
import { type DeviceProvider, registerDeviceProvider } from '../devices/device.js';
import { mpirun, whyNoMpirun } from '../mpi/testing/mpirun.js';
import { MirroredStrategy } from '../strategy/mirrored-strategy.js';
import { OneDeviceStrategy } from '../strategy/one-device-strategy.js';
import type { Strategy } from '../strategy/strategy.js';
import type { OptimizerConfig } from '../trainer/optimizers/create.js';
import type { WeightsTask } from './weights-replica.js';

const provider = process.env.LOCKSTEP_TEST_PROVIDER;
if (provider) registerDeviceProvider(((await import(provider)) as { deviceProvider: DeviceProvider }).deviceProvider);

const replica = new URL('./weights-replica.js', import.meta.url);
const program = new URL('./program.js', import.meta.url);
const OPTIMIZERS: readonly OptimizerConfig[] = [
  { kind: 'sgd' },
  { kind: 'momentum', momentum: 0.75 },
  { kind: 'momentum', momentum: 0.75, nesterov: true },
];
const task: WeightsTask = { optimizers: OPTIMIZERS, steps: 5 };

/** Of SGD, momentum and Nesterov, by the number of replicas: weights, slots. */
const KEPT: Readonly<Record<number, readonly string[]>> = {
  1: ['6c8dd1e5 811c9dc5', '3c1cf17d 29cb9b90', '9cd24b30 f111e9c8'],
  2: ['8302817c 811c9dc5', '070e622d b94957cd', '4816c903 f4e4294c'],
  3: ['2ffb10f7 811c9dc5', 'e9528896 722c4153', '2b9869cb e2a79ddf'],
  4: ['1354ede8 811c9dc5', '15a953f0 aaece5e0', '30ad97c2 8cae4389'],
};

function mirrored(count: number, algorithm: string, numPacks: number): Strategy {
  const devices = Array.from({ length: count }, (_, i) => `cpu:${i}`);
  return new MirroredStrategy({ devices, crossDeviceOps: createCrossDeviceOps(algorithm, numPacks), log: () => {} });
}

describe('weights, bit by bit', () => {
  test('one device', async () => {
    assert.deepEqual(await new OneDeviceStrategy().run(replica, task), [KEPT[1]]);
  });

  for (const count of [2, 3]) {
    for (const numPacks of [1, 3]) {
      test(`${count} replicas, ${numPacks} packs`, async () => {
        const results = await mirrored(count, 'sharded', numPacks).run(replica, task);
        assert.deepEqual(results, Array(count).fill(KEPT[count]));
      });
    }
  }

  test('2 replicas with another algorithm', async () => {
    assert.deepEqual(await mirrored(2, 'hierarchical_copy', 2).run(replica, task), Array(2).fill(KEPT[2]));
  });
});

/** Every optimizer of the flat path. */
const ALL: WeightsTask = {
  optimizers: [
    ...OPTIMIZERS,
    { kind: 'adam' },
    { kind: 'adamw', beta1: 0.8 },
    { kind: 'rmsprop', momentum: 0.5 },
    { kind: 'rmsprop', centered: true },
    { kind: 'lars', skip: ['w0'] },
    { kind: 'lars', nesterov: true, weightDecay: 0.01, epsilon: 1e-3 },
  ],
  steps: 4,
  isEqual: true,
};
let ofOneDevice: Promise<string[][]> | null = null;
/** What one device makes of {@link ALL}: different for each. */
async function onOneDevice(): Promise<string[]> {
  ofOneDevice ??= new OneDeviceStrategy().run<string[]>(replica, ALL);
  const [hashes] = (await ofOneDevice) as [string[]];
  assert.equal(new Set(hashes).size, ALL.optimizers.length);
  return hashes;
}

describe('every optimizer gives the bits of one device, if all replicas have equal data', () => {
  for (const count of [1, 2, 3]) {
    test(`${count} replicas, in 1, 3 and 8 packs`, async () => {
      const expected = Array(count).fill(await onOneDevice());
      for (const numPacks of [1, 3, 8]) {
        assert.deepEqual(await mirrored(count, 'sharded', numPacks).run(replica, ALL), expected, `${numPacks} packs`);
      }
    });
  }

  test('2 replicas with another algorithm', async () => {
    const expected = Array(2).fill(await onOneDevice());
    assert.deepEqual(await mirrored(2, 'reduction_to_one_device', 2).run(replica, ALL), expected);
  });
});

describe('every optimizer gives the bits of one device, between processes', { skip: whyNoMpirun() }, () => {
  for (const [workers, replicas, numPacks] of [
    [2, 1, 1],
    [2, 2, 3],
  ] as const) {
    test(`${workers} workers of ${replicas}, in ${numPacks} packs`, async () => {
      const args = ['weights', 'multi-worker', String(replicas), JSON.stringify({ numPacks }), JSON.stringify(ALL)];
      const result = await mpirun(workers, program, { args });
      const expected = Array(workers).fill(Array(replicas).fill(await onOneDevice()));
      assert.deepEqual(result.results, expected, result.describe());
    });
  }

  // What a server has to count, to keep three arrays for, and to take norms of.
  for (const index of [3, 6, 7]) {
    const optimizer = ALL.optimizers[index] as OptimizerConfig;
    test(`a worker of 2 replicas and 2 servers: ${JSON.stringify(optimizer)}`, async () => {
      const args = ['weights', 'parameter-server', '2', '{}', JSON.stringify({ ...ALL, optimizers: [optimizer] })];
      const result = await mpirun(3, program, { args, environment: { [NUM_PS_VARIABLE]: '2' } });
      const own = [(await onOneDevice())[index]];
      assert.deepEqual(result.results[0], [own, own], result.describe());
    });
  }
});

describe('weights between processes, bit by bit', { skip: whyNoMpirun() }, () => {
  for (const [workers, replicas, numPacks] of [
    [2, 1, null],
    [2, 2, 3],
  ] as const) {
    test(`${workers} workers of ${replicas}`, async () => {
      const options = numPacks === null ? {} : { numPacks };
      const args = ['weights', 'multi-worker', String(replicas), JSON.stringify(options), JSON.stringify(task)];
      const result = await mpirun(workers, program, { args });
      const own = Array(replicas).fill(KEPT[workers * replicas]);
      assert.deepEqual(result.results, Array(workers).fill(own), result.describe());
    });
  }

  test('a worker and a parameter server', async () => {
    for (const [index, optimizer] of OPTIMIZERS.entries()) {
      const args = ['weights', 'parameter-server', '1', '{}', JSON.stringify({ ...task, optimizers: [optimizer] })];
      const result = await mpirun(2, program, { args, environment: { [NUM_PS_VARIABLE]: '1' } });
      assert.deepEqual(result.results[0], [[KEPT[1]?.[index]]], result.describe());
    }
  });
});
