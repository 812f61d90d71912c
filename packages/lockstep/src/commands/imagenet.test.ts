/**
 * One's own pictures the whole way, as commands: files in folders become records, a ResNet-18 learns them on two replicas and evaluates, it
 * is exported, and the exported page in real Chromium gives the trainer's answers.
 *
 * The pictures are handwritten digits as JPEG, PNG and WebP files; with LOCKSTEP_CIFAR10_DIR (a folder of CIFAR-10's binary files) they are
 * CIFAR-10's, as JPEG files, and it takes minutes.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import '@lockstep/onednn';
import { IMAGE_BYTES, RECORD_BYTES, readCifar10 } from '@lockstep/official/data/cifar10-data';
import { CIFAR10_NAMES } from '@lockstep/official/data/cifar10-names';
import { prepareDigits } from '@lockstep/official/data/digits';
import { decodeExample } from '@lockstep/official/data/example';
import { openImagenet } from '@lockstep/official/data/imagenet-data';
import openReader from '@lockstep/official/data/imagenet-reader';
import { readRecords } from '@lockstep/official/data/tfrecord';
import { readRun } from '@lockstep/official/resnet/replica/run-state';
import { imagenetPlan, Model } from '@lockstep/official/resnet/resnet-model';
import * as tf from '@tensorflow/tfjs-core';
import sharp from 'sharp';
import { openBrowser, whyNoChromium } from '../testing/browser.js';
import {
  answerTo,
  compareAnswers,
  fillModel,
  openClassifier,
  pick,
  probabilitiesOf,
} from '../testing/classifier-page.js';
import { lockstep } from '../testing/process.js';
import { startStaticServer } from '../web/static-server.js';

const folder = mkdtempSync(join(tmpdir(), 'imagenet-'));
const pictures = join(folder, 'pictures');
const records = join(folder, 'records');
const web = join(folder, 'web');
const VALIDATION_FRACTION = 0.2;
/** Pictures that the page is given. */
const SHOWN = 10;

interface Pictures {
  /** In CIFAR-10's binary format. */
  dataDir(): string;
  /** Names, by label there; null: not among those that are learned. */
  readonly names: readonly (string | null)[];
  readonly each: number;
  readonly formats: readonly ('jpeg' | 'png' | 'webp')[];
  /** Each class in a colour of its own: of a random box a part of a stroke may be all there is. */
  readonly tinted: boolean;
  readonly training: readonly string[];
  readonly limitSeconds: number;
  /** Per cent of held-out pictures that are recognized at least. */
  readonly accuracy: number;
}

const DIGITS: Pictures = {
  dataDir: () => prepareDigits(join(folder, 'digits')),
  names: [null, 'one', 'two', 'three'],
  each: 60,
  formats: ['jpeg', 'png', 'webp'],
  tinted: true,
  training: ['--train_epochs=12', '--epochs_between_evals=4', '--batch_size=16', '--norandom_flip', '--log_steps=1'],
  limitSeconds: 200,
  // A third by chance. 36 pictures are few, and one evaluation says little.
  accuracy: 60,
};

const CIFAR10: Pictures = {
  dataDir: () => process.env.LOCKSTEP_CIFAR10_DIR as string,
  // Airplanes, automobiles, birds, cats: more would take longer to be told apart.
  names: CIFAR10_NAMES.slice(0, 4),
  each: 600,
  formats: ['jpeg'],
  tinted: false,
  training: ['--train_epochs=15', '--epochs_between_evals=5', '--batch_size=32', '--log_steps=10'],
  limitSeconds: 2400,
  // A quarter by chance.
  accuracy: 40,
};

const given = process.env.LOCKSTEP_CIFAR10_DIR ? CIFAR10 : DIGITS;
/** As make-imagenet-records puts them in order. */
const CLASSES = given.names.filter((name) => name !== null).sort();
const TOTAL = CLASSES.length * given.each;
const VALIDATION = TOTAL * VALIDATION_FRACTION;

