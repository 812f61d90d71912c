/** `lockstep cifar10` with parameter servers under real mpirun: against one device, and going on from a checkpoint. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { prepareDigits } from '@lockstep/official/data/digits';
import { lockstep, mpirun, whyNoMpirun } from '../testing/process.js';

describe('lockstep cifar10 with parameter servers', { skip: whyNoMpirun() }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-servers-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  let data = '';
  before(() => {
    data = prepareDigits(join(folder, 'digits'));
  });
  const flags = (modelDir: string, steps: number, ...more: string[]) => [
    'cifar10',
    `--data_dir=${data}`,
    `--model_dir=${join(folder, modelDir)}`,
    ...['--resnet_size=8', '--train_epochs=1', `--max_train_steps=${steps}`, '--batch_size=16', '--seed=1'],
    ...['--hooks=', '--progress=plain', '--intra_op_parallelism_threads=1'],
    ...more,
  ];
  const environment = { LOCKSTEP_NUM_PS: '1' };
  const strategy = '--distribution_strategy=parameter_server';

  it('one worker and one server train bit by bit what one device trains, over a restart', async () => {
    for (const steps of [4, 7]) {
      const alone = await lockstep(flags('alone', steps));
      assert.equal(alone.status, 0, alone.describe());
      const served = await mpirun(2, flags('served', steps, strategy), { environment });
      assert.equal(served.status, 0, served.describe());
      assert.match(served.output, /updates old on average, 0 at most/);
    }
    const read = (modelDir: string) => readFileSync(join(folder, modelDir, 'ckpt-7.safetensors'));
    assert.ok(read('served').equals(read('alone')), 'the checkpoints differ');
  });

  it('every worker makes its own steps, and goes on where the chief’s checkpoint stands', async () => {
    const first = await mpirun(3, flags('two', 5, strategy), { environment });
    assert.equal(first.status, 0, first.describe());
    assert.match(first.output, /made 10 updates \(worker 0 5, worker 1 5\)/, first.describe());
    const second = await mpirun(3, flags('two', 8, strategy), { environment });
    assert.equal(second.status, 0, second.describe());
    assert.match(second.output, /Restored step 5 from/);
    assert.match(second.output, /made 6 updates \(worker 0 3, worker 1 3\)/, second.describe());
  });

  it('two workers and a server learn the digits, and what the chief saves evaluates alike on one device', async () => {
    const more = ['--train_epochs=3', '--epochs_between_evals=3', '--batch_size=32', '--random_flip=false'];
    const trained = await mpirun(3, flags('digits', 1_000_000, strategy, ...more), { environment, limitSeconds: 180 });
    assert.equal(trained.status, 0, trained.describe());
    const evaluation = /Evaluation at step \d+: accuracy ([\d.]+) %.*/;
    const [line, accuracy] = evaluation.exec(trained.output) as unknown as [string, string];
    // About 96 is usual; guessing gives 10.
    assert.ok(Number(accuracy) > 90, trained.describe());
    const alone = await lockstep(flags('digits', 1_000_000, '--eval_only', '--batch_size=32'));
    assert.equal(alone.status, 0, alone.describe());
    assert.ok(alone.output.includes(line), `${line}\n${alone.describe()}`);
  });

  it('needs a server, in upstream’s words', async () => {
    const result = await mpirun(2, flags('none', 2, strategy));
    assert.notEqual(result.status, 0);
    assert.match(result.output, /The cluster spec needs to have `ps` jobs\./, result.describe());
  });
});
