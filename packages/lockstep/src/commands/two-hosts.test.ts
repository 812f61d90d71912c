/** Training on two hosts with a network between them: the same weights as on one, and what happens when the cable is pulled. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { prepareFewDigits } from '@lockstep/official/data/testing/few-digits';
import { BIN, lockstep, slowDownDisk, start, whyNoMpirun, whyNoSlowDisk } from '../testing/process.js';
import { TwoHosts, whyNoTwoHosts } from '../testing/two-hosts.js';

/** Far more than are made until the cable is pulled. */
const STEPS = 120;

describe('two hosts', { skip: whyNoMpirun() || whyNoTwoHosts() }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-hosts-'));
  let hosts: TwoHosts;
  let data = '';
  const flags = (modelDir: string, ...more: string[]) => [
    'cifar10',
    `--data_dir=${data}`,
    `--model_dir=${join(folder, modelDir)}`,
    ...['--resnet_size=8', '--train_epochs=10', `--max_train_steps=${STEPS}`, '--save_checkpoints_steps=20'],
    ...['--seed=1', '--hooks=', '--progress=plain', '--intra_op_parallelism_threads=1'],
    ...more,
  ];
  const launch = (startSeconds = 20) => {
    const limits = ['--worker_lost_secs=4', '--worker_late_secs=1', `--worker_start_secs=${startSeconds}`];
    const mpirunArgs = `--mpirun_args=--tag-output --mca plm_rsh_agent ${hosts.agent}`;
    const words = ['launch', `--hosts=${hosts.hosts}`, mpirunArgs, '--grace_secs=2', '--start_secs=20', '--'];
    const [program, args] = hosts.command(
      process.execPath,
      BIN,
      ...words,
      ...flags('model', '--batch_size=16', ...limits),
    );
    return start(program, args, { environment: hosts.environment });
  };

  const checkpoints = () =>
    readdirSync(join(folder, 'model')).flatMap((name) => Number(/^ckpt-(\d+)\.safetensors$/.exec(name)?.[1] ?? []));

  before(() => {
    data = prepareFewDigits(join(folder, 'digits'));
    hosts = new TwoHosts(`lockstep-test-${process.pid}`, folder);
  });
  afterEach(() => hosts?.link('up'));
  after(() => {
    hosts?.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  it('each host has its own processors', { skip: cpus().length < 2 && 'one processor cannot be divided' }, () => {
    const half = Math.floor(cpus().length / 2);
    const list = (first: number, last: number) => (first === last ? `${first}` : `${first}-${last}`);
    assert.equal(hosts.processors('a'), list(0, half - 1));
    assert.equal(hosts.processors('b'), list(half, cpus().length - 1));
  });

  it('the cable is pulled: the chief names the rank that is out of reach, and the job ends', async () => {
    const running = launch();
    await running.until(/Saved checkpoint .*ckpt-20\./);
    const pulled = performance.now();
    hosts.link('down');
    const result = await running.result;
    assert.equal(result.status, 1, result.describe());
    assert.match(
      result.ranks[0] as string,
      /Rank 1 \(host host-b, process \d+\) was lost: .*Rank 0 of 2 was .*\(collective \d+, step \d+\)/,
      result.describe(),
    );
    assert.ok(performance.now() - pulled < 60_000, result.describe());
  });

  it('the cable is pulled while the chief saves: the checkpoint is whole all the same', {
    skip: whyNoSlowDisk(),
  }, async () => {
    const before = Math.max(...checkpoints());
    const running = launch();
    await running.until(/Restored step/);
    const slowDisk = slowDownDisk(hosts.ranks().get(0) as number, 10);
    await running.until(/has been waiting in .* Behind: rank 0/);
    hosts.link('down');
    const result = await running.result;
    await slowDisk.result;
    assert.equal(result.status, 1, result.describe());
    assert.match(result.ranks[0] as string, /Saved checkpoint .*Rank 1 \(host host-b, .* was lost/s, result.describe());
    assert.ok(Math.max(...checkpoints()) > before, result.describe());
  });

  it('the cable is pulled while the ranks start: the chief’s limit ends the job', async () => {
    const running = launch();
    const end = performance.now() + 20_000;
    while (hosts.ranks().size < 2 && performance.now() < end) await sleep(5);
    hosts.link('down');
    const pulled = performance.now();
    const result = await running.result;
    assert.notEqual(result.status, 0, result.describe());
    assert.match(result.output, /Open MPI did not start within 20 s|was lost|has not reached every host/);
    assert.ok(performance.now() - pulled < 60_000, result.describe());
  });

  it('the cable is out from the start: the job ends', async () => {
    hosts.link('down');
    const result = await launch().result;
    assert.notEqual(result.status, 0, result.describe());
    assert.ok(result.seconds < 60, result.describe());
  });

  it('the same command goes on, to the weights of one host, bit by bit', async () => {
    const whole = await lockstep(flags('whole', '--batch_size=32', '--num_cpus=2', '--distribution_strategy=mirrored'));
    assert.equal(whole.status, 0, whole.describe());
    // A chief that was killed while the ranks started may have left its lock: the next one watches it for 20 s, and the others wait.
    const result = await launch(60).result;
    assert.equal(result.status, 0, result.describe());
    assert.match(result.output, /Restored step \d+0 from/);
    const read = (modelDir: string) => readFileSync(join(folder, modelDir, `ckpt-${STEPS}.safetensors`));
    assert.ok(read('model').equals(read('whole')), 'the checkpoints differ');
  });
});
