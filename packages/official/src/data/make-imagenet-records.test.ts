/**
 * Folders of pictures become shards: every picture once, with its label and its name, whatever kind of file it is; what cannot be read is
 * named; and where nothing can be made, nothing is left.
 */
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import sharp from 'sharp';
import { DataError } from './data-error.js';
import { decodeExample } from './example.js';
import { openImagenet, readClassNames } from './imagenet-data.js';
import { makeImagenetRecords, toJpeg, UNREADABLE_FILE } from './make-imagenet-records.js';
import { picture } from './testing/records.js';
import { readRecords } from './tfrecord.js';

let folder = '';
let pictures = '';
let out = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'make-records-'));
  pictures = join(folder, 'pictures');
  out = join(folder, 'out');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** @param path below `pictures` */
function put(path: string, bytes: Uint8Array): void {
  const file = join(pictures, path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, bytes);
}

interface Row {
  readonly label: number;
  readonly name: string;
  readonly encoded: Buffer;
  readonly text: string;
  readonly height: number;
  readonly width: number;
}

async function rows(split: string): Promise<Row[]> {
  const found: Row[] = [];
  for (const name of readdirSync(out).sort()) {
    if (!name.startsWith(`${split}-`)) continue;
    for await (const bytes of readRecords(join(out, name))) {
      const example = decodeExample(bytes);
      const value = (feature: string) => example.get(`image/${feature}`)!.values[0]!;
      const text = (feature: string) => Buffer.from(value(feature) as Uint8Array).toString();
      assert.deepEqual([text('format'), text('colorspace'), value('channels')], ['JPEG', 'RGB', 3n]);
      found.push({
        label: Number(value('class/label')),
        name: text('filename'),
        text: text('class/text'),
        encoded: Buffer.from(value('encoded') as Uint8Array),
        height: Number(value('height')),
        width: Number(value('width')),
      });
    }
  }
  return found;
}

/** `count` JPEGs in each of the classes. */
async function putMany(classes: readonly string[], count: number): Promise<void> {
  const jpeg = await sharp(await picture(1))
    .jpeg()
    .toBuffer();
  for (const name of classes) for (let i = 0; i < count; i++) put(`${name}/${i}.jpg`, jpeg);
}

const failing = (pattern: RegExp) => (error: Error) => error instanceof DataError && pattern.test(error.message);

