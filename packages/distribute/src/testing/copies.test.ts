/**
 * Trainers on devices whose tensors are copies, read at once or later: the weights are, bit by bit, those of TensorFlow.js' `cpu`, where
 * variables are views of them. The replica's gradients depend on its variables, so one that is not written shows.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { NUM_PS_VARIABLE } from '../cluster/index.js';
import { createCrossDeviceOps } from '../cross-device-ops/create.js';
import { type DeviceProvider, registerDeviceProvider, unregisterDeviceProvider } from '../devices/device.js';
import { deviceProvider as copying } from '../devices/testing/copying-device.js';
import { deviceProvider as distant } from '../devices/testing/distant-device.js';
import { mpirun, whyNoMpirun } from '../mpi/testing/mpirun.js';
import { MirroredStrategy } from '../strategy/mirrored-strategy.js';
import { OneDeviceStrategy } from '../strategy/one-device-strategy.js';
import type { Strategy } from '../strategy/strategy.js';
import type { TrainerOutcome, TrainerTask } from './trainer-replica.js';
import type { WeightsTask } from './weights-replica.js';

const weights = new URL('./weights-replica.js', import.meta.url);
const trainer = new URL('./trainer-replica.js', import.meta.url);
const program = new URL('./program.js', import.meta.url);

const momentum = { kind: 'momentum', momentum: 0.75 } as const;
const plain: WeightsTask = { optimizers: [momentum, { kind: 'adam' }], steps: 5 };
/** The first steps are skipped: weights and variables stay then. */
const skipping: WeightsTask = { optimizers: [momentum], steps: 4, initialLossScale: 2 ** 127 };
const accumulating: TrainerTask = { options: { optimizer: momentum, accumulateSteps: 2 }, calls: 5 };
const half: TrainerTask = { options: { optimizer: momentum }, calls: 2 };

const oneDevice = () => new OneDeviceStrategy();
const mirrored = () =>
  new MirroredStrategy({
    devices: ['cpu:0', 'cpu:1'],
    crossDeviceOps: createCrossDeviceOps('sharded', 3),
    log: () => {},
  });

/** Everything that is compared, of one strategy on the devices that are registered. */
async function outcomes(make: () => Strategy): Promise<unknown> {
  const first = await make().run<TrainerOutcome>(trainer, half);
  const from = { ...half, from: 2, state: (first[0] as TrainerOutcome).state };
  return {
    plain: await make().run(weights, plain),
    skipping: await make().run(weights, skipping),
    accumulating: await make().run(trainer, accumulating),
    // With inputs, which `cpu` records as little as these devices.
    inputs: await make().run(trainer, { ...accumulating, recorded: true }),
    // What one replica writes to trainer.weights counts for all after push().
    resumed: await make().run(trainer, from),
  };
}

async function on<T>(provider: DeviceProvider, run: () => Promise<T>): Promise<T> {
  registerDeviceProvider(provider);
  try {
    return await run();
  } finally {
    unregisterDeviceProvider(provider.name);
  }
}

const expected = new Map<() => Strategy, Promise<unknown>>();
/** Of `cpu`. */
function onCpu(make: () => Strategy): Promise<unknown> {
  if (!expected.has(make)) expected.set(make, outcomes(make));
  return expected.get(make) as Promise<unknown>;
}

for (const provider of [copying, distant]) {
  describe(`the device '${provider.name}' learns the weights of cpu`, () => {
    for (const [name, make] of [
      ['one device', oneDevice],
      ['two replicas', mirrored],
    ] as const) {
      test(name, async () => {
        const wanted = await onCpu(make);
        assert.deepEqual(await on(provider, () => outcomes(make)), wanted);
      });
    }

    for (const [name, replicas] of [
      ['multi-worker', 2],
      ['parameter-server', 1],
    ] as const) {
      test(`between processes: ${name}`, { skip: whyNoMpirun() }, async () => {
        const environment = name === 'parameter-server' ? { [NUM_PS_VARIABLE]: '1' } : {};
        const task = JSON.stringify({ ...plain, optimizers: [momentum] });
        const results = [];
        for (const own of [[], [provider.backendModule]]) {
          const args = ['weights', name, String(replicas), '{}', task, ...own];
          const result = await mpirun(2, program, { args, environment });
          assert.ok(result.results[0], result.describe());
          results.push(result.results);
        }
        assert.deepEqual(results[1], results[0]);
      });
    }
  });
}

describe('a device that cannot be read at once', () => {
  after(() => unregisterDeviceProvider(distant.name));
  test('has no context.optimizer() between replicas: the error says what there is instead', async () => {
    registerDeviceProvider(distant);
    const scenes = new URL('../strategy/testing/mirrors.js', import.meta.url);
    const results = await mirrored().run<{ message: string }>(scenes, { scene: 'heads', how: 'both' });
    for (const { message } of results) {
      assert.match(
        message,
        /^The backend 'distant' hands out no tensor's values at once: [\s\S]*\nhelp: train with context\.trainer\(\)/,
      );
    }
  });
});
