/**
 * What happens to `lockstep cifar10` in several processes when one of them breaks: the job ends in bounded time, every survivor
 * names the lost rank, where it was itself, and in which step; and the same command goes on, to the very weights that an
 * undisturbed run has.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { prepareFewDigits } from '@lockstep/official/data/testing/few-digits';
import {
  lockstep,
  type ProcessResult,
  type RunningProcess,
  ranksOf,
  startMpirun,
  whyNoMpirun,
} from '../testing/process.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-faults-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Far more than are needed until a rank breaks, so that the job is not over when the test comes to break it. */
const STEPS = 120;
const LIMITS = ['--worker_late_secs=1', '--worker_lost_secs=4', '--worker_timeout_secs=20'];

let data = '';
const flags = (modelDir: string, ...more: string[]) => [
  'cifar10',
  `--data_dir=${data}`,
  `--model_dir=${join(folder, modelDir)}`,
  ...['--resnet_size=8', '--train_epochs=10', `--max_train_steps=${STEPS}`, '--save_checkpoints_steps=10'],
  ...['--seed=1', '--hooks=', '--progress=plain', '--intra_op_parallelism_threads=1', '--keep_checkpoint_max=40'],
  ...more,
];
const job = (startSeconds = 60) => {
  const limits = [...LIMITS, `--worker_start_secs=${startSeconds}`];
  return startMpirun(3, flags('model', '--batch_size=8', '--distribution_strategy=multi_worker_mirrored', ...limits), {
    mpirunArgs: ['--mca', 'odls_base_sigkill_timeout', '3'],
    limitSeconds: 120,
  });
};
const victim = (running: RunningProcess, rank: number) => ranksOf(running.child.pid as number).get(rank) as number;
const checkpoints = () =>
  readdirSync(join(folder, 'model')).flatMap((name) => Number(/^ckpt-(\d+)\.safetensors$/.exec(name)?.[1] ?? []));

function assertNamed(result: ProcessResult, lost: number, how: RegExp, survivors: readonly number[]): void {
  assert.notEqual(result.status, 0, result.describe());
  for (const rank of survivors) {
    const text = result.ranks[rank] ?? '';
    const found = new RegExp(
      `Rank ${lost} \\(host .*, process \\d+\\) was lost: ${how.source}.*Rank ${rank} of 3 was .*\\(collective \\d+, step \\d+\\)`,
    );
    assert.match(text, found, `rank ${rank}\n${result.describe()}`);
  }
}

describe('a rank breaks', { skip: whyNoMpirun() }, () => {
  before(async () => {
    data = prepareFewDigits(join(folder, 'digits'));
    const whole = await lockstep(flags('whole', '--batch_size=24', '--num_cpus=3', '--distribution_strategy=mirrored'));
    assert.equal(whole.status, 0, whole.describe());
  });

  it('killed while training: both survivors name it', async () => {
    const running = job();
    await running.until(/Saved checkpoint .*ckpt-10\./);
    process.kill(victim(running, 1), 'SIGKILL');
    const killed = performance.now();
    const result = await running.result;
    assertNamed(result, 1, /its process is gone/, [0, 2]);
    assert.ok(performance.now() - killed < 30_000, result.describe());
  });

  it('frozen: a warning that says who is behind, then the same; it goes on where it was', async () => {
    const before = Math.max(...checkpoints());
    const running = job();
    await running.until(new RegExp(`Restored step ${before} from`));
    await running.until(/Saved checkpoint/);
    process.kill(victim(running, 2), 'SIGSTOP');
    const result = await running.result;
    assert.match(result.output, /Rank [01] has been waiting in .* Behind: rank 2 .*its process is stopped/);
    assertNamed(result, 2, /it has not answered for \d+\.\d s \(its process is stopped\)/, [0, 1]);
  });

  /** A job whose chief is within a save, and stays there. */
  async function saving(): Promise<{ running: RunningProcess; chief: number; before: number }> {
    const before = Math.max(...checkpoints());
    const running = job();
    await running.until(/Restored step/);
    const chief = victim(running, 0);
    // A pipe in the temporary file's place: the chief stays inside its next save until somebody reads, and nobody does.
    const pipe = join(folder, 'model', `ckpt-${before + 10}.safetensors.${chief}.tmp`);
    execFileSync('mkfifo', [pipe]);
    await running.until(/has been waiting in .* Behind: rank 0/);
    return { running, chief, before };
  }

  it('killed while it writes a checkpoint: what was there before is whole, and nothing half-written is taken for one', async () => {
    const { running, chief, before } = await saving();
    process.kill(chief, 'SIGKILL');
    const result = await running.result;
    assertNamed(result, 0, /its process is gone/, [1, 2]);
    assert.equal(Math.max(...checkpoints()), before);
  });

  it('frozen while it writes a checkpoint: the same', async () => {
    const { running, chief, before } = await saving();
    process.kill(chief, 'SIGSTOP');
    const result = await running.result;
    assertNamed(result, 0, /it has not answered for \d+\.\d s \(its process is stopped\)/, [1, 2]);
    assert.equal(Math.max(...checkpoints()), before);
  });

  it('the same command goes on to the weights of an undisturbed run, bit by bit', async () => {
    const result = await job().result;
    assert.equal(result.status, 0, result.describe());
    assert.match(result.output, /Restored step/);
    const read = (modelDir: string) => readFileSync(join(folder, modelDir, `ckpt-${STEPS}.safetensors`));
    assert.ok(read('model').equals(read('whole')), 'the checkpoints differ');
  });

  it('killed, or frozen, during start', async () => {
    for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
      const running = job(4);
      let started: number | undefined;
      while (started === undefined) {
        started = victim(running, 1);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      process.kill(started, signal);
      const result = await running.result;
      assert.notEqual(result.status, 0, result.describe());
      if (signal === 'SIGSTOP') assert.match(result.output, /Open MPI did not start within 4 s|was lost/);
      assert.ok(result.seconds < 40, result.describe());
    }
  });
});
