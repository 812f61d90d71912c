/**
 * ImageNet's shards as the input pipeline gives them: which pictures, which labels, the same however they are split, and every way in
 * which a folder or a record can be wrong.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { DataError } from './data-error.js';
import { decodeImage } from './image.js';
import {
  type ImagenetOptions,
  imagenetFiles,
  openImagenet,
  placeOf,
  readClassNames,
  shardName,
} from './imagenet-data.js';
import { centralView } from './imagenet-preprocessing.js';
import { openPipeline } from './input-pipeline.js';
import { writeLengths } from './record-lengths.js';
import type { ScheduleOptions } from './schedule.js';
import { skippedLines } from './skipped-records.js';
import { picture, record, writeShards } from './testing/records.js';

const SHAPE = [32, 32, 3] as const;
const ELEMENTS = 32 * 32 * 3;
const COUNT = 7;

let folder = '';
let pictures: Buffer[] = [];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'imagenet-'));
  pictures = await Promise.all(Array.from({ length: COUNT }, (_, i) => picture(i)));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Seven records in three files, one of them empty; record i has label i. */
function write(change: (records: Uint8Array[]) => void = () => {}): void {
  const records = pictures.map((one, i) => record(one, i, `picture-${i}.png`));
  change(records);
  for (const split of ['train', 'validation'] as const)
    writeShards(folder, split, [records.slice(0, 3), [], records.slice(3)]);
}

const open = (more: Partial<ImagenetOptions> = {}) =>
  openImagenet({ dataDir: folder, isTraining: true, numClasses: COUNT, imageShape: SHAPE, ...more });

/** Batches of a pipeline, copied. */
async function batches(
  schedule: ScheduleOptions,
  dataSet = open(),
  { isTraining = true, seed = 1, threads = 1 } = {},
): Promise<{ labels: number[]; images: Float32Array }[]> {
  const input = await openPipeline({ dataSet, schedule, reading: { seed, isTraining, randomFlip: true }, threads });
  try {
    const found = [];
    for (let batch = input.next(); batch; batch = input.next()) {
      found.push({ labels: [...batch.labels], images: batch.images.slice() });
      input.release();
    }
    return found;
  } finally {
    await input.close();
  }
}

const everything: ScheduleOptions = { kind: 'ranges', ranges: [[0, COUNT]] };
const training = (replica: number, replicas: number, batchSize = 4): ScheduleOptions => ({
  kind: 'training',
  ...{ count: COUNT, batchSize, replica, replicas, seed: 1, firstEpoch: 0, epochs: 2 },
});
const failing = (pattern: RegExp) => (error: Error) => error instanceof DataError && pattern.test(error.message);

