/**
 * Runs with checkpoints in TensorFlow's format: the same bits as with safetensors, in one piece or resumed, whichever of the formats the
 * parts were saved in; warm starts from every way to name one; and checkpoints as TensorFlow itself leaves them, without any metadata.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { StoredTensor } from '../utils/checkpoint/safetensors.js';
import { TensorBundle } from '../utils/checkpoint/tensorflow/bundle-reader.js';
import { encodeBundle, type NewTensor } from '../utils/checkpoint/tensorflow/bundle-writer.js';
import { readRun } from './replica/run-state.js';
import { differences, run, type TestRun, writeData } from './testing/run.js';

const folder = mkdtempSync(join(tmpdir(), 'tensorflow-checkpoint-'));
const data = join(folder, 'data');
const model = (name: string) => join(folder, name);
const flags = (name: string, ...more: string[]) => [`--data_dir=${data}`, `--model_dir=${model(name)}`, ...more];
const TENSORFLOW = '--checkpoint_format=tensorflow';
const files = (name: string) => readdirSync(model(name)).filter((file) => /^(model\.)?ckpt/.test(file));

async function good(argv: readonly string[], options: Parameters<typeof run>[1] = {}): Promise<TestRun> {
  const result = await run(argv, options);
  assert.equal(result.status, 0, result.text);
  return result;
}

/** What TensorFlow would have left after the steps of `name`: its variables and their slots, and nothing of ours. */
function asForeign(name: string, keep: (tensor: string) => boolean = () => true): string {
  const target = model(`foreign-${readdirSync(folder).length}`);
  mkdirSync(target);
  const bundle = new TensorBundle(join(model(name), 'model.ckpt-10'));
  const tensors = [...bundle.tensors.values()]
    .filter((tensor) => tensor.name !== 'lockstep_metadata' && keep(tensor.name))
    .map(
      (tensor): NewTensor => ({
        ...tensor,
        dtype: tensor.dtype.name,
        values: bundle.read(tensor.name) as Float32Array,
      }),
    );
  const { data: bytes, index } = encodeBundle(tensors);
  writeFileSync(join(target, 'model.ckpt-10.data-00000-of-00001'), Buffer.concat([...bytes]));
  writeFileSync(join(target, 'model.ckpt-10.index'), index);
  writeFileSync(
    join(target, 'checkpoint'),
    'model_checkpoint_path: "model.ckpt-10"\nall_model_checkpoint_paths: "model.ckpt-10"\n',
  );
  writeFileSync(join(target, 'model.ckpt-10.meta'), 'a graph');
  return target;
}

before(async () => {
  writeData(data);
  await good(flags('plain', '--train_epochs=4', '--epochs_between_evals=2'));
  await good(flags('base', '--train_epochs=2', '--epochs_between_evals=2', TENSORFLOW));
});
after(() => rmSync(folder, { recursive: true, force: true }));

