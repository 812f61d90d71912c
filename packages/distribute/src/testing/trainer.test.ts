/**
 * A trainer's options under every strategy, against arithmetic: clipping, gradients that add up, schedules, variables without a
 * gradient, a loss that is no number, and going on where another trainer left off.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { NUM_PS_VARIABLE } from '../cluster/index.js';
import { createCrossDeviceOps } from '../cross-device-ops/create.js';
import { type DeviceProvider, registerDeviceProvider } from '../devices/device.js';
import { SceneJob, whyNoMpirun } from '../mpi/testing/mpirun.js';
import { MirroredStrategy } from '../strategy/mirrored-strategy.js';
import { OneDeviceStrategy } from '../strategy/one-device-strategy.js';
import { gradientAt, START, type TrainerOutcome, type TrainerTask } from './trainer-replica.js';

const provider = process.env.LOCKSTEP_TEST_PROVIDER;
if (provider) registerDeviceProvider(((await import(provider)) as { deviceProvider: DeviceProvider }).deviceProvider);

const replica = new URL('./trainer-replica.js', import.meta.url);
const program = new URL('./program.js', import.meta.url);

interface Way {
  readonly name: string;
  readonly skip: string | false;
  readonly replicas: number;
  readonly isInStep: boolean;
  run(task: TrainerTask): Promise<TrainerOutcome[]>;
}

function onThreads(replicas: number, algorithm = 'sharded'): Way {
  const devices = Array.from({ length: replicas }, (_, i) => `cpu:${i}`);
  const crossDeviceOps = createCrossDeviceOps(algorithm, 2);
  const strategy =
    replicas === 1 ? new OneDeviceStrategy() : new MirroredStrategy({ devices, crossDeviceOps, log: () => {} });
  const run = (task: TrainerTask) => strategy.run<TrainerOutcome>(replica, task);
  return { name: `${replicas} replicas, ${algorithm}`, skip: false, replicas, isInStep: true, run };
}

function underMpirun(name: 'multi-worker' | 'parameter-server', each: number): Way {
  const isInStep = name === 'multi-worker';
  const args = ['trainer', name, String(each), '{}', 'scenes'];
  const job = new SceneJob(2, program, { args, environment: isInStep ? {} : { [NUM_PS_VARIABLE]: '1' } });
  after(() => job.close());
  const run = async (task: TrainerTask) => {
    const results = await job.play(task);
    return (isInStep ? results.flat() : results[0]) as TrainerOutcome[];
  };
  const replicas = isInStep ? 2 * each : each;
  return { name: `${name}, ${each} replicas each`, skip: whyNoMpirun(), replicas, isInStep, run };
}

const ways = [
  onThreads(1),
  onThreads(2),
  onThreads(3, 'hierarchical_copy'),
  underMpirun('multi-worker', 2),
  underMpirun('parameter-server', 2),
];

/** Mean over replicas, and over some calls. */
function meanGradient(replicas: number, calls: readonly number[]): number[] {
  const all = calls.flatMap((call) => Array.from({ length: replicas }, (_, own) => gradientAt(call, own)));
  return START.map((_, i) => all.reduce((sum, gradient) => sum + (gradient[i] as number), 0) / all.length);
}

function assertClose(actual: readonly number[] | undefined, expected: readonly number[], what: string): void {
  assert.equal(actual?.length, expected.length, what);
  for (const [i, want] of expected.entries()) {
    const value = actual?.[i] as number;
    assert.ok(
      Math.abs(value - want) <= 2e-6 * (1 + Math.abs(want)),
      `${what}, weight ${i}: ${value} instead of ${want}`,
    );
  }
}

/** Runs it, and checks that replicas agree. */
async function outcomeOf(way: Way, task: TrainerTask): Promise<TrainerOutcome> {
  const outcomes = await way.run(task);
  assert.equal(outcomes.length, way.replicas);
  const [first] = outcomes as [TrainerOutcome];
  for (const { weights, state } of outcomes)
    assert.deepEqual({ weights, state }, { weights: first.weights, state: first.state });
  return first;
}