describe('records', () => {
  it('lie where the index says, past an empty file', () => {
    write();
    const { source, count } = open();
    assert.equal(count, COUNT);
    const files = Array.from({ length: COUNT }, (_, i) => placeOf(source, i).file.slice(-'00000-of-00003'.length));
    assert.deepEqual(
      files,
      [0, 0, 0, 2, 2, 2, 2].map((file) => `0000${file}-of-00003`),
    );
    for (let i = 0; i < COUNT; i++) {
      const { file, offset, length } = placeOf(source, i);
      assert.ok(
        readFileSync(file)
          .subarray(offset, offset + length + 12)
          .includes(pictures[i]!),
      );
    }
    for (const shared of [source.offsets, source.lengths, source.firsts, source.skipped.counts])
      assert.ok(shared.buffer instanceof SharedArrayBuffer);
  });

  it('are found by the list of lengths, if it is one of these very files', async () => {
    write();
    const walked = open().source;
    writeLengths(folder, 'train', [...walked.lengths]);
    // A walk would end here.
    const { file, offset } = placeOf(walked, 4);
    const bytes = readFileSync(file);
    const whole = Buffer.from(bytes);
    bytes[offset + 8]!++;
    writeFileSync(file, bytes);
    const listed = open().source;
    assert.deepEqual([listed.firsts, listed.offsets], [walked.firsts, walked.offsets]);
    await assert.rejects(batches(everything), /the record at offset \d+ has a length with a wrong CRC/);
    writeFileSync(file, whole);
    const list = [...walked.lengths];
    const others = [list.slice(1), [...list, 5], list.with(3, list[3]! + 1), list.with(0, list[0]! - 1), []];
    for (const [i, other] of others.entries()) {
      writeLengths(folder, 'train', other);
      assert.deepEqual(open().source.offsets, walked.offsets, `list ${i} is of other files`);
    }
    writeFileSync(join(folder, 'train.lengths'), 'odd');
    assert.deepEqual(open().source.offsets, walked.offsets);
  });

  it('evaluation sees each once, in order: the centre of the picture', async () => {
    write();
    const [batch] = await batches(everything, open({ isTraining: false }), { isTraining: false });
    assert.deepEqual(batch!.labels, [0, 1, 2, 3, 4, 5, 6]);
    for (const [i, one] of pictures.entries()) {
      const view = centralView({ height: 30, width: 40 }, { height: 32, width: 32 });
      const expected = new Float32Array(ELEMENTS);
      view.write(await decodeImage(one, () => view.box), expected, 0);
      assert.deepEqual(batch!.images.subarray(i * ELEMENTS, (i + 1) * ELEMENTS), expected, `record ${i}`);
    }
  });

  it('training sees the same pixels however work is split, and others in another epoch or with another seed', async () => {
    write();
    const whole = await batches(training(0, 1));
    const halves = await Promise.all([0, 1].map((replica) => batches(training(replica, 2), open(), { threads: 2 })));
    for (const [step, { labels, images }] of whole.entries()) {
      assert.deepEqual(
        halves.flatMap((half) => half[step]!.labels),
        labels,
      );
      const together = Float32Array.from(halves.flatMap((half) => [...half[step]!.images]));
      assert.deepEqual(together, images, `step ${step}`);
    }
    const labels = whole.flatMap((batch) => batch.labels);
    for (const epoch of [labels.slice(0, COUNT), labels.slice(COUNT)])
      assert.deepEqual([...epoch].sort(), [0, 1, 2, 3, 4, 5, 6]);
    const images = whole.flatMap((batch) =>
      batch.labels.map((label, i) => ({ label, pixels: batch.images.slice(i * ELEMENTS, (i + 1) * ELEMENTS) })),
    );
    const [first, second] = images.filter(({ label }) => label === 3).map(({ pixels }) => pixels);
    assert.notDeepEqual(first, second, 'epochs');
    const [other] = await batches(everything, open(), { seed: 2 });
    const [same] = await batches(everything, open());
    assert.notDeepEqual(other!.images, same!.images, 'seeds');
    assert.deepEqual((await batches(everything))[0]!.images, same!.images);
  });
});

describe('records that are wrong', () => {
  const bad: [string, (records: Uint8Array[]) => void, RegExp][] = [
    ['a label out of range', (all) => (all[4] = record(pictures[4]!, 7)), /has label 7, which is not in 0\.\.6/],
    ['a negative label', (all) => (all[4] = record(pictures[4]!, -1)), /has label -1, which is not in 0\.\.6/],
    ['no label', (all) => (all[4] = record(pictures[4]!, null)), /has no image\/class\/label/],
    ['no picture', (all) => (all[4] = record(null, 4)), /has no image\/encoded/],
    ['no Example', (all) => (all[4] = Buffer.from('what is this?')), /is no tf\.Example/],
    [
      'a picture cut off',
      (all) => (all[4] = record(pictures[4]!.subarray(0, 90), 4, 'cut\x1b.png')),
      /has a picture 'cut\\u\{1b\}\.png' that cannot be decoded: /,
    ],
  ];
  for (const [what, change, pattern] of bad) {
    it(`${what}: named with file and offset; skipped and counted where that is asked for`, async () => {
      write(change);
      const { file, offset } = placeOf(open().source, 4);
      await assert.rejects(batches(everything), (error: Error) => {
        assert.match(error.message, pattern);
        assert.ok(error.message.includes(`${file}: the record at offset ${offset} `), error.message);
        assert.match(error.message, /\nhelp: .*--skip_bad_records=10/);
        return true;
      });
      const dataSet = open({ skipBadRecords: 1 });
      for (let time = 0; time < 2; time++) {
        const [batch] = await batches(everything, dataSet, { isTraining: false });
        assert.deepEqual(batch!.labels, [0, 1, 2, 3, 5, 5, 6], 'the next one takes its place');
      }
      const lines = skippedLines(dataSet.source.skipped);
      assert.equal(lines.length, 2);
      assert.match(lines[0]!, /^1 record could not be read and was skipped \(--skip_bad_records=1\):$/);
      assert.match(lines[1]!, pattern);
    });
  }

  it('more of them than allowed end the run', async () => {
    write((all) => {
      all[2] = record(null, 0);
      all[5] = record(null, 0);
    });
    assert.equal((await batches(everything, open({ skipBadRecords: 2 })))[0]!.labels.length, COUNT);
    await assert.rejects(
      batches(everything, open({ skipBadRecords: 1 })),
      /one more than the 1 that --skip_bad_records allows/,
    );
    rmSync(folder, { recursive: true });
    write((all) => all.fill(record(null, 0)));
    const all = open({ skipBadRecords: 100 });
    await assert.rejects(batches(everything, all), /has no image\/encoded/, 'no record is left');
  });

  it('a frame with a wrong CRC', async () => {
    write();
    const { file, offset, length } = placeOf(open().source, 5);
    const bytes = readFileSync(file);
    bytes[offset + 12 + length - 40]!++;
    writeFileSync(file, bytes);
    const pattern = new RegExp(`00002-of-00003: the record at offset ${offset} of ${length} bytes has a wrong CRC`);
    await assert.rejects(batches(everything), pattern);
    const dataSet = open({ skipBadRecords: 1 });
    assert.deepEqual((await batches(everything, dataSet))[0]!.labels, [0, 1, 2, 3, 4, 6, 6]);
  });
});