describe('--checkpoint_format=tensorflow', () => {
  it('writes what TensorFlow looks for, and what a run needs besides', () => {
    assert.deepEqual(files('base'), ['model.ckpt-10.data-00000-of-00001', 'model.ckpt-10.index']);
    assert.match(readFileSync(join(model('base'), 'checkpoint'), 'utf8'), /^model_checkpoint_path: "model\.ckpt-10"\n/);
    const bundle = new TensorBundle(join(model('base'), 'model.ckpt-10'));
    assert.deepEqual(bundle.read('global_step'), BigInt64Array.of(10n));
    assert.deepEqual(bundle.tensors.get('resnet_model/conv2d/kernel/Momentum')?.shape, [3, 3, 3, 16]);
    assert.equal(bundle.tensors.size, 32 + 32 + 20 + 2);
  });

  for (const [what, first, second] of [
    ['in TensorFlow’s format all the way', [TENSORFLOW], [TENSORFLOW]],
    ['begun in it, and gone on with as safetensors', [TENSORFLOW], []],
    ['begun as safetensors, and gone on with in it', [], [TENSORFLOW]],
  ] as const) {
    it(`a run that is stopped and resumed gives the bits of one that was not: ${what}`, async () => {
      const name = `parts-${first.length}${second.length}`;
      // Within a call, and at the end of one.
      for (const step of [7, 10]) {
        await good(flags(name, '--train_epochs=4', '--epochs_between_evals=2', `--max_train_steps=${step}`, ...first));
      }
      const { text } = await good(flags(name, '--train_epochs=4', '--epochs_between_evals=2', ...second), {
        seed: null,
      });
      assert.match(
        text,
        first.length > 0
          ? /^Restored step 10 from .*model\.ckpt-10\.index$/m
          : /^Restored step 10 from .*\.safetensors$/m,
      );
      const [whole, parts] = [readRun(model('plain')), readRun(model(name))];
      assert.match(parts.path, second.length > 0 ? /model\.ckpt-20\.index$/ : /ckpt-20\.safetensors$/);
      assert.deepEqual(differences(whole, parts), []);
      const { sha256: _, ...metadata } = whole.metadata;
      assert.equal(metadata.updates, '20');
      assert.deepEqual({ ...parts.metadata, sha256: undefined }, { ...metadata, sha256: undefined });
    });
  }

  it('the newest of both formats is evaluated, to the same figures', async () => {
    const figures = [];
    for (const name of ['plain', 'parts-11', 'parts-10', 'parts-01']) {
      const { result } = await good(flags(name, '--eval_only'));
      assert.equal(result?.globalStep, 20);
      figures.push([result?.evaluation?.accuracy, result?.evaluation?.loss]);
    }
    assert.deepEqual(new Set(figures.map(String)).size, 1, String(figures));
  });

  it('--clean deletes both formats, and --keep_checkpoint_max counts both', async () => {
    const steps = ['--train_epochs=1', '--save_checkpoints_steps=1', '--keep_checkpoint_max=2'];
    await good(flags('parts-11', ...steps, '--clean', TENSORFLOW));
    assert.deepEqual(
      files('parts-11').filter((one) => one.endsWith('.index')),
      ['model.ckpt-4.index', 'model.ckpt-5.index'],
    );
    await good(flags('parts-11', '--train_epochs=2', ...steps.slice(1)));
    assert.deepEqual(files('parts-11'), ['ckpt-10.safetensors', 'ckpt-9.safetensors']);
    await good(flags('parts-11', '--train_epochs=1', '--clean'));
    assert.deepEqual(files('parts-11'), ['ckpt-5.safetensors']);
  });

  it('is resumed with a dynamic loss scale', async () => {
    const dynamic = ['--loss_scale=dynamic', TENSORFLOW];
    await good(flags('scale', '--train_epochs=1', ...dynamic));
    await good(flags('scale', '--train_epochs=2', ...dynamic));
    const { current_loss_scale: scale, good_steps: steps, updates } = readRun(model('scale')).metadata;
    assert.deepEqual([scale, steps, updates], ['32768', '10', '10']);
  });
});

describe('a warm start from a checkpoint in TensorFlow’s format', () => {
  const isDense = (name: string) => name.includes('dense');

  it('takes everything but the dense layer, however the checkpoint is named', async () => {
    const foreign = asForeign('base', (name) => !name.endsWith('/Momentum') && name !== 'global_step');
    const results: Record<string, StoredTensor>[] = [];
    for (const [i, from] of [
      model('base'),
      join(model('base'), 'model.ckpt-10'),
      join(model('base'), 'model.ckpt-10.index'),
      foreign,
      join(foreign, 'model.ckpt-10'),
    ].entries()) {
      const name = `warm-${i}`;
      const { text } = await good(
        flags(
          name,
          `--pretrained_model_checkpoint_path=${from}`,
          '--fine_tune',
          '--train_epochs=1',
          '--batch_norm_decay=0',
        ),
      );
      assert.match(text, /^Everything but the dense layer is initialized from .*model\.ckpt-10\.index$/m);
      results.push({ ...readRun(model(name)).tensors });
    }
    const [first] = results as [Record<string, StoredTensor>];
    const base = readRun(model('base')).tensors;
    // Only the dense layer was trained: the others' weights are the checkpoint's.
    const weights = Object.keys(first).filter((name) => !/momentum|moving/.test(name));
    assert.equal(weights.length, 32);
    for (const name of weights) {
      const isSame = differences(
        { tensors: { [name]: first[name]! }, metadata: {} },
        { tensors: { [name]: base[name]! }, metadata: {} },
      );
      assert.deepEqual(isSame, isDense(name) ? [name] : []);
    }
    for (const other of results)
      assert.deepEqual(differences({ tensors: first, metadata: {} }, { tensors: other, metadata: {} }), []);
  });

  it('of another size or version names the first variable that differs', async () => {
    for (const [more, pattern] of [
      [
        ['--resnet_size=14'],
        /model\.ckpt-10\.index has 512 elements for resnet_model\/conv2d_4\/kernel, expected 2304\.\nhelp: /,
      ],
      [
        ['--resnet_version=2'],
        /model\.ckpt-10\.index has 16 elements for resnet_model\/batch_normalization_3\/gamma, expected 32\.\nhelp: /,
      ],
    ] as const) {
      const { status, text } = await run(
        flags('other', `--pretrained_model_checkpoint_path=${model('base')}`, '--train_epochs=1', ...more),
      );
      assert.equal(status, 1, text);
      assert.match(text, pattern);
    }
  });
});