/** Files of pictures in folders, and one that is none. */
before(async () => {
  const { records: bytes, count } = readCifar10(given.dataDir(), true);
  const counts = new Map<string, number>();
  for (let example = 0; example < count; example++) {
    const at = example * RECORD_BYTES;
    const label = bytes[at] as number;
    const name = given.names[label] ?? null;
    const number = counts.get(name ?? '') ?? 0;
    if (name === null || number >= given.each) continue;
    counts.set(name, number + 1);
    const planes = bytes.subarray(at + 1, at + RECORD_BYTES);
    const pixels = Uint8Array.from({ length: IMAGE_BYTES }, (_, i) => {
      const value = planes[(i % 3) * 1024 + Math.floor(i / 3)] as number;
      return given.tinted && i % 3 !== label % 3 ? value / 4 : value;
    });
    const ending = given.formats[number % given.formats.length] as 'jpeg';
    const target = join(pictures, name);
    mkdirSync(target, { recursive: true });
    const image = sharp(pixels, { raw: { width: 32, height: 32, channels: 3 } });
    await image.toFormat(ending, {}).toFile(join(target, `${number}.${ending}`));
  }
  assert.deepEqual([...counts.keys()].sort(), CLASSES);
  assert.deepEqual(new Set(counts.values()), new Set([given.each]));
  writeFileSync(join(pictures, CLASSES[0] as string, 'broken.jpg'), 'no picture');
});
after(() => rmSync(folder, { recursive: true, force: true }));

describe('lockstep make-imagenet-records, lockstep imagenet, lockstep export', () => {
  /** Per cent, of the last evaluation. */
  let accuracy = Number.NaN;

  it('makes records of folders, and names what is none', async () => {
    const made = ['make-imagenet-records', pictures, records, `--validation_fraction=${VALIDATION_FRACTION}`];
    const { status, output } = await lockstep(made);
    assert.equal(status, 0, output);
    const number = (count: number) => count.toLocaleString('en-US');
    const [, train, validation] =
      /: (\S+) pictures in \d files? to train on, (\S+) pictures in 1 file to validate, /.exec(output) ?? [];
    assert.deepEqual([train, validation], [number(TOTAL - VALIDATION), number(VALIDATION)], output);
    const converted = Math.floor(given.each / given.formats.length) * (given.formats.length - 1) * CLASSES.length;
    assert.equal(/(\S+) were made JPEGs/.exec(output)?.[1], converted > 0 ? number(converted) : undefined, output);
    assert.match(output, /1 could not be read and are left out:\n {2}.*\/broken\.jpg: /);
    assert.match(output, /\nNext: lockstep imagenet --data_dir=/);
    assert.equal(readFileSync(join(records, 'labels.txt'), 'utf8'), CLASSES.map((name) => `${name}\n`).join(''));
    const again = await lockstep(['make-imagenet-records', pictures, records]);
    assert.equal(again.status, 1);
    assert.match(again.output, /records is there already\. Nothing was written\.\nhelp: /);
    const none = await lockstep(['make-imagenet-records', pictures]);
    assert.equal(none.status, 2);
    assert.match(none.output, /takes two folders, got .*pictures/);
  });

  it('a ResNet-18 learns them on two replicas', async (t) => {
    const { status, output } = await lockstep(
      [
        'imagenet',
        ...[`--data_dir=${records}`, `--model_dir=${join(folder, 'model')}`, '--resnet_size=18', '--image_size=32'],
        ...[...given.training, '--batch_norm_decay=0.9', '--seed=1'],
        ...['--num_cpus=2', '--distribution_strategy=mirrored', '--progress=plain', '--hooks='],
      ],
      { limitSeconds: given.limitSeconds },
    );
    assert.equal(status, 0, output);
    const losses = [...output.matchAll(/loss (\d+\.\d+)/g)].map(([, loss]) => Number(loss));
    const accuracies = [...output.matchAll(/Evaluation at step \d+: accuracy (\d+\.\d+) %/g)].map(([, value]) =>
      Number(value),
    );
    assert.ok(losses.length >= 20, output);
    const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
    // Single steps of distorted pictures say little: the last third beside the first.
    const third = Math.floor(losses.length / 3);
    assert.ok(mean(losses.slice(-third)) < mean(losses.slice(0, third)) - 0.2, `${losses}`);
    assert.equal(accuracies.length, 3, output);
    assert.ok(Math.max(...accuracies) > given.accuracy, output);
    accuracy = accuracies.at(-1) as number;
    t.diagnostic(`accuracies: ${accuracies.join(', ')} %`);
  });

  it('an export of it knows the names of the classes and how pictures are prepared', async () => {
    const exported = await lockstep(['export', join(folder, 'model'), web, '--page']);
    assert.equal(exported.status, 0, exported.output);
    const { userDefinedMetadata: description } = JSON.parse(readFileSync(join(web, 'model.json'), 'utf8'));
    assert.deepEqual(description.labels, CLASSES);
    assert.deepEqual(description.input.shape, [32, 32, 3]);
    // 8/7 of 32, rounded; ImageNet's mean colour.
    assert.deepEqual(description.preprocessing, {
      resize: { kind: 'central crop', shorterSide: 37 },
      inModel: { kind: 'subtract means', means: [123.68, 116.78, 103.94] },
    });
  });

  it('its page gives the trainer’s answers', { skip: whyNoChromium() }, async (t) => {
    const { expected, labels } = await trainersAnswers();
    const likeliest = expected.map((of) => of.indexOf(Math.max(...of)));
    // What stands in for the trainer is the trainer: it recognizes as many.
    const right = likeliest.filter((label, i) => label === labels[i]).length;
    assert.equal(((100 * right) / VALIDATION).toFixed(2), accuracy.toFixed(2));
    // Those that it is least sure of, where a wrong pixel tells; and another class, for a page that always says the same.
    const order = expected.map((_, i) => i).sort((i, j) => Math.max(...expected[i]!) - Math.max(...expected[j]!));
    const shown = order.splice(0, SHOWN - 1);
    shown.push(order.find((i) => likeliest[i] !== likeliest[shown[0] as number]) as number);
    const files = await heldOut();
    const browser = await openBrowser();
    const server = await startStaticServer({ root: web });
    try {
      const { page, wrong } = await openClassifier(browser, server.url);
      let gap = 0;
      for (const i of shown) {
        const answer = await answerTo(page, () => pick(page, files[i] as Uint8Array));
        gap = Math.max(gap, compareAnswers(answer, expected[i] as Float32Array));
      }
      for (const name of await page.$$eval('#results li', (all) => all.map((row) => `${row.textContent}`))) {
        assert.ok(
          CLASSES.some((label) => name.includes(label)),
          name,
        );
      }
      const least = Math.max(...(expected[shown[0] as number] as Float32Array));
      t.diagnostic(
        `largest difference of a probability: ${gap.toExponential(1)}; least sure answer: ${least.toFixed(6)}`,
      );
      assert.deepEqual(wrong, []);
    } finally {
      await server.close();
      await browser.close();
    }
  });
});

