/** Training under a real Slurm of two nodes, by the batch file in examples/: what srun says, and the ways in which a job ends. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { prepareFewDigits } from '@lockstep/official/data/testing/few-digits';
import { decodeTensorFile } from '@lockstep/official/utils/checkpoint/safetensors';
import { lockstep, whyNoMpirun } from '../testing/process.js';
import { SlurmCluster, whyNoSlurm } from '../testing/slurm.js';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));
/** Far more than are made until a job is told to stop. */
const STEPS = 300;

describe('Slurm', { skip: whyNoMpirun() || whyNoSlurm() }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-slurm-'));
  let cluster: SlurmCluster;
  let data = '';
  const flags = [
    ...['--resnet_size=8', '--train_epochs=10', `--max_train_steps=${STEPS}`, '--save_checkpoints_secs=10000'],
    ...['--seed=1', '--hooks=', '--progress=plain', '--intra_op_parallelism_threads=1'],
  ];
  const output = (job: string) => {
    const path = join(folder, `job-${job}.out`);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  };
  /** The batch file of examples/, with as many cores as there are and small flags after its own. */
  const submit = (modelDir: string, ...more: string[]) =>
    cluster.submit(
      [
        ...[
          `--chdir=${ROOT}`,
          `--output=${join(folder, 'job-%j.out')}`,
          `--cpus-per-task=${Math.min(2, cluster.cpus)}`,
        ],
        join(ROOT, 'examples/slurm/cifar10.sbatch'),
        ...flags,
        ...['--num_cpus=1', '--batch_size=16'],
        ...more,
      ],
      { DATA_DIR: data, MODEL_DIR: join(folder, modelDir) },
    );
  const until = async (job: string, pattern: RegExp) => {
    const end = performance.now() + 60_000;
    while (!pattern.test(output(job))) {
      assert.ok(performance.now() < end, `no ${pattern} within 60 s:\n${output(job)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const srun = (args: string[], script: string) =>
    cluster
      .run('srun', [...args, process.execPath, '--input-type=module', '-e', script])
      .trim()
      .split('\n')
      .sort();

  before(async () => {
    data = prepareFewDigits(join(folder, 'digits'));
    cluster = await SlurmCluster.start(folder);
  });
  after(async () => {
    await cluster?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  it('the resolver lays tasks out over the nodes of the allocation', () => {
    const script = `
      import { SlurmClusterResolver } from '${import.meta.resolve('@lockstep/distribute')}';
      const resolver = new SlurmClusterResolver({ jobs: { worker: 3, ps: 1 }, gpusPerNode: 2 });
      const spec = resolver.clusterSpec();
      console.log(JSON.stringify([resolver.getTaskInfo(), process.env.CUDA_VISIBLE_DEVICES, spec]));`;
    const spec = { ps: ['n1:8888'], worker: ['n1:8889', 'n2:8888', 'n2:8889'] };
    const expected = ['ps 0 0', 'worker 0 1', 'worker 1 0', 'worker 2 1'].map((line) => {
      const [type, index, gpu] = line.split(' ');
      return JSON.stringify([{ type, index: Number(index) }, gpu, spec]);
    });
    const args = ['--nodes=2', '--ntasks-per-node=2', '--overcommit', '--label'];
    const lines = srun(args, script).map((line, rank) => line.replace(`${rank}: `, ''));
    assert.deepEqual(lines, expected);
  });

  it('a rank knows its place among those of its node, whatever the job asked for', () => {
    const script = `
      import { launchedProcess } from '${import.meta.resolve('@lockstep/distribute')}';
      console.log(JSON.stringify(launchedProcess()));`;
    const place = (rank: number) => JSON.stringify({ launcher: 'srun', rank, size: 2, localRank: rank, localSize: 2 });
    const lines = srun(['--mpi=pmix', '--nodes=1', '--ntasks=2', '--overcommit'], script);
    assert.deepEqual(lines, [place(0), place(1)]);
  });

  it('the example trains; told that its time is up it saves, queues up again and goes on, to the same bits', async () => {
    const job = submit('model');
    await until(job, /step 1\/\d+/);
    const ranks = cluster.ranksOf(job, 'cifar10');
    assert.deepEqual([...ranks.keys()].sort(), [0, 1], output(job));
    for (const pid of ranks.values()) {
      const mask = /Cpus_allowed:\s*(\S+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] as string;
      const cpus = [...mask].reduce(
        (sum, digit) => sum + [...Number.parseInt(digit, 16).toString(2)].filter((bit) => bit === '1').length,
        0,
      );
      assert.ok(cpus >= Math.min(2, cluster.cpus), `a rank may run on ${mask} only`);
    }
    // What sbatch's --signal sends.
    cluster.run('scancel', ['--signal=USR2', job]);
    await cluster.untilState(job, 'PENDING', () => output(job));
    // The file may lag behind the state. The other rank may have been told first.
    await until(job, /Stopping after this step|Stopped because another worker was told to/);
    await until(job, /Saved checkpoint \S+ckpt-\d+/);
    const saved = /Saved checkpoint \S+ckpt-(\d+)/.exec(output(job)) as RegExpExecArray;
    // Slurm lets a requeued job wait for two minutes. Within the second in which the job was ended, a node refuses to start it again
    // ("Job 1 already killed, do not launch batch job").
    await new Promise((resolve) => setTimeout(resolve, 2000));
    cluster.run('scontrol', ['update', `JobId=${job}`, 'StartTime=now']);
    await cluster.untilState(job, 'COMPLETED', () => output(job));
    assert.equal(cluster.field(job, 'Restarts'), '1');
    assert.match(output(job), /Restored step \d+ from/);

    // One process with two replicas, which saves at the same step, because saving averages the moving statistics.
    for (const steps of [Number(saved[1]), STEPS]) {
      const run = await lockstep([
        'cifar10',
        `--data_dir=${data}`,
        `--model_dir=${join(folder, 'whole')}`,
        ...flags,
        `--max_train_steps=${steps}`,
        '--batch_size=32',
        '--num_cpus=2',
        '--distribution_strategy=mirrored',
      ]);
      assert.equal(run.status, 0, run.describe());
    }
    const tensors = (modelDir: string) =>
      decodeTensorFile(readFileSync(join(folder, modelDir, `ckpt-${STEPS}.safetensors`))).tensors;
    assert.deepEqual(tensors('model'), tensors('whole'));
  });

  it('a rank is killed: the other one names it, and the job fails', async () => {
    const job = submit('killed');
    await until(job, /step 1\/\d+/);
    process.kill(cluster.ranksOf(job, 'cifar10').get(1) as number, 'SIGKILL');
    await cluster.untilState(job, 'FAILED', () => output(job));
    assert.match(
      output(job),
      /Rank 1 \(host \S+, process \d+\) was lost: .*Rank 0 of 2 was .*\(collective \d+, step \d+\)/,
    );
  });

  it('scancel saves, and the job does not come back', async () => {
    const job = submit('cancelled');
    await until(job, /step 1\/\d+/);
    cluster.run('scancel', [job]);
    await cluster.untilState(job, 'CANCELLED', () => output(job));
    await until(job, /Saved checkpoint/);
    assert.equal(cluster.field(job, 'Restarts'), '0');
  });
});
