/**
 * What a run does with its model folder: --clean deletes after every check and nothing of anybody else, what is read from a
 * checkpoint is what it should be or is passed over, a run that goes on keeps its seed, one run at a time writes, and
 * evaluation neither waits for it nor makes up figures.
 */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CheckpointManager } from '../utils/checkpoint/checkpoint-manager.js';
import { ModelDirLock } from '../utils/checkpoint/model-dir-lock.js';
import type { StoredTensor, TensorFile } from '../utils/checkpoint/safetensors.js';
import { differences, readCheckpoint, run, writeData } from './testing/run.js';

const folder = mkdtempSync(join(tmpdir(), 'model-dir-'));
const data = join(folder, 'data');
const model = (name: string) => join(folder, name);
const flags = (name: string, ...more: string[]) => [`--data_dir=${data}`, `--model_dir=${model(name)}`, ...more];
const mirrored = ['--num_cpus=2', '--distribution_strategy=mirrored'];
const checkpoints = (name: string) => readdirSync(model(name)).filter((file) => file.startsWith('ckpt-'));
/** A model folder with the checkpoints of steps 5 and 10. */
function copyOfBase(name: string): string {
  rmSync(model(name), { recursive: true, force: true });
  mkdirSync(model(name));
  for (const step of [5, 10])
    copyFileSync(join(model('base'), `ckpt-${step}.safetensors`), join(model(name), `ckpt-${step}.safetensors`));
  return name;
}

before(async () => {
  writeData(data);
  const { status, text } = await run(flags('base', '--train_epochs=2', '--epochs_between_evals=1'));
  assert.equal(status, 0, text);
});
after(() => rmSync(folder, { recursive: true, force: true }));

describe('--clean', () => {
  it('deletes nothing before everything else about the command was checked', async () => {
    for (const [what, ...mistake] of [
      ['hooks', '--hooks=Foo'],
      ['strategy', '--distribution_strategy=foo'],
      ['algorithm', ...mirrored, '--all_reduce_alg=nccl'],
      ['batch', ...mirrored, '--batch_size=3'],
      ['data', '--data_dir=/nonexistent'],
      ['dtype', '--dtype=fp16'],
      ['size', '--resnet_size=21'],
      ['workers', '--worker_hosts=a:1,b:1'],
      ['warm start', '--pretrained_model_checkpoint_path=/nonexistent'],
      ['warm start of another network', `--pretrained_model_checkpoint_path=${model('base')}`, '--resnet_size=14'],
      ['warm start from there', `--pretrained_model_checkpoint_path=${model('mistake')}`],
    ]) {
      copyOfBase('mistake');
      const { status, text } = await run(flags('mistake', '--clean', '--train_epochs=1', ...mistake));
      assert.notEqual(status, 0, `${what}: ${text}`);
      assert.deepEqual(checkpoints('mistake'), ['ckpt-10.safetensors', 'ckpt-5.safetensors'], `${what}: ${text}`);
    }
  });

  it('then deletes what runs wrote, and starts over', async () => {
    copyOfBase('cleaned');
    truncateSync(join(model('cleaned'), 'ckpt-10.safetensors'), 200);
    const { status, text } = await run(flags('cleaned', '--clean', '--train_epochs=1'));
    assert.equal(status, 0, text);
    assert.match(text, /^--clean flag set\. Removing existing model dir: /m);
    assert.doesNotMatch(text, /Restored|passed over/);
    assert.deepEqual(checkpoints('cleaned'), ['ckpt-5.safetensors']);
    assert.deepEqual(differences(readCheckpoint(model('cleaned'), 5), readCheckpoint(model('base'), 5)), []);
  });

  it('does not take a folder for its own because of names', async () => {
    mkdirSync(model('theirs'));
    writeFileSync(join(model('theirs'), 'somebody-elses-model.safetensors'), 'weights');
    const { status, text } = await run(flags('theirs', '--clean', '--train_epochs=1'));
    assert.equal(status, 1, text);
    assert.deepEqual(readdirSync(model('theirs')), ['somebody-elses-model.safetensors']);
  });
});