/** Held-out pictures as JPEG files, in the order in which evaluation reads them. */
async function heldOut(): Promise<Uint8Array[]> {
  const files: Uint8Array[] = [];
  for await (const record of readRecords(join(records, 'validation-00000-of-00001'))) {
    const encoded = decodeExample(record).get('image/encoded');
    assert.ok(encoded?.kind === 'bytes');
    files.push(encoded.values[0] as Uint8Array);
  }
  assert.equal(files.length, VALIDATION);
  return files;
}

/** Probabilities of all held-out pictures: the trainer's reader, its network and its newest checkpoint. */
async function trainersAnswers(): Promise<{ expected: Float32Array[]; labels: number[] }> {
  const plan = imagenetPlan(18, 1, { numClasses: CLASSES.length, imageSize: 32 });
  const data = openImagenet({ dataDir: records, isTraining: false, ...plan });
  const reader = await openReader(data.source, { seed: 1, isTraining: false, randomFlip: false });
  const images = new Float32Array(data.count * IMAGE_BYTES);
  const labels: number[] = [];
  for (let example = 0; example < data.count; example++) {
    labels.push(await reader.read({ example, epoch: 0 }, images, example * IMAGE_BYTES));
  }
  await tf.setBackend('onednn');
  const model = new Model(plan, 0, { initialize: false });
  const { tensors } = readRun(join(folder, 'model'));
  fillModel(model, (name) => tensors[name]?.values as Float32Array);
  const expected = probabilitiesOf(model, images, data.count);
  model.dispose();
  return { expected, labels };
}
