/** `lockstep launch` on this machine: the line that it composes, exit status, restarts from the last checkpoint, Ctrl-C. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { prepareFewDigits } from '@lockstep/official/data/testing/few-digits';
import { BIN, lockstep, ranksOf, start, whyNoMpirun } from '../testing/process.js';
import { composeCommand } from './launch.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-launch-'));
after(() => rmSync(folder, { recursive: true, force: true }));

describe('lockstep launch composes', () => {
  const line = async (...args: string[]) => {
    const result = await lockstep(['launch', '--dry_run', ...args]);
    assert.equal(result.status, 0, result.describe());
    return result.output;
  };

  it('hosts, slots, the grace, and this very program', async () => {
    const text = await line('--hosts', 'a:2,b:2', '--', 'cifar10', '--batch_size=64');
    assert.match(text, /^mpirun -np 4 --host a:2,b:2 /);
    assert.match(text, / --mca odls_base_sigkill_timeout 1 /);
    assert.ok(text.endsWith(` ${process.execPath} ${BIN} cifar10 --batch_size=64\n`), text);
    assert.equal(/--allow-run-as-root/.test(text), process.getuid?.() === 0);
  });

  it('parameter servers, and their strategy unless one is named', async () => {
    const text = await line('--hosts=a:2,b:2', '--ps', '1', '--', 'cifar10');
    assert.match(text, / -x LOCKSTEP_NUM_PS=1 .* cifar10 --distribution_strategy=parameter_server\n$/);
    const named = await line('--hosts=a:3', '--ps=1', '--', 'cifar10', '--ds=parameter_server');
    assert.match(named, / cifar10 --ds=parameter_server\n$/);
  });

  it('a program of one’s own, further arguments of mpirun', async () => {
    const text = await line('--mpirun_args=--mca btl_tcp_if_include eth0', '--', 'node', 'train.js', '--x=1 2');
    assert.match(text, /^mpirun -np 2 --oversubscribe .*--mca btl_tcp_if_include eth0 node train.js '--x=1 2'\n$/);
  });

  it('for another try a line that deletes nothing, wherever --clean stands', () => {
    const options = {
      hosts: [{ name: 'localhost', slots: 2 }],
      parameterServers: 0,
      maxRestarts: 1,
      graceSeconds: 5,
      startSeconds: 120,
      mpirunArgs: [],
      dryRun: false,
    };
    const again = (...command: string[]) => composeCommand({ ...options, command }, true).join(' ');
    for (const typed of ['--clean', '--clean=true', '-clean=1']) {
      assert.match(again('cifar10', typed, '--seed=1'), / cifar10 --seed=1 --noclean$/);
    }
    // Not seen from here: a flag file that has it, and `start`, which has it by itself.
    assert.match(again('cifar10', '--flagfile=f'), / cifar10 --flagfile=f --noclean$/);
    assert.match(again('start'), / start --noclean$/);
    assert.match(again('node', 'train.js'), / node train\.js$/);
  });

  it('refuses what cannot be', async () => {
    const refuse = async (pattern: RegExp, ...args: string[]) => {
      const result = await lockstep(['launch', ...args]);
      assert.equal(result.status, 2, result.describe());
      assert.match(result.output, pattern);
    };
    await refuse(/there is nothing to run after --/, '--hosts=a:2');
    await refuse(/flag --hosts=a b: .*is not a host/, '--hosts=a b', '--', 'cifar10');
    await refuse(/flag --hosts=-oProxyCommand=x: .*is not a host/, '--hosts=-oProxyCommand=x', '--', 'cifar10');
    await refuse(
      /^flag --hostfile=\/nowhere: .*cannot be read: it is not there/m,
      '--hostfile=/nowhere',
      '--',
      'cifar10',
    );
    await refuse(/flag --ps=2: the hosts have 2 slots/, '--ps=2', '--', 'cifar10');
  });
});

describe('lockstep launch runs', { skip: whyNoMpirun() }, () => {
  let data = '';
  const job = (modelDir: string, ...more: string[]) => [
    'cifar10',
    `--data_dir=${data}`,
    `--model_dir=${join(folder, modelDir)}`,
    ...['--resnet_size=8', '--train_epochs=1', '--batch_size=16', '--seed=1', '--hooks=', '--progress=plain'],
    '--intra_op_parallelism_threads=1',
    ...more,
  ];
  const checkpoints = (modelDir: string) =>
    readdirSync(join(folder, modelDir)).filter((name) => name.endsWith('.safetensors'));

  before(() => {
    data = prepareFewDigits(join(folder, 'digits'));
  });

  it('starts the job again when a rank is killed, from the last checkpoint, without --clean', async () => {
    const command = job(
      'restarted',
      '--max_train_steps=120',
      '--train_epochs=20',
      '--save_checkpoints_steps=10',
      '--clean',
    );
    const running = start(process.execPath, [BIN, 'launch', '--max_restarts=2', '--grace_secs=2', '--', ...command]);
    await running.until(/Saved checkpoint .*ckpt-20/);
    const [launcher] = childrenOf(running.child.pid as number);
    process.kill(ranksOf(launcher as number).get(1) as number, 'SIGKILL');
    const result = await running.result;
    assert.equal(result.status, 0, result.describe());
    assert.match(result.output, /Rank 1 \(host .*was lost: .*Rank 0 of 2 was /, result.describe());
    assert.match(result.output, /lockstep launch: the job failed with exit status \d+; restart 1 of 2 follows\./);
    assert.match(result.output, /Restored step \d+0 from /);
    assert.equal([...result.output.matchAll(/--clean flag set|--clean\b/g)].length, 1, 'only the first command cleans');
    assert.ok(checkpoints('restarted').includes('ckpt-120.safetensors'), result.describe());
  });

  it('killed itself: mpirun has everybody save and end, and nothing stays in /dev/shm', async () => {
    const command = job('orphans', '--train_epochs=200', '--save_checkpoints_steps=10');
    const running = start(process.execPath, [BIN, 'launch', '--', ...command]);
    await running.until(/Saved checkpoint .*ckpt-20/);
    const [launcher] = childrenOf(running.child.pid as number);
    const ranks = [...ranksOf(launcher as number).values()];
    assert.equal(ranks.length, 2);
    const isOfJob = segmentsOf(ranks[0] as number);
    assert.equal(readdirSync('/dev/shm').filter(isOfJob).length, 2);
    process.kill(running.child.pid as number, 'SIGKILL');
    const isThere = (pid: number) => existsSync(`/proc/${pid}/exe`);
    const end = performance.now() + 60_000;
    while ([launcher as number, ...ranks].some(isThere)) {
      assert.ok(performance.now() < end, `still there after 60 s: ${[launcher, ...ranks]}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.deepEqual(readdirSync('/dev/shm').filter(isOfJob), []);
    // The last one is of the step in which they were told, and not of the interval.
    const steps = checkpoints('orphans').map((name) => Number(/\d+/.exec(name)?.[0]));
    assert.ok(Math.max(...steps) > 20 && steps.some((step) => step % 10 !== 0), `${steps}`);
  });

  it('a rank is killed: nothing of the job stays in /dev/shm', async () => {
    const running = start(process.execPath, [BIN, 'launch', '--', ...job('segments', '--train_epochs=200')]);
    await running.until(/step \d/);
    const [launcher] = childrenOf(running.child.pid as number);
    const ranks = ranksOf(launcher as number);
    const isOfJob = segmentsOf(ranks.get(0) as number);
    const own = () => readdirSync('/dev/shm').filter(isOfJob);
    assert.equal(own().length, 2, 'Open MPI keeps its files elsewhere; then this test says nothing');
    process.kill(ranks.get(1) as number, 'SIGKILL');
    const result = await running.result;
    assert.notEqual(result.status, 0);
    assert.deepEqual(own(), [], result.describe());
  });

  it('parameter servers: a worker that dies does not stop the others, and the status is the chief’s', async () => {
    const command = job('servers', '--max_train_steps=40', '--save_checkpoints_steps=10', '--worker_lost_secs=5');
    const running = start(process.execPath, [BIN, 'launch', '--hosts=localhost:3', '--ps=1', '--', ...command]);
    await running.until(/Saved checkpoint .*ckpt-10/);
    const [launcher] = childrenOf(running.child.pid as number);
    process.kill(ranksOf(launcher as number).get(1) as number, 'SIGKILL');
    const result = await running.result;
    assert.equal(result.status, 0, result.describe());
    assert.match(result.output, /rank 1 \(host .*was lost: the other workers go on without it/, result.describe());
    assert.match(result.output, /made \d+ updates, .*; 1 worker was lost on the way/, result.describe());
    assert.ok(checkpoints('servers').includes('ckpt-40.safetensors'));
    assert.ok(!result.output.includes('lockstep-status'), 'the marked line is taken out');
  });

  it('gives up with the job’s status; bad flags are not tried again', async () => {
    const failing = ['launch', '--max_restarts=1', '--grace_secs=1', '--', 'sh', '-c', 'exit 3'];
    const result = await lockstep(failing);
    assert.equal(result.status, 3, result.describe());
    assert.equal([...result.output.matchAll(/^lockstep launch: mpirun /gm)].length, 2);
    assert.match(result.output, /--max_restarts=1 is used up/);
    const bad = await lockstep(['launch', '--max_restarts=5', '--grace_secs=1', '--', 'cifar10', '--batch_sise=3']);
    assert.equal(bad.status, 2, bad.describe());
    assert.equal([...bad.output.matchAll(/^lockstep launch: mpirun /gm)].length, 1, bad.describe());
  });

  it('says how mpirun is installed where it is not, and waits for nothing', async () => {
    const result = await lockstep(['launch', '--', 'cifar10'], { environment: { PATH: folder } });
    assert.equal(result.status, 127, result.describe());
    assert.match(result.output, /mpirun was not found\.\nhelp: .*apt-get install openmpi-bin/);
    assert.ok(result.seconds < 60, result.describe());
  });

  it('a host that does not answer: says so after --start_secs, and tries again as often as it may', async () => {
    // Stands for ssh to a machine that takes the connection and says nothing.
    const agent = join(folder, 'silent-agent.sh');
    writeFileSync(agent, '#!/bin/sh\nexec sleep 600\n');
    chmodSync(agent, 0o755);
    const flags = [`--hosts=${hostname()}:1,elsewhere:1`, `--mpirun_args=--mca plm_rsh_agent ${agent}`];
    const began = performance.now();
    const result = await lockstep(['launch', ...flags, '--start_secs=3', '--max_restarts=1', '--', ...job('nowhere')]);
    assert.equal(result.status, 1, result.describe());
    assert.equal([...result.output.matchAll(/no process of the job has begun within 3 s.*elsewhere/g)].length, 2);
    assert.ok(performance.now() - began < 60_000, result.describe());
  });

  for (const signal of ['SIGINT', 'SIGHUP'] as const) {
    it(`${signal === 'SIGINT' ? 'Ctrl-C' : 'a terminal that closes'}: every rank stops at the same step, the chief saves, no restart`, async () => {
      const name = `stopped-${signal}`;
      const command = job(name, '--max_train_steps=100000', '--train_epochs=400');
      const running = start(process.execPath, [BIN, 'launch', '--max_restarts=5', '--grace_secs=1', '--', ...command]);
      await running.until(/step 1\//);
      running.child.kill(signal);
      const result = await running.result;
      assert.equal(result.status, 130, result.describe());
      assert.equal(checkpoints(name).length, 1, result.describe());
      assert.equal([...result.output.matchAll(/^lockstep launch: mpirun /gm)].length, 1);
    });
  }

  it('one Ctrl-C that npx hands on as well is one: a step that takes longer than mpirun’s grace is finished and saved', async () => {
    // TensorFlow.js' own kernels: some seconds for a step.
    const command = job('handed-on', '--max_train_steps=1000', '--backend=cpu', '--batch_size=2');
    const running = start(process.execPath, [BIN, 'launch', '--grace_secs=1', '--', ...command], { limitSeconds: 200 });
    await running.until(/Starting cycle/);
    running.child.kill('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 50));
    running.child.kill('SIGINT');
    const result = await running.result;
    assert.equal(result.status, 130, result.describe());
    assert.equal(checkpoints('handed-on').length, 1, result.describe());
  });
});

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
  );
}

/** Tells the files in /dev/shm of one job of Open MPI 4 from those of jobs beside it. @param pid of one of its ranks */
function segmentsOf(pid: number): (name: string) => boolean {
  const job = /(?:^|\0)PMIX_NAMESPACE=(\d+)/.exec(readFileSync(`/proc/${pid}/environ`, 'utf8'))?.[1];
  // 'vader_segment.HOST.USER.JOB.RANK'
  return (name) => name.startsWith('vader_segment.') && name.split('.').at(-2) === Number(job).toString(16);
}