describe('a run that goes on', () => {
  it('keeps the seed that it began with, and says so; another --seed is said', async () => {
    const first = await run(flags('seed', '--train_epochs=2', '--max_train_steps=3'), { seed: null });
    const seed = first.result!.seed;
    assert.match(first.text, new RegExp(`^seed ${seed} \\(drawn`, 'm'));
    const second = await run(flags('seed', '--train_epochs=2'), { seed: null });
    assert.equal(second.result?.seed, seed, second.text);
    assert.match(second.text, new RegExp(`^seed ${seed} \\(of the checkpoint that this run goes on from\\)$`, 'm'));
    // What it would have been without a stop.
    await run(flags('seed-whole', '--train_epochs=2'), { seed });
    assert.deepEqual(differences(readCheckpoint(model('seed'), 10), readCheckpoint(model('seed-whole'), 10)), []);
    const other = await run(flags('seed', '--train_epochs=3'), { seed: (seed + 1) % 2 ** 32 });
    assert.match(
      other.text,
      new RegExp(`^warning: --seed=\\d+ is not the seed of .*ckpt-10\\.safetensors, which is ${seed}: `, 'm'),
    );
  });

  it('passes over what no run can go on from', async () => {
    const good = readCheckpoint(model('base'), 10);
    const save = (metadata: Record<string, string | undefined>, step = 10) => {
      const texts = Object.entries({ ...good.metadata, ...metadata }).filter(([, text]) => text !== undefined);
      new CheckpointManager(model('edited')).save(step, {
        ...good,
        metadata: Object.fromEntries(texts) as Record<string, string>,
      });
    };
    for (const [metadata, reason] of [
      [{ format: undefined }, /has nothing for format in its metadata/],
      [{ format: 'pt' }, /has 'pt' for format/],
      [{ global_step: undefined }, /has nothing for global_step/],
      [{ global_step: 'ten' }, /has 'ten' for global_step in its metadata, which is to be a whole number from 0/],
      [{ global_step: '-10' }, /has '-10' for global_step/],
      [{ global_step: '1e1' }, /has '1e1' for global_step/],
      [{ global_step: '9' }, /is of step 9 by its metadata, and of step 10 by its name/],
      [{ epochs: '1.5' }, /has '1\.5' for epochs/],
      [{ step: ' 3' }, /has ' 3' for step/],
      [{ step: '3' }, /has step 3 of a train call of 0 epochs/],
      [{ batch_size: '0' }, /has '0' for batch_size/],
      [{ seed: '4294967296' }, /has '4294967296' for seed .* from 0 to 4294967295/],
      [{ seed: 'x\u001b[2J' }, /has 'x\\u\{1b\}\[2J' for seed/],
      [{ resnet_version: '3' }, /has '3' for resnet_version/],
      [{ fine_tune: 'maybe' }, /has 'maybe' for fine_tune/],
      [{ current_loss_scale: 'NaN', good_steps: '1' }, /has 'NaN' for current_loss_scale and '1' for good_steps/],
      [{ current_loss_scale: '2' }, /has '2' for current_loss_scale and nothing for good_steps/],
    ] as const) {
      copyOfBase('edited');
      save(metadata);
      const { status, text } = await run(flags('edited', '--eval_only'));
      assert.equal(status, 0, text);
      assert.match(text, reason);
      assert.match(text, /^Evaluation at step 5: /m);
    }
    // A copy under a higher number would be taken for the newest for ever.
    copyOfBase('edited');
    copyFileSync(join(model('edited'), 'ckpt-5.safetensors'), join(model('edited'), 'ckpt-500.safetensors'));
    const { text, result } = await run(flags('edited', '--train_epochs=2'));
    assert.match(text, /ckpt-500\.safetensors is of step 5 by its metadata/);
    assert.equal(result?.globalStep, 10);
  });

  it('refuses tensors of another shape or dtype, also with the right number of elements', async () => {
    const good = readCheckpoint(model('base'), 10);
    const name = 'resnet_model/dense/kernel';
    const { shape, values } = good.tensors[name]!;
    for (const [tensor, reason] of [
      [
        { shape: [...shape].reverse(), values },
        /has shape \[10,64\] for resnet_model\/dense\/kernel, expected \[64,10\]/,
      ],
      [{ shape: [640], values }, /has shape \[640\] for/],
      [{ shape, values: new Int32Array(640) }, /has dtype I32 for resnet_model\/dense\/kernel, expected F32/],
      [{ shape: [1], values: new Float32Array(1) }, /has 1 elements for .*, expected 640/],
    ] as [StoredTensor, RegExp][]) {
      copyOfBase('shapes');
      new CheckpointManager(model('shapes')).save(10, { ...good, tensors: { ...good.tensors, [name]: tensor } });
      for (const more of [['--eval_only'], ['--train_epochs=3']]) {
        const { status, text } = await run(flags('shapes', ...more));
        assert.equal(status, 1, text);
        assert.match(text, reason);
      }
    }
  });

  it('with nothing whole: training says that it starts over, and keeps what it saves; evaluation is an error', async () => {
    for (const spoil of [
      (path: string) => truncateSync(path, 0),
      (path: string) => truncateSync(path, 9000),
      (path: string) => {
        rmSync(path);
        mkdirSync(path);
      },
      (path: string) => {
        rmSync(path);
        symlinkSync('/nowhere', path);
      },
    ]) {
      copyOfBase('none');
      for (const file of checkpoints('none')) spoil(join(model('none'), file));
      const evaluated = await run(flags('none', '--eval_only'));
      assert.equal(evaluated.status, 1, evaluated.text);
      assert.match(evaluated.text, /There is no whole checkpoint in .*none, so there is nothing to evaluate\.\nhelp: /);
      assert.doesNotMatch(evaluated.text, /^Evaluation/m);
      const { status, text } = await run(
        flags('none', '--train_epochs=1', '--keep_checkpoint_max=1', '--save_checkpoints_steps=2'),
      );
      assert.equal(status, 0, text);
      assert.match(text, /^warning: there is no whole checkpoint in .*none: training starts over at step 0\.$/m);
      assert.equal(new CheckpointManager(model('none'), { warn() {} }).latest()?.step, 5);
    }
  });
});