describe('make-imagenet-records', () => {
  it('takes every picture once, holds a part of each class out, and spreads them over the shards', async () => {
    await putMany(['b', 'a', 'c d'], 20);
    put('a/deep/er/x.JPEG', readFileSync(join(pictures, 'a/0.jpg')));
    put('b/notes.txt', Buffer.from('?'));
    put('c d/.hidden.jpg', Buffer.from('?'));
    const made = await makeImagenetRecords(pictures, out, { trainShards: 4 });
    assert.deepEqual(made.classes, ['a', 'b', 'c d']);
    assert.deepEqual(made.train, { count: 55, shards: 4 });
    assert.deepEqual(made.validation, { count: 6, shards: 1 });
    assert.deepEqual([made.unreadable, made.converted, made.others], [[], 0, 1]);
    assert.deepEqual(readClassNames(out), ['a', 'b', 'c d']);
    assert.deepEqual(readdirSync(out).sort(), [
      'labels.txt',
      ...[0, 1, 2, 3].map((i) => `train-0000${i}-of-00004`),
      'train.lengths',
      'validation-00000-of-00001',
      'validation.lengths',
    ]);
    const index = () => {
      const { offsets, lengths, firsts } = openImagenet({
        dataDir: out,
        isTraining: true,
        numClasses: 3,
        imageShape: [32, 32, 3],
      }).source;
      return { offsets: [...offsets], lengths: [...lengths], firsts: [...firsts] };
    };
    const listed = index();
    rmSync(join(out, 'train.lengths'));
    assert.deepEqual(listed, index(), 'the list of lengths is what a walk finds');
    const [train, validation] = [await rows('train'), await rows('validation')];
    const names = [...train, ...validation].map(({ name }) => name);
    assert.equal(new Set(names).size, 61);
    assert.ok(names.includes(join('a', 'deep', 'er', 'x.JPEG')));
    for (const { label, name, text, height, width, encoded } of [...train, ...validation]) {
      assert.equal(name.split('/')[0], made.classes[label]);
      assert.equal(text, made.classes[label]);
      assert.deepEqual([height, width], [30, 40]);
      assert.ok(encoded.equals(readFileSync(join(pictures, name))), 'a plain JPEG goes in as it is');
    }
    for (const label of [0, 1, 2]) assert.equal(validation.filter((row) => row.label === label).length, 2);
    assert.notDeepEqual(
      train.map(({ label }) => label),
      train.map(({ label }) => label).sort(),
      'shuffled',
    );
    const before = new Set(validation.map(({ name }) => name));
    rmSync(out, { recursive: true });
    await makeImagenetRecords(pictures, out, { trainShards: 1, seed: 1, backgroundClass: true });
    assert.deepEqual(readClassNames(out), ['background', 'a', 'b', 'c d']);
    const again = await rows('validation');
    assert.notDeepEqual(new Set(again.map(({ name }) => name)), before, 'another seed holds out others');
    assert.ok([...again, ...(await rows('train'))].every(({ label, text }) => text === ['', 'a', 'b', 'c d'][label]));
  });

  it('makes a JPEG of everything else: upright, opaque, 8-bit RGB, not larger than training needs', async () => {
    const size = { width: 40, height: 30 };
    const colours = Buffer.alloc(40 * 30 * 3);
    for (let i = 0; i < colours.length; i += 3) colours.set(i < colours.length / 2 ? [200, 20, 20] : [20, 20, 200], i);
    const raw = () => sharp(colours, { raw: { ...size, channels: 3 } });
    /** Colours at the upper left and the lower right. */
    const check = async (bytes: Uint8Array, expected: number[][], width: number, height: number, shorter = 512) => {
      const jpeg = await toJpeg(bytes, shorter);
      assert.deepEqual([jpeg.isConverted, jpeg.width, jpeg.height], [true, width, height]);
      const { data, info } = await sharp(jpeg.encoded).raw().toBuffer({ resolveWithObject: true });
      assert.deepEqual([info.width, info.height, info.channels], [width, height, 3]);
      const { format, chromaSubsampling, orientation } = await sharp(jpeg.encoded).metadata();
      assert.deepEqual([format, chromaSubsampling, orientation], ['jpeg', '4:4:4', undefined]);
      const corners = [data.subarray(0, 3), data.subarray(-3)];
      for (const [i, corner] of corners.entries())
        for (const [c, value] of corner.entries())
          assert.ok(Math.abs(value - expected[i]![c]!) < 12, `${[...corner]} instead of ${expected[i]}`);
    };
    const [red, blue] = [
      [200, 20, 20],
      [20, 20, 200],
    ];
    await check(await raw().png().toBuffer(), [red!, blue!], 40, 30);
    await check(await raw().webp({ lossless: true }).toBuffer(), [red!, blue!], 40, 30);
    await check(await raw().toColourspace('rgb16').png().toBuffer(), [red!, blue!], 40, 30);
    await check(await raw().png().toBuffer(), [red!, blue!], 20, 15, 15);
    await check(await raw().jpeg().toBuffer(), [red!, blue!], 20, 15, 15);
    // 3: the camera was upside down. 6: it lay on its right side; what was above is at the right then.
    await check(await raw().withMetadata({ orientation: 3 }).jpeg().toBuffer(), [blue!, red!], 40, 30);
    await check(await raw().withMetadata({ orientation: 6 }).jpeg().toBuffer(), [blue!, red!], 30, 40);
    const clear = Buffer.alloc(40 * 30 * 4);
    await check(
      await sharp(clear, { raw: { ...size, channels: 4 } })
        .png()
        .toBuffer(),
      [
        [255, 255, 255],
        [255, 255, 255],
      ],
      40,
      30,
    );
    const cmyk = await raw().toColourspace('cmyk').jpeg().toBuffer();
    assert.equal((await sharp((await toJpeg(cmyk, 512)).encoded).metadata()).space, 'srgb');
    const grey = await raw().toColourspace('b-w').jpeg().toBuffer();
    assert.equal((await toJpeg(grey, 512)).isConverted, false, 'every reader makes three channels of one');
  });

  it('names what cannot be read, and leaves it out', async () => {
    await putMany(['a', 'b'], 5);
    const whole = readFileSync(join(pictures, 'a/0.jpg'));
    put('a/cut.jpg', whole.subarray(0, whole.length / 2));
    put('b/nothing.png', Buffer.alloc(0));
    put('b/text.webp', Buffer.from('what is this?'));
    const made = await makeImagenetRecords(pictures, out);
    const paths = ['a/cut.jpg', 'b/nothing.png', 'b/text.webp'].map((name) => join(pictures, name));
    assert.deepEqual(
      made.unreadable.map(({ path }) => path),
      paths,
    );
    assert.equal(made.train.count + made.validation.count, 10);
    const lines = readFileSync(join(out, UNREADABLE_FILE), 'utf8').trim().split('\n');
    assert.deepEqual(
      lines,
      made.unreadable.map(({ path, why }) => `${path}: ${why}`),
    );
    for (const isTraining of [true, false])
      assert.ok(openImagenet({ dataDir: out, isTraining, numClasses: 2, imageShape: [32, 32, 3] }).count > 0);
  });

  it('takes ImageNet’s folders, train beside val', async () => {
    await putMany(['train/n01', 'train/n02', 'val/n02'], 3);
    const made = await makeImagenetRecords(pictures, out, { validationFraction: 0.5 });
    assert.deepEqual([made.train.count, made.validation.count], [6, 3]);
    assert.ok((await rows('validation')).every(({ label, name }) => label === 1 && name.startsWith('val/n02')));
    rmSync(out, { recursive: true });
    await putMany(['val/n03'], 1);
    await assert.rejects(makeImagenetRecords(pictures, out), failing(/val\/n03 is a class that .*train does not have/));
  });

  it('makes nothing, and leaves nothing, where it cannot', async () => {
    const refused = (pattern: RegExp, options = {}) =>
      assert.rejects(
        makeImagenetRecords(pictures, out, options),
        failing(new RegExp(`${pattern.source}[^]*\\nhelp: `)),
      );
    await refused(/There is no folder .*pictures\./);
    mkdirSync(pictures);
    await refused(/pictures has no folders\./);
    await putMany(['a'], 3);
    await refused(/pictures has one folder, 'a'\./);
    mkdirSync(join(pictures, 'b'));
    await refused(/pictures\/b has no pictures\./);
    put('b/readme.md', Buffer.from('?'));
    await refused(/pictures\/b has no pictures; '.*readme\.md' is none by its name\./);
    put('b/bad.jpg', Buffer.from('?'));
    await refused(/of which none would be held out for validation/, { validationFraction: 0 });
    await refused(/No picture of .*pictures\/b can be read: .*bad\.jpg: /, { validationFraction: 0.4 });
    assert.deepEqual(readdirSync(folder), ['pictures']);
    cpSync(join(pictures, 'a/0.jpg'), join(pictures, 'b/bad.jpg'));
    writeFileSync(out, 'mine');
    await refused(/out is there already\. Nothing was written\./);
    rmSync(out);
    mkdirSync(out);
    const stop = new AbortController();
    stop.abort(new Error('told to stop'));
    await assert.rejects(
      makeImagenetRecords(pictures, out, { validationFraction: 0.4, signal: stop.signal }),
      /told to stop/,
    );
    assert.deepEqual(readdirSync(folder).sort(), ['out', 'pictures']);
    assert.deepEqual(readdirSync(out), []);
    await makeImagenetRecords(pictures, out, { validationFraction: 0.4 });
    assert.ok(existsSync(join(out, 'labels.txt')), 'an empty folder is taken');
  });
});
