/** ParameterServerStrategy under real mpirun: against float64 loops, convergence, staleness, lost workers and servers. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Cluster, NUM_PS_VARIABLE } from '../cluster/index.js';
import { type MpirunResult, mpirun, whyNoMpirun } from '../mpi/testing/mpirun.js';
import { example, LEARNING_RATE, reference } from '../workers/testing/worker.js';
import { ParameterServerStrategy } from './parameter-server-strategy.js';
import { placeVariables } from './placement.js';
import type { ServerReport } from './server.js';
import { line, type PsOutcome, type PsTask } from './testing/ps-worker.js';

const program = new URL('./testing/parameter-server.js', import.meta.url);

function start(workers: number, servers: number, task: PsTask, more: { replicas?: number; recover?: boolean } = {}) {
  return mpirun(workers + servers, program, {
    args: [String(more.replicas ?? 1), JSON.stringify({ mpi: { silenceSeconds: 5 } }), JSON.stringify(task)],
    environment: { [NUM_PS_VARIABLE]: String(servers) },
    mpirunArgs: more.recover ? ['--enable-recovery'] : [],
  });
}

function resultOf<T>(result: MpirunResult, rank: number): T[] {
  assert.ok(result.results[rank], result.describe());
  return result.results[rank] as T[];
}

function checkStaleness({ updates, updatesOfWorker, histogram, mean, max }: ServerReport): void {
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  assert.equal(sum(updatesOfWorker), updates);
  assert.equal(sum(histogram), updates);
  const fromBins = sum(histogram.map((count, age) => count * age)) / updates;
  const last = histogram.length - 1;
  if (max < last) {
    assert.equal(
      histogram.findLastIndex((count) => count > 0),
      max,
    );
    assert.ok(Math.abs(fromBins - mean) < 1e-9);
    return;
  }
  // A worker that the machine left waiting pushed something old: the last bin counts it as younger than it is.
  assert.ok((histogram[last] as number) > 0);
  assert.ok(fromBins <= mean + 1e-9 && mean <= max);
}

/** Mean squared distance from the line, in float64, over the first thousand examples: what `exact` tasks minimise. */
function lossOnLine(weights: readonly number[]): number {
  const features = weights.length - 1;
  const truth = line(features);
  const errorOf = (row: number) =>
    [...example(row, features).x, 1].reduce(
      (sum, value, j) => sum + value * ((weights[j] as number) - (truth[j] as number)),
      0,
    );
  return Array.from({ length: 1000 }, (_, row) => errorOf(row) ** 2).reduce((a, b) => a + b, 0) / 1000;
}

describe('placement', () => {
  it('places every variable, and leaves no server with more than the rest and one variable', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 1000 }), { maxLength: 40 }),
        fc.integer({ min: 1, max: 6 }),
        (lengths, servers) => {
          const placed = placeVariables(lengths, servers);
          const held = Array.from({ length: servers }, (_, server) =>
            lengths.reduce((sum, length, i) => (placed[i] === server ? sum + length : sum), 0),
          );
          assert.equal(
            held.reduce((a, b) => a + b, 0),
            lengths.reduce((a, b) => a + b, 0),
          );
          assert.ok(Math.max(...held) - Math.min(...held) <= Math.max(0, ...lengths));
        },
      ),
    );
    assert.deepEqual(placeVariables([5, 5, 5, 5], 2), [0, 1, 0, 1], 'equal ones go round');
    assert.deepEqual(placeVariables([1, 9, 2, 3], 2), [1, 0, 1, 1], 'the largest first');
  });
});

describe('ParameterServerStrategy', () => {
  const cluster = (change: Partial<Cluster>): Cluster => ({
    spec: { worker: ['a:1', 'b:1'], ps: ['c:1'] },
    task: { type: 'worker', index: 0 },
    isChief: true,
    numWorkers: 2,
    numParameterServers: 1,
    launched: null,
    ...change,
  });

  it('needs servers, in upstream’s words', () => {
    assert.throws(
      () => new ParameterServerStrategy({ cluster: cluster({ numParameterServers: 0 }), log: () => {} }),
      /^Error: The cluster spec needs to have `ps` jobs\./,
    );
  });

  it('alone, keeps its variables itself', () => {
    const alone = new ParameterServerStrategy({ cluster: cluster({ numWorkers: 1, numParameterServers: 0 }) });
    assert.equal(alone.isLocal, true);
    assert.equal(alone.numReplicasInSync, 1);
    assert.deepEqual([alone.isInStep, alone.role], [true, 'worker']);
  });

  it('says that workers are not in step, and which process only holds variables', () => {
    const worker = new ParameterServerStrategy({ cluster: cluster({}), log: () => {} });
    assert.deepEqual([worker.isInStep, worker.role], [false, 'worker']);
    const task = { type: 'ps', index: 0 } as const;
    const server = new ParameterServerStrategy({ cluster: cluster({ task, isChief: false }), log: () => {} });
    assert.deepEqual([server.isInStep, server.role], [false, 'server']);
  });
});

