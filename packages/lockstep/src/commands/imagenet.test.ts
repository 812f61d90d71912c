/**
 * One's own pictures, from folders to a trained network, as commands: handwritten digits as JPEG, PNG and WebP files become records, a
 * ResNet-18 learns them on two replicas, and evaluates.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { prepareDigits } from '@lockstep/official/data/digits';
import sharp from 'sharp';
import { lockstep } from '../testing/process.js';

const folder = mkdtempSync(join(tmpdir(), 'imagenet-'));
const pictures = join(folder, 'pictures');
const records = join(folder, 'records');
const CLASSES = ['one', 'two', 'three'];
const EACH = 60;
const RECORD_BYTES = 3073;

/** Digits 1, 2 and 3, 60 of each, red, green and blue, as files of three kinds. */
before(async () => {
  prepareDigits(join(folder, 'digits'));
  const bytes = readFileSync(join(folder, 'digits', 'cifar-10-batches-bin', 'data_batch_1.bin'));
  const counts = [0, 0, 0];
  for (let at = 0; at < bytes.length; at += RECORD_BYTES) {
    const index = (bytes[at] as number) - 1;
    if (!(index in counts) || (counts[index] as number) >= EACH) continue;
    const number = counts[index]!++;
    const grey = bytes.subarray(at + 1, at + 1025);
    // Each class in a colour of its own: of a random box a part of a stroke may be all there is.
    const tinted = Uint8Array.from({ length: 3 * grey.length }, (_, i) => {
      return (grey[Math.floor(i / 3)] as number) * (i % 3 === index ? 1 : 0.25);
    });
    const image = sharp(tinted, { raw: { width: 32, height: 32, channels: 3 } });
    const ending = (['jpeg', 'png', 'webp'] as const)[number % 3] as 'jpeg';
    const target = join(pictures, CLASSES[index] as string);
    mkdirSync(target, { recursive: true });
    await image.toFormat(ending, {}).toFile(join(target, `${number}.${ending}`));
  }
  assert.deepEqual(counts, [EACH, EACH, EACH]);
  writeFileSync(join(pictures, 'two', 'broken.jpg'), 'no picture');
});
after(() => rmSync(folder, { recursive: true, force: true }));

describe('lockstep make-imagenet-records, lockstep imagenet', () => {
  it('makes records of folders, and names what is none', async () => {
    const { status, output } = await lockstep([
      'make-imagenet-records',
      pictures,
      records,
      '--validation_fraction=0.2',
    ]);
    assert.equal(status, 0, output);
    assert.match(output, /144 pictures in 1 file to train on, 36 pictures in 1 file to validate, 3 classes\./);
    assert.match(output, /120 were made JPEGs/);
    assert.match(output, /1 could not be read and are left out:\n {2}.*two\/broken\.jpg: /);
    assert.match(output, /\nNext: lockstep imagenet --data_dir=/);
    assert.equal(readFileSync(join(records, 'labels.txt'), 'utf8'), 'one\nthree\ntwo\n');
    const again = await lockstep(['make-imagenet-records', pictures, records]);
    assert.equal(again.status, 1);
    assert.match(again.output, /records is there already\. Nothing was written\.\nhelp: /);
    const none = await lockstep(['make-imagenet-records', pictures]);
    assert.equal(none.status, 2);
    assert.match(none.output, /takes two folders, got .*pictures/);
  });

  it('a ResNet-18 learns them on two replicas', async () => {
    const { status, output } = await lockstep([
      'imagenet',
      ...[`--data_dir=${records}`, `--model_dir=${join(folder, 'model')}`, '--resnet_size=18', '--image_size=32'],
      ...[
        '--train_epochs=12',
        '--epochs_between_evals=4',
        '--batch_size=16',
        '--norandom_flip',
        '--batch_norm_decay=0.9',
      ],
      ...[
        '--num_cpus=2',
        '--distribution_strategy=mirrored',
        '--seed=1',
        '--log_steps=1',
        '--progress=plain',
        '--hooks=',
      ],
    ]);
    assert.equal(status, 0, output);
    const losses = [...output.matchAll(/loss (\d+\.\d+)/g)].map(([, loss]) => Number(loss));
    const accuracies = [...output.matchAll(/Evaluation at step \d+: accuracy (\d+\.\d+) %/g)].map(([, value]) =>
      Number(value),
    );
    assert.ok(losses.length >= 20, output);
    const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
    // Single steps of 16 distorted pictures say little: the last third beside the first.
    const third = Math.floor(losses.length / 3);
    assert.ok(mean(losses.slice(-third)) < mean(losses.slice(0, third)) - 0.2, `${losses}`);
    // A third by chance. 36 pictures are few, and one evaluation says little.
    assert.equal(accuracies.length, 3, output);
    assert.ok(Math.max(...accuracies) > 55, output);
  });

  it('an export of it knows the names of the classes and how pictures are prepared', async () => {
    const exported = await lockstep(['export', join(folder, 'model'), join(folder, 'web'), '--quantize=float16']);
    assert.equal(exported.status, 0, exported.output);
    const { userDefinedMetadata: description } = JSON.parse(readFileSync(join(folder, 'web', 'model.json'), 'utf8'));
    assert.deepEqual(description.labels, ['one', 'three', 'two']);
    assert.deepEqual(description.input.shape, [32, 32, 3]);
    // 8/7 of 32, rounded; ImageNet's mean colour.
    assert.deepEqual(description.preprocessing, {
      resize: { kind: 'central crop', shorterSide: 37 },
      inModel: { kind: 'subtract means', means: [123.68, 116.78, 103.94] },
    });
  });
});