describe('two runs in one folder', () => {
  it('the second one is refused, and changes nothing; evaluation is not', async () => {
    copyOfBase('shared');
    const lock = await ModelDirLock.acquire(model('shared'));
    try {
      for (const more of [['--train_epochs=3'], ['--train_epochs=3', '--clean'], ['--eval_only', '--clean']]) {
        const { status, text } = await run(flags('shared', ...more));
        assert.equal(status, 1, text);
        assert.match(text, /--model_dir=.*shared is in use by another run: process \d+ on host '.*', since .*\nhelp: /);
        assert.deepEqual(checkpoints('shared'), ['ckpt-10.safetensors', 'ckpt-5.safetensors']);
      }
      const evaluated = await run(flags('shared', '--eval_only'));
      assert.equal(evaluated.status, 0, evaluated.text);
    } finally {
      lock.release();
    }
    const { status, text } = await run(flags('shared', '--train_epochs=3'));
    assert.equal(status, 0, text);
    assert.ok(!existsSync(join(model('shared'), '.lockstep-lock')));
  });
});

describe('numbers that are not finite', () => {
  it('are not evaluated', async () => {
    const good = readCheckpoint(model('base'), 10);
    for (const [name, value] of [
      ['resnet_model/conv2d/kernel', Number.NaN],
      ['resnet_model/batch_normalization/moving_variance', Number.POSITIVE_INFINITY],
      ['resnet_model/dense/bias', Number.NEGATIVE_INFINITY],
    ] as const) {
      copyOfBase('nan');
      const values = (good.tensors[name]!.values as Float32Array).slice().fill(value, 1, 2);
      const file: TensorFile = { ...good, tensors: { ...good.tensors, [name]: { ...good.tensors[name]!, values } } };
      new CheckpointManager(model('nan')).save(10, file);
      for (const more of [['--eval_only'], ['--train_epochs=2']]) {
        const { status, text } = await run(flags('nan', ...more));
        assert.equal(status, 1, text);
        assert.match(
          text,
          new RegExp(`ckpt-10\\.safetensors has ${value} in ${name}: there is nothing to evaluate\\.\\nhelp: `),
        );
        assert.doesNotMatch(text, /^Evaluation at/m);
      }
    }
    // Finite weights whose logits overflow.
    const values = new Float32Array(640).fill(3e38);
    const tensors = { ...good.tensors, 'resnet_model/dense/kernel': { shape: [64, 10], values } };
    new CheckpointManager(model('nan')).save(10, { ...good, tensors });
    const { status, text } = await run(flags('nan', '--eval_only'));
    assert.equal(status, 1, text);
    assert.match(text, /The loss of the evaluation at step 10 is (NaN|Infinity)/);
  });
});

describe('told to stop', () => {
  for (const [what, more] of [
    ['one replica', []],
    ['two replicas', mirrored],
  ] as const) {
    it(`evaluation ends between batches, and gives no figures: ${what}`, async () => {
      const controller = new AbortController();
      const { status, text, result } = await run(
        [
          '--use_synthetic_data',
          '--eval_only',
          '--batch_size=16',
          '--max_train_steps=1000000',
          `--model_dir=${model('evaluation')}`,
          ...more,
        ],
        { signal: controller.signal },
        (line) => line.includes('Starting to evaluate') && controller.abort(new Error('Interrupted.')),
      );
      assert.equal(status, 130, text);
      assert.equal(result?.evaluation, null);
      assert.doesNotMatch(text, /^Evaluation at/m);
    });
  }

  it('after evaluations of which replicas had unequal parts, all stop at the same step', async () => {
    // Five pieces of 64 images for two replicas.
    const many = join(folder, 'many');
    writeData(many);
    const record = readFileSync(join(many, 'test_batch.bin'));
    writeFileSync(join(many, 'test_batch.bin'), Buffer.concat(Array(20).fill(record)));
    const controller = new AbortController();
    const { status, text, result } = await run(
      [
        `--data_dir=${many}`,
        `--model_dir=${model('unequal')}`,
        '--train_epochs=400',
        '--epochs_between_evals=1',
        ...mirrored,
      ],
      { signal: controller.signal },
      (line) => line.includes('Evaluation at step 10:') && controller.abort(new Error('Interrupted.')),
    );
    assert.equal(status, 130, text);
    const steps = new Set(result!.replicaResults.map(({ globalStep }) => globalStep));
    assert.equal(steps.size, 1);
    assert.match(text, new RegExp(`Saved checkpoint .*ckpt-${[...steps][0]}\\.safetensors`));
  });

  it('before the first step there is nothing to save: the status is that of an interrupted run all the same', async () => {
    const { status, text } = await run(flags('early', '--train_epochs=1'), {
      signal: AbortSignal.abort(new Error('Interrupted.')),
    });
    assert.equal(status, 130, text);
    assert.deepEqual(checkpoints('early'), []);
  });
});