describe('ParameterServerStrategy under mpirun', { skip: whyNoMpirun() }, () => {
  const small: PsTask = { steps: 12, batchPerReplica: 4, features: 37, learningRate: LEARNING_RATE };

  for (const [replicas, servers] of [
    [1, 1],
    [2, 2],
  ] as const) {
    it(`one worker of ${replicas} replicas and ${servers} servers train as one device does`, async () => {
      const result = await start(1, servers, small, { replicas });
      assert.equal(result.status, 0, result.describe());
      const expected = reference(
        { steps: small.steps, batchPerReplica: small.batchPerReplica, features: small.features },
        replicas,
      );
      for (const { weights, losses } of resultOf<PsOutcome>(result, 0)) {
        for (const [i, weight] of weights.entries()) {
          assert.ok(Math.abs(weight - (expected.weights[i] as number)) < 2e-5, `weight ${i}`);
        }
        for (const [i, loss] of losses.entries()) assert.ok(Math.abs(loss - (expected.losses[i] as number)) < 2e-5);
      }
      for (let server = 0; server < servers; server++) {
        const [report] = resultOf<ServerReport>(result, 1 + server) as [ServerReport];
        assert.equal(report.updates, small.steps);
        assert.equal(report.max, 0, 'nobody else pushed in between');
        checkStaleness(report);
      }
    });
  }

  for (const servers of [1, 2]) {
    it(`two workers and ${servers} servers converge to the least squares`, async () => {
      const task: PsTask = {
        steps: 300,
        batchPerReplica: 16,
        features: 4,
        learningRate: 0.1,
        momentum: 0,
        exact: true,
      };
      const result = await start(2, servers, task);
      assert.equal(result.status, 0, result.describe());
      const [chief] = resultOf<PsOutcome>(result, 0) as [PsOutcome];
      assert.equal(chief.weights.length, task.features + 1);
      // Four sines of one frequency span two directions: the line is found on the data, so the loss is what has to vanish.
      // Both losses are of weights alone: what a worker sees in a step depends on how far the other one is.
      const initial = Array.from({ length: task.features + 1 }, (_, j) => (j < task.features ? 0.1 * (j + 1) : 0.5));
      assert.ok(lossOnLine(initial) > 0.05, 'there is something to learn');
      assert.ok(lossOnLine(chief.weights) < 1e-6, `loss ${lossOnLine(chief.weights)}`);
      assert.equal(chief.status?.updates, 2 * task.steps);
      for (let server = 0; server < servers; server++) {
        const [report] = resultOf<ServerReport>(result, 2 + server) as [ServerReport];
        assert.deepEqual(report.updatesOfWorker, [task.steps, task.steps]);
        checkStaleness(report);
      }
    });
  }

  it('counts how stale a slow worker’s gradients are', async () => {
    // While the slow worker naps after its push it has pulled nothing yet; its age comes from the fast one's updates between
    // its pull and its push. Naps of the fast one make that one or two; of both, the histogram accounts for every update.
    const task: PsTask = { ...small, steps: 40, momentum: 0, naps: [0, 5] };
    const result = await start(2, 1, task);
    assert.equal(result.status, 0, result.describe());
    const [report] = resultOf<ServerReport>(result, 2) as [ServerReport];
    checkStaleness(report);
    assert.equal(report.updates, 80);
  });

  for (const how of ['kill', 'throw'] as const) {
    it(`a worker is lost (${how}): the others go on to the end`, async () => {
      const task: PsTask = { ...small, steps: 60, naps: [10, 10, 10], fault: { how, worker: 1, step: 5 } };
      const result = await start(3, 1, task, { recover: true });
      const [report] = resultOf<ServerReport>(result, 3) as [ServerReport];
      assert.deepEqual(report.lostWorkers, [1], result.describe());
      // A killed worker's last gradient may not have left it.
      const [first, lost, last] = report.updatesOfWorker as [number, number, number];
      assert.deepEqual([first, last], [60, 60]);
      assert.ok(lost <= 5, `${lost} updates of the lost worker`);
      const [chief] = resultOf<PsOutcome>(result, 0) as [PsOutcome];
      assert.deepEqual([chief.status?.lost, chief.losses.length], [1, 60]);
      assert.match(result.outputs[3] as string, /rank 1 \(host .*was lost: the other workers go on without it/);
      assert.ok(result.seconds < 40, result.describe());
    });
  }

  it('a server is lost: every worker names it, and the job ends', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lockstep-ps-'));
    try {
      // The server kills itself when it sees the file that worker 0 writes in its fifth step.
      const signal = join(folder, 'now');
      const task: PsTask = { ...small, steps: 100_000, naps: [5, 5], signal: { step: 4, file: signal } };
      const result = await mpirun(4, new URL('./testing/ps-suicide.js', import.meta.url), {
        args: ['1', JSON.stringify({ mpi: { silenceSeconds: 5 } }), JSON.stringify(task)],
        environment: { [NUM_PS_VARIABLE]: '2', TESTING_PS_SIGNAL: signal },
        mpirunArgs: ['--enable-recovery'],
      });
      for (const worker of [0, 1]) {
        assert.match(result.outputs[worker] as string, /Rank 3 \(host .*, process \d+\) was lost: /, result.describe());
      }
      assert.notEqual(result.status, null, result.describe());
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