describe('a model folder of TensorFlow’s own', () => {
  it('is evaluated to the figures of the same weights', async () => {
    const { result: expected } = await good(flags('base', '--eval_only'));
    const foreign = asForeign('base', (name) => !name.endsWith('/Momentum'));
    const { result, text } = await good([`--data_dir=${data}`, `--model_dir=${foreign}`, '--eval_only'], {
      seed: null,
    });
    assert.match(text, /^Restored step 10 from .*model\.ckpt-10\.index$/m);
    assert.deepEqual(result?.evaluation, expected?.evaluation);
  });

  it('is trained on with its momenta from the epoch that its steps make, and its files stay', async () => {
    const foreign = asForeign('base');
    const before = readFileSync(join(foreign, 'model.ckpt-10.index'));
    const train = [
      `--data_dir=${data}`,
      `--model_dir=${foreign}`,
      '--train_epochs=4',
      '--epochs_between_evals=2',
      TENSORFLOW,
    ];
    const { text, result } = await good([...train, '--keep_checkpoint_max=1']);
    assert.match(text, /as many as its steps make are over, 2\./);
    assert.equal(result?.globalStep, 20);
    // The batches are those of epochs 3 and 4 here as well, so that it is the run that was never stopped.
    assert.deepEqual(differences(readRun(model('plain')), readRun(foreign)), []);
    assert.deepEqual(readFileSync(join(foreign, 'model.ckpt-10.index')), before);
    assert.ok(readdirSync(foreign).includes('model.ckpt-20.index'));
    const refused = await run([...train, '--clean']);
    assert.match(
      refused.text,
      /--clean does not delete .*model\.ckpt-10\.(data-00000-of-00001|index|meta).*which no run of lockstep made/,
    );
  });

  it('is not written over where nothing is left to train', async () => {
    const foreign = asForeign('base');
    const before = readFileSync(join(foreign, 'model.ckpt-10.index'));
    const flagsOf = (...more: string[]) => [`--data_dir=${data}`, `--model_dir=${foreign}`, TENSORFLOW, ...more];
    const { text } = await good(flagsOf('--train_epochs=2', '--epochs_between_evals=2'));
    assert.match(text, /All epochs are trained already/);
    await good(flagsOf('--train_epochs=4', '--max_train_steps=10'));
    assert.deepEqual(readFileSync(join(foreign, 'model.ckpt-10.index')), before);
  });

  it('of another network is refused with the variable, and what it is of', async () => {
    const foreign = asForeign('base');
    const { status, text } = await run([
      `--data_dir=${data}`,
      `--model_dir=${foreign}`,
      '--eval_only',
      '--resnet_size=14',
    ]);
    assert.equal(status, 1);
    assert.match(
      text,
      /has \d+ elements for resnet_model\/\S+, expected \d+: it is of ResNet-8 v1, this run trains ResNet-14 v1\.\nhelp: /,
    );
    // Another model's bundle altogether.
    const { data: bytes, index } = encodeBundle([
      { name: 'dense/kernel', dtype: 'float', shape: [1], values: Float32Array.of(1) },
    ]);
    writeFileSync(join(foreign, 'model.ckpt-10.index'), index);
    writeFileSync(join(foreign, 'model.ckpt-10.data-00000-of-00001'), Buffer.concat([...bytes]));
    const other = await run([`--data_dir=${data}`, `--model_dir=${foreign}`, '--eval_only']);
    assert.equal(other.status, 1);
    assert.match(
      other.text,
      /has 'dense\/kernel' and 0 others, but no resnet_model\/conv2d\/kernel: it is none of the official ResNet's/,
    );
  });

  it('whose checkpoint has no step, or another than its name, is passed over', async () => {
    const nameless = asForeign('base', (name) => name !== 'global_step');
    const evaluate = (dir: string) => run([`--data_dir=${data}`, `--model_dir=${dir}`, '--eval_only']);
    assert.match(
      (await evaluate(nameless)).text,
      /model\.ckpt-10\.index has nothing for global_step: no run can go on from it; it is passed over/,
    );
    const renamed = asForeign('base');
    for (const ending of ['index', 'data-00000-of-00001']) {
      copyFileSync(join(renamed, `model.ckpt-10.${ending}`), join(renamed, `model.ckpt-11.${ending}`));
    }
    assert.match(
      (await evaluate(renamed)).text,
      /model\.ckpt-11\.index is of step 10 by its metadata, and of step 11 by its name; it is passed over for/,
    );
  });
});
