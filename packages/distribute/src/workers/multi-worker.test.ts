/** MultiWorkerMirroredStrategy under real mpirun: training against float64 loops, faults, disagreement, missing launcher. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type MpirunResult, mpirun, whyNoMpirun } from '../mpi/testing/mpirun.js';
import { reference, type TestOutcome, type TestTask } from './testing/worker.js';

const program = new URL('./testing/multi-worker.js', import.meta.url);
const skip = whyNoMpirun();

const task: TestTask = { steps: 12, batchPerReplica: 4, features: 37 };

function start(workers: number, replicas: number, options: object = {}, change: Partial<TestTask> = {}) {
  const args = [String(replicas), JSON.stringify(options), JSON.stringify({ ...task, ...change })];
  return mpirun(workers, program, { args });
}

function outcomesOf(result: MpirunResult): TestOutcome[] {
  assert.equal(result.status, 0, result.describe());
  return result.results.flatMap((outcomes) => {
    assert.ok(outcomes, result.describe());
    return outcomes as TestOutcome[];
  });
}

function assertTrained(outcomes: TestOutcome[], count: number, tolerance: number): void {
  const expected = reference(task, count);
  assert.deepEqual(
    outcomes.map(({ replica, replicas }) => `${replica}/${replicas}`),
    Array.from({ length: count }, (_, i) => `${i}/${count}`),
  );
  for (const { weights, losses } of outcomes) {
    assert.deepEqual(weights, outcomes[0]?.weights, 'weights are bit-identical on all replicas');
    assert.deepEqual(losses, outcomes[0]?.losses);
    for (const [i, weight] of weights.entries())
      assert.ok(Math.abs(weight - (expected.weights[i] as number)) < tolerance);
    for (const [i, loss] of losses.entries()) assert.ok(Math.abs(loss - (expected.losses[i] as number)) < tolerance);
  }
}

describe('MultiWorkerMirroredStrategy', { skip }, () => {
  for (const [workers, replicas] of [
    [2, 1],
    [3, 1],
    [2, 2],
    [4, 1],
  ] as const) {
    it(`${workers} workers with ${replicas} replicas train as one does with the global batch`, async () => {
      assertTrained(outcomesOf(await start(workers, replicas)), workers * replicas, 2e-5);
    });
  }

  it('a dynamic loss scale skips the same steps in every process, and leaves weights alone in them', async () => {
    for (const [workers, replicas, numPacks] of [
      [2, 1, 1],
      [2, 2, 3],
    ] as const) {
      // 2¹²⁷ times any of these gradients is infinite in f32; a few halvings later it is not.
      const outcomes = outcomesOf(await start(workers, replicas, { numPacks }, { initialLossScale: 2 ** 127 }));
      const [{ skipped }] = outcomes as [TestOutcome];
      assert.ok(skipped.length > 0 && skipped.length < task.steps / 2, `skipped ${skipped}`);
      assert.deepEqual(
        skipped,
        skipped.map((_, i) => i),
        'the first steps',
      );
      const expected = reference(task, workers * replicas, skipped);
      const state = { value: 2 ** (127 - skipped.length), goodSteps: task.steps - skipped.length };
      for (const outcome of outcomes) {
        assert.deepEqual(outcome.skipped, skipped);
        assert.deepEqual(outcome.lossScaleState, state, 'what a checkpoint is to hold');
        for (const [i, weight] of outcome.weights.entries()) {
          assert.ok(Math.abs(weight - (expected.weights[i] as number)) < 2e-5, `weight ${i}`);
        }
      }
    }
  });

  it('goes on with the loss scale that another run left', async () => {
    const { steps } = task;
    for (const [value, goodSteps] of [
      [2 ** 127, 3],
      [2 ** 20, 1995],
    ] as const) {
      const outcomes = outcomesOf(await start(2, 2, {}, { initialLossScale: 1, savedLossScale: { value, goodSteps } }));
      for (const { skipped, lossScaleState } of outcomes) {
        // The large one is halved in each skipped step; the other doubles after the 2000th good one, and counts anew.
        if (value > 2 ** 100) {
          assert.ok(skipped.length > 0);
          assert.deepEqual(lossScaleState, { value: value / 2 ** skipped.length, goodSteps: steps - skipped.length });
        } else {
          assert.deepEqual(skipped, []);
          assert.deepEqual(lossScaleState, { value: 2 * value, goodSteps: goodSteps + steps - 2000 });
        }
      }
    }
  });

  it('gives the same bits for every number of packs, in rank order', async () => {
    const [one, four] = await Promise.all([start(3, 1), start(3, 1, { numPacks: 4 })]);
    assert.deepEqual(outcomesOf(four), outcomesOf(one));
  });

  it('gives the same bits when it chooses the packs by itself, and says so once', async () => {
    const longer = { steps: 20 };
    const [one, auto] = await Promise.all([start(2, 2, {}, longer), start(2, 2, { numPacks: 'auto' }, longer)]);
    assert.deepEqual(outcomesOf(auto), outcomesOf(one));
    const said = auto.outputs.join('').match(/num_packs=auto: .* between workers\./g) ?? [];
    assert.equal(said.length, 1, auto.describe());
    assert.match(said[0] as string, /: 1 pack, a step of .* Measured: .* of gradients, \d+ µs and /);
  });

  it('trains with the ring, and with gradients in bf16', async () => {
    const [ring, bf16] = await Promise.all([
      start(2, 2, { communication: 'RING', numPacks: 3 }),
      start(2, 1, { gradientDtype: 'bf16', numPacks: 2 }),
    ]);
    assertTrained(outcomesOf(ring), 4, 2e-5);
    // A gradient element is off by 2⁻⁷ of itself at most; 12 steps of rate 0.05 with momentum add up a few of them.
    assertTrained(outcomesOf(bf16), 2, 2e-2);
  });

  it('compares what runs, and names what differs on which rank', async () => {
    const result = await start(2, 1, { differ: 1 });
    assert.notEqual(result.status, 0);
    assert.match(
      result.outputs.join(''),
      /The ranks do not run the same thing. Different: flags \(rank 0: seed="0"; rank 1: seed="1"\)/,
      result.describe(),
    );
  });

  for (const how of ['kill', 'throw']) {
    it(`a worker is lost (${how}): the others name it and the step`, async () => {
      const result = await start(3, 2, {}, { steps: 1000, fault: { how, replica: 3, step: 7 } });
      assert.notEqual(result.status, 0);
      for (const survivor of [0, 2]) {
        const pattern =
          how === 'kill' ? /Rank 1 \(host .*was lost: .*\(collective \d+, step \d+\)/ : /Rank 1 .*failed: Replica 1/;
        assert.match(result.outputs[survivor] as string, pattern, result.describe());
      }
      if (how === 'throw') assert.match(result.outputs[1] as string, /a mistake of its own/);
      assert.ok(result.seconds < 30, result.describe());
    });
  }

  it('a worker out of memory: the others name it, and what it was', async () => {
    // One replica's heap: its process can still say so. The process's own: V8 ends it, and it is gone like one that is killed.
    const [replica, whole] = await Promise.all([
      start(3, 2, {}, { steps: 100_000, fault: { how: 'heap', replica: 3, step: 7 } }),
      mpirun(3, program, {
        args: [
          '1',
          '{}',
          JSON.stringify({ ...task, steps: 100_000, fault: { how: 'process heap', replica: 1, step: 7 } }),
        ],
        environment: { NODE_OPTIONS: '--max-old-space-size=128' },
      }),
    ]);
    for (const result of [replica, whole]) assert.ok(result.status !== 0 && result.status !== null, result.describe());
    assert.match(replica.outputs[1] as string, /Replica 1 \(cpu:1\) ran out of memory: /, replica.describe());
    assert.match(whole.outputs[1] as string, /heap out of memory/, whole.describe());
    for (const survivor of [0, 2]) {
      const [named, lost] = [replica, whole].map(({ outputs }) => outputs[survivor] as string) as [string, string];
      assert.match(named, /Rank 1 \(.*failed: Replica 1 \(cpu:1\) ran out of memory/, replica.describe());
      assert.match(lost, /Rank 1 \(.*was lost: .*\(collective \d+, step \d+\)/, whole.describe());
    }
  });

  it('a frozen worker: within the limit', async () => {
    const options = { mpi: { silenceSeconds: 4 } };
    const result = await start(2, 1, options, { steps: 1000, fault: { how: 'stop', replica: 1, step: 7 } });
    assert.notEqual(result.status, 0);
    assert.match(result.outputs[0] as string, /Rank 1 .* was lost: it has not answered for \d/, result.describe());
    assert.ok(result.seconds < 40, result.describe());
  });

  it('without mpirun, prints the command', () => {
    const TF_CONFIG = JSON.stringify({
      cluster: { worker: ['localhost:1', 'localhost:2'] },
      task: { type: 'worker', index: 0 },
    });
    const path = fileURLToPath(program);
    const { status, stderr } = spawnSync(process.execPath, [path, '1'], {
      env: { ...process.env, TF_CONFIG },
      encoding: 'utf8',
    });
    assert.notEqual(status, 0);
    assert.ok(stderr.includes('help: unset TF_CONFIG; mpirun -np 2 '), stderr);
    assert.ok(stderr.includes(`${path} 1`), stderr);
  });
});