const sgd = { kind: 'sgd' } as const;

for (const way of ways) {
  describe(`a trainer's options: ${way.name}`, { skip: way.skip }, () => {
    test('clipping, by value and by global norm, of the mean gradient, before weight decay', async () => {
      const [decay, rate] = [0.25, 0.5];
      for (const clip of [{ value: 2.5 }, { globalNorm: 3 }, { globalNorm: 1000 }]) {
        const { weights, flags } = await outcomeOf(way, { options: { optimizer: sgd, clip, decay }, calls: 2 });
        let expected: number[] = [...START];
        for (const call of [0, 1]) {
          const mean = meanGradient(way.replicas, [call]);
          const norm = Math.hypot(...mean);
          const cut = mean.map((g) =>
            clip.value === undefined
              ? g * Math.min(1, clip.globalNorm / norm)
              : Math.max(-clip.value, Math.min(clip.value, g)),
          );
          expected = expected.map((w, i) => w - rate * ((cut[i] as number) + (i < 3 ? decay * w : 0)));
          assertClose(weights[call], expected, `${JSON.stringify(clip)}, step ${call}`);
        }
        assert.deepEqual(flags, ['finite updated', 'finite updated']);
      }
    });

    test('each gradient is shown as this replica has it, before it is summed, until nobody looks', async () => {
      for (const recorded of [false, true]) {
        const outcomes = await way.run({ options: { optimizer: sgd, lossScale: 4 }, calls: 2, recorded });
        for (const [own, { watched }] of outcomes.entries()) {
          const [x, y, z, last] = gradientAt(0, own % way.replicas).map((g) => 4 * g) as [
            number,
            number,
            number,
            number,
          ];
          assert.deepEqual(watched, { vector: [x, y, z], scalar: [last] });
        }
      }
    });

    test('LARS: momentum with a rate for each variable, from norms of the mean gradient', async () => {
      const [decay, ownDecay, eeta, epsilon, momentum, rate] = [0.25, 0.125, 0.1, 0.01, 0.5, 0.5];
      const optimizer = { kind: 'lars', momentum, weightDecay: ownDecay, eeta, epsilon, skip: ['scalar'] } as const;
      const { weights } = await outcomeOf(way, { options: { optimizer, decay }, calls: 3 });
      const vector: number[] = START.slice(0, 3);
      let scalar: number = START[3];
      const slots = [0, 0, 0, 0];
      for (const call of [0, 1, 2]) {
        const mean = meanGradient(way.replicas, [call]);
        const gradient = vector.map((w, i) => (mean[i] as number) + decay * w);
        const norm = Math.hypot(...vector);
        const factor = (eeta * norm) / (Math.hypot(...gradient) + ownDecay * norm + epsilon);
        for (const [i, g] of gradient.entries()) {
          slots[i] = momentum * (slots[i] as number) + g + ownDecay * (vector[i] as number);
          (vector[i] as number) -= rate * factor * (slots[i] as number);
        }
        slots[3] = momentum * (slots[3] as number) + (mean[3] as number);
        scalar -= rate * slots[3];
        assertClose(weights[call], [...vector, scalar], `step ${call}`);
      }
    });

    test('gradients that add up over calls, with momentum: weights change in the last one, by the mean', async () => {
      const momentum = 0.5;
      const options = { optimizer: { kind: 'momentum', momentum } as const, accumulateSteps: 3 };
      const { weights, flags, losses, state } = await outcomeOf(way, { options, calls: 6 });
      const [first, second] = [meanGradient(way.replicas, [0, 1, 2]), meanGradient(way.replicas, [3, 4, 5])];
      const one = START.map((w, i) => w - 0.5 * (first[i] as number));
      const two = one.map((w, i) => w - 0.5 * (momentum * (first[i] as number) + (second[i] as number)));
      for (const call of [0, 1]) assertClose(weights[call], START, `call ${call}`);
      for (const call of [2, 3, 4]) assertClose(weights[call], one, `call ${call}`);
      assertClose(weights[5], two, 'call 5');
      const adds = ['finite', 'finite', 'finite updated'];
      assert.deepEqual(flags, [...adds, ...adds]);
      // Weights stand still in between, so the mean of the losses is the loss of the mean gradient.
      const dot = START.reduce((sum, w, i) => sum + w * (first[i] as number), 0);
      assertClose([Number(losses[2])], [dot], 'loss');
      assert.equal(state.scalars.updates, 2);
      assert.deepEqual((await outcomeOf(way, { options, calls: 6, recorded: true })).weights, weights, 'recorded');
    });

    test('a learning rate that is a function of the updates made', async () => {
      const rates = [0.5, 0.25, 0];
      const { weights } = await outcomeOf(way, { options: { optimizer: sgd }, calls: 3, rates });
      let expected: number[] = [...START];
      for (const [call, rate] of rates.entries()) {
        const mean = meanGradient(way.replicas, [call]);
        expected = expected.map((w, i) => w - rate * (mean[i] as number));
        assertClose(weights[call], expected, `step ${call}`);
      }
    });

    test('a variable without a gradient: zero, momentum goes on, and that is said once', async () => {
      const options = { optimizer: { kind: 'momentum', momentum: 0.5 } as const };
      const outcomes = await way.run({ options, calls: 3, missing: true });
      for (const { weights } of outcomes)
        assert.deepEqual(
          weights.map((list) => list[3]),
          [0.5, 0.5, 0.5],
        );
      assert.equal(
        outcomes.reduce((sum, { said }) => sum + said, 0),
        1,
      );
    });

    test('a step without a finite loss changes nothing, and the next one goes on', async () => {
      const options = { optimizer: { kind: 'momentum', momentum: 0.5 } as const };
      const spoiled = await outcomeOf(way, { options, calls: 3, spoiled: 1 });
      assert.deepEqual(spoiled.flags, ['finite updated', '', 'finite updated']);
      assert.equal(spoiled.losses[1], 'NaN');
      assert.deepEqual(spoiled.weights[1], spoiled.weights[0]);
      assert.equal(spoiled.state.scalars.updates, 2);
      const [first, third] = [meanGradient(way.replicas, [0]), meanGradient(way.replicas, [2])];
      const expected = START.map((w, i) => w - 0.5 * (1.5 * (first[i] as number) + (third[i] as number)));
      assertClose(spoiled.weights[2], expected, 'after the third step');
    });

    test('goes on where another trainer left off: Adam counts its updates, a schedule its steps', async () => {
      const task = { options: { optimizer: { kind: 'adam' } as const }, rates: [0.5, 0.25, 0.125, 0.0625] };
      const whole = await outcomeOf(way, { ...task, calls: 4 });
      const half = await outcomeOf(way, { ...task, calls: 2 });
      assert.equal(half.state.scalars.updates, 2);
      const rest = await outcomeOf(way, { ...task, calls: 2, from: 2, state: half.state });
      assert.deepEqual(rest.state, whole.state);
      assert.deepEqual([...half.weights, ...rest.weights], whole.weights);
    });
  });
}

test('nobody waits for anybody while gradients add up', async () => {
  const order = new SharedArrayBuffer(4);
  const task = { options: { optimizer: sgd, accumulateSteps: 4 }, calls: 4, order };
  const [first, second] = (await onThreads(2).run(task)) as [TrainerOutcome, TrainerOutcome];
  assert.deepEqual(first.state, second.state);
  const mean = meanGradient(2, [0, 1, 2, 3]);
  assertClose(
    first.state.weights,
    START.map((w, i) => w - 0.5 * (mean[i] as number)),
    'after the last call',
  );
});
