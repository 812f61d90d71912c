/**
 * The ImageNet main: upstream's end-to-end tests with synthetic data, what its flags mean for the loss and the learning rate, classes and
 * names from the data's folder, and records that cannot be read. Pictures and shards are made here.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { picture, record, writeShards } from '../data/testing/records.js';
import { FAST, on } from '../testing/provider.js';
import { main } from './imagenet-main.js';
import { imagenetPlan, Model } from './resnet-model.js';
import { differences, readCheckpoint, runMain, SMALL, type TestRun } from './testing/run.js';

const folder = mkdtempSync(join(tmpdir(), 'imagenet-main-'));
const data = join(folder, 'data');
const model = (name: string) => join(folder, name);
const NAMES = ['ash', 'beech', 'cedar'];
const BAD = 5;

before(async () => {
  const pictures = await Promise.all(Array.from({ length: 12 }, (_, i) => picture(i % 3)));
  const records = pictures.map((one, i) => record(one, i % 3));
  writeShards(data, 'train', [records.slice(0, 5), records.slice(5)]);
  writeShards(data, 'validation', [records.slice(0, 6)]);
  writeFileSync(join(data, 'labels.txt'), `${NAMES.join('\n')}\n`);
  const damaged = join(folder, 'damaged');
  writeShards(damaged, 'train', [records.map((one, i) => (i === BAD ? record(Buffer.from('?'), 0, 'bad.jpg') : one))]);
  writeShards(damaged, 'validation', [records.slice(0, 6)]);
});
after(() => rmSync(folder, { recursive: true, force: true }));

const run = (name: string, ...argv: string[]): Promise<TestRun> =>
  runMain(main, [
    ...['--resnet_size=18', '--image_size=32', '--batch_size=4', '--train_epochs=1', '--seed=1', ...SMALL],
    ...[`--data_dir=${data}`, `--model_dir=${model(name)}`, ...argv],
  ]);
const mirrored = ['--num_cpus=2', '--distribution_strategy=mirrored'];

describe('end to end with synthetic data (upstream’s imagenet_test)', () => {
  // Without a fast backend the deep ones would take minutes.
  const sizes = FAST === 'cpu' ? ['18'] : ['50', '18', '200'];
  for (const size of sizes) {
    for (const version of ['1', '2']) {
      it(`ResNet-${size} v${version}, batch 4, one step`, async () => {
        const { status, text, result } = await run(
          `synthetic-${size}-${version}`,
          ...['--use_synthetic_data', '--max_train_steps=1', `--resnet_size=${size}`, `--resnet_version=${version}`],
          // Upstream's size, where it does not take minutes.
          ...(size === '18' && FAST !== 'cpu' ? ['--image_size=224'] : []),
        );
        assert.equal(status, 0, text);
        assert.equal(result?.globalStep, 1);
        const { tensors } = readCheckpoint(model(`synthetic-${size}-${version}`), 1);
        assert.deepEqual(tensors['resnet_model/dense/bias']?.shape, [1001]);
      });
    }
  }
});

describe('the recipe', () => {
  it('decays all weights but batch norm’s, with the flag’s coefficient', async () => {
    const losses = [];
    for (const decay of ['0', '0.01']) {
      const { result } = await run('decay', '--train_epochs=0', `--weight_decay=${decay}`);
      losses.push(result!.evaluation!.loss);
    }
    const expected = await on('cpu', () => {
      const network = new Model(imagenetPlan(18, 1, { numClasses: 3, imageSize: 32 }), 1);
      let sum = 0;
      for (const { name, val } of network.variables.map((one) => ({ name: one.name, val: one.dataSync() })))
        if (!name.includes('batch_normalization')) for (const value of val) sum += value * value;
      network.dispose();
      return 0.01 * 0.5 * sum;
    });
    assert.ok(Math.abs(losses[1]! - losses[0]! - expected) < 1e-4 * expected, `${losses} and ${expected}`);
  });

  it('warms up from 0; fine tuning begins with its own rate; LARS has its own optimizer and schedule', async () => {
    const logged = ['--hooks=LoggingTensorHook', '--max_train_steps=2'];
    const plain = await run('plain', ...logged);
    assert.match(plain.text, /^learning_rate = 0, /m);
    // 0.1 · 4 / 256.
    const fine = await run('fine', ...logged, '--fine_tune');
    assert.match(fine.text, /^learning_rate = 0\.0015625, /m);
    const lars = await run('lars', ...logged, '--enable_lars', '--lr_boundary_epochs=1');
    assert.equal(lars.status, 0, lars.text);
    assert.match(lars.text, /--lr_boundary_epochs has no effect with --enable_lars/);
    assert.match(lars.text, /^learning_rate = 0, /m);
    assert.ok(
      differences(readCheckpoint(model('plain'), 2), readCheckpoint(model('lars'), 2)).includes(
        'resnet_model/dense/kernel',
      ),
    );
  });

  it('smoothed labels are part of the loss, in training and in evaluation', async () => {
    const losses = [];
    for (const smoothing of ['0', '0.5']) {
      const { result } = await run('smooth', '--train_epochs=0', `--label_smoothing=${smoothing}`);
      losses.push(result!.evaluation!.loss);
    }
    assert.notEqual(losses[0], losses[1]);
    await run('softened', '--max_train_steps=2', '--label_smoothing=0.5');
    const [softened, plain] = [readCheckpoint(model('softened'), 2), readCheckpoint(model('plain'), 2)];
    assert.ok(differences(softened, plain).includes('resnet_model/dense/kernel'));
  });
});

describe('the data’s folder', () => {
  it('says how many classes there are, and how many images', async () => {
    const { status, text, result } = await run('from-folder');
    assert.equal(status, 0, text);
    assert.equal(result?.globalStep, 3, '12 images, 4 at once');
    const { trainMs, waitMs } = result!.replicaResults[0]!;
    assert.ok(waitMs > 0 && waitMs < trainMs, `waited ${waitMs} of ${trainMs} ms`);
    assert.deepEqual(readCheckpoint(model('from-folder'), 3).tensors['resnet_model/dense/bias']?.shape, [3]);
    const other = await run('other', '--num_classes=4');
    assert.equal(other.status, 2);
    assert.match(other.text, /^flag --num_classes=4: .*labels\.txt has 3 classes/m);
    assert.equal((await run('same', '--num_classes=3', '--train_epochs=0')).status, 0);
  });

  it('a run that was cut off goes on as if it had not been, bit by bit', async () => {
    await run('cut', '--max_train_steps=2');
    const { result } = await run('cut');
    assert.equal(result?.globalStep, 3);
    assert.deepEqual(differences(readCheckpoint(model('cut'), 3), readCheckpoint(model('from-folder'), 3)), []);
  });

  it('two replicas train as many steps, and stay the same bit by bit', async () => {
    const [one, two] = await Promise.all([run('once', ...mirrored), run('twice', ...mirrored)]);
    assert.equal(one.status, 0, one.text);
    assert.equal(two.result?.globalStep, 3);
    assert.deepEqual(differences(readCheckpoint(model('once'), 3), readCheckpoint(model('twice'), 3)), []);
  });

  it('a record that cannot be read ends the run, or is skipped and named at its end', async () => {
    const damaged = [`--data_dir=${join(folder, 'damaged')}`, '--num_classes=3'];
    const ended = await run('ended', ...damaged);
    assert.equal(ended.status, 1, ended.text);
    assert.match(
      ended.text,
      /train-00000-of-00001: the record at offset \d+ has a picture 'bad\.jpg' that cannot be decoded/,
    );
    assert.doesNotMatch(ended.text, /^\s+at /m);
    const skipped = await run('skipped', ...damaged, '--skip_bad_records=2');
    assert.equal(skipped.status, 0, skipped.text);
    assert.match(
      skipped.text,
      /^1 record could not be read and was skipped \(--skip_bad_records=2\):\n {2}.*bad\.jpg/m,
    );
  });

  it('a folder without shards is an error with a remedy', async () => {
    const none = await run('none', `--data_dir=${folder}`);
    assert.equal(none.status, 1);
    assert.match(none.text, /has no files train-00000-of-….*\nhelp: `lockstep make-imagenet-records/);
  });
});