describe('a folder that is wrong', () => {
  it('is named with what is missing', () => {
    assert.throws(
      () => open({ dataDir: join(folder, 'none') }),
      failing(/^There is no folder .*none\.\nhelp: `lockstep make/),
    );
    assert.throws(() => open(), failing(/has no files train-00000-of-…\.\nhelp: /));
    writeFileSync(join(folder, 'train-0-of-1'), '');
    assert.throws(() => open(), failing(/has no files train-00000-of-…; 'train-0-of-1' is no such name/));
    writeFileSync(join(folder, 'train-00001-of-00003'), '');
    assert.throws(() => open(), failing(/train-00000-of-00003 is missing, and 1 more\./));
    writeFileSync(join(folder, 'train-00000-of-00003'), '');
    assert.throws(() => open(), failing(/train-00002-of-00003 is missing\./));
    writeFileSync(join(folder, 'train-00002-of-00003'), '');
    assert.throws(() => open(), failing(/train-00000-of-00003: it and all other files of its kind are empty/));
    writeFileSync(join(folder, 'train-00003-of-00003'), '');
    assert.throws(() => open(), failing(/train-00003-of-00003 is one too many/));
    renameSync(join(folder, 'train-00003-of-00003'), join(folder, 'train-00000-of-00004'));
    assert.throws(() => open(), failing(/two sets in one folder/));
    const file = join(folder, 'file');
    writeFileSync(file, '');
    assert.throws(() => open({ dataDir: file }), failing(/file is a file, and --data_dir must be a folder/));
  });

  it('a file that is cut off is named with the offset', () => {
    write();
    const { file, offset } = placeOf(open().source, 6);
    truncateSync(file, offset + 50);
    assert.throws(() => open(), failing(new RegExp(`00002-of-00003: the record at offset ${offset} is cut off`)));
  });

  it('shards are in order, and have upstream’s names', () => {
    assert.equal(shardName('train', 7, 1024), 'train-00007-of-01024');
    assert.equal(shardName('validation', 127, 128), 'validation-00127-of-00128');
    write();
    assert.deepEqual(
      imagenetFiles(folder, false),
      [0, 1, 2].map((i) => join(folder, `validation-0000${i}-of-00003`)),
    );
  });

  it('labels.txt gives the names', () => {
    write();
    assert.equal(readClassNames(folder), null);
    assert.equal(open().classNames, undefined);
    const file = join(folder, 'labels.txt');
    writeFileSync(file, 'tench\r\ngreat white shark\n');
    assert.deepEqual(open().classNames, ['tench', 'great white shark']);
    writeFileSync(file, 'tench\n\nshark\n');
    assert.throws(() => readClassNames(folder), failing(/labels\.txt has no name in line 2\.\nhelp: one name a line/));
    writeFileSync(file, '');
    assert.throws(() => readClassNames(folder), failing(/labels\.txt is empty/));
    rmSync(file);
    mkdirSync(file);
    assert.throws(() => readClassNames(folder), failing(/labels\.txt is a folder, not a file/));
  });
});
