/**
 * CIFAR-10 files and what training sees of them: upstream's parse test, augmentation against loops written from its
 * description, and every way a data set can be wrong.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { Philox } from '../utils/random/philox.js';
import { cifar10Files, countCifar10, DataError, IMAGE_BYTES, RECORD_BYTES, readCifar10 } from './cifar10-data.js';
import { type Augmentation, drawAugmentation, labelOf, prepareImage } from './cifar10-reader.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cifar10-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** `count` records with the labels 0, 1, 2, … and random pixels. */
function records(count: number, seed = 1): Uint8Array {
  const random = new Philox(seed);
  const bytes = new Uint8Array(count * RECORD_BYTES);
  for (let i = 0; i < bytes.length; i++) bytes[i] = random.integer(256);
  for (let i = 0; i < count; i++) bytes[i * RECORD_BYTES] = i % 10;
  return bytes;
}

function writeDataSet(target = folder, count = 3): void {
  mkdirSync(target, { recursive: true });
  for (let i = 1; i <= 5; i++) writeFileSync(join(target, `data_batch_${i}.bin`), records(count, i));
  writeFileSync(join(target, 'test_batch.bin'), records(count, 6));
}

describe('parsing', () => {
  it('is upstream’s (cifar10_test): label 7, planes of 0, 1 and 2 become −1.225, 0 and 1.225', () => {
    const record = new Uint8Array(RECORD_BYTES);
    record[0] = 7;
    for (let plane = 0; plane < 3; plane++) record.fill(plane, 1 + plane * 1024, 1 + (plane + 1) * 1024);
    const image = new Float32Array(IMAGE_BYTES);
    prepareImage(record, 0, image, 0);
    assert.equal(labelOf(record, 0), 7);
    for (let pixel = 0; pixel < 1024; pixel++) {
      for (const [channel, expected] of [-1.225, 0, 1.225].entries()) {
        const actual = image[pixel * 3 + channel]!;
        assert.ok(Math.abs(actual - expected) <= 1e-3 * Math.abs(expected) + 1e-6, `${actual} instead of ${expected}`);
      }
    }
  });

  it('an image of one colour alone is all zeros, not NaN: the deviation is at least 1/√3072', () => {
    const record = new Uint8Array(RECORD_BYTES).fill(9);
    const image = new Float32Array(IMAGE_BYTES).fill(5);
    prepareImage(record, 0, image, 0);
    assert.ok(image.every((value) => value === 0));
  });
});

describe('augmentation', () => {
  /** From the description, one step after the other: pad, crop, mirror, standardize. */
  function reference(bytes: Uint8Array, example: number, { top, left, flip }: Augmentation): Float64Array {
    const pixel = (y: number, x: number, c: number) => bytes[example * RECORD_BYTES + 1 + c * 1024 + y * 32 + x]!;
    const padded = Array.from({ length: 40 }, (_, y) =>
      Array.from({ length: 40 }, (_, x) =>
        [0, 1, 2].map((c) => (y >= 4 && y < 36 && x >= 4 && x < 36 ? pixel(y - 4, x - 4, c) : 0)),
      ),
    );
    const cropped = padded.slice(top, top + 32).map((row) => row.slice(left, left + 32));
    const values = cropped.flatMap((row) => (flip ? row.toReversed() : row)).flat();
    const mean = values.reduce((a, b) => a + b) / 3072;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 3072);
    return Float64Array.from(values, (value) => (value - mean) / Math.max(deviation, 1 / Math.sqrt(3072)));
  }

  it('pads by 4, crops, mirrors and standardizes as described, for every draw', () => {
    const bytes = records(3);
    const draw = fc.record({
      top: fc.integer({ min: 0, max: 8 }),
      left: fc.integer({ min: 0, max: 8 }),
      flip: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 }), draw, (example, augmentation) => {
        const offset = 7;
        const out = new Float32Array(offset + IMAGE_BYTES + 1).fill(99);
        prepareImage(bytes, example, out, offset, augmentation);
        const expected = reference(bytes, example, augmentation);
        for (let i = 0; i < IMAGE_BYTES; i++)
          assert.ok(Math.abs(out[offset + i]! - expected[i]!) < 1e-5, `element ${i}`);
        assert.deepEqual([out[offset - 1], out[offset + IMAGE_BYTES]], [99, 99]);
      }),
    );
  });

  it('draws every corner and both directions equally often, anew in every epoch, the same for the same seed', () => {
    const counts = new Map<string, number>();
    const bump = (key: string) => counts.set(key, (counts.get(key) ?? 0) + 1);
    const draws = 81 * 200;
    for (let example = 0; example < draws; example++) {
      const { top, left, flip } = drawAugmentation(3, 0, example);
      bump(`corner ${top} ${left}`);
      bump(`flip ${flip}`);
    }
    for (let top = 0; top < 9; top++) {
      for (let left = 0; left < 9; left++) {
        // Six standard deviations of a binomial with mean 200.
        assert.ok(
          Math.abs((counts.get(`corner ${top} ${left}`) ?? 0) - 200) < 6 * Math.sqrt(200),
          `corner ${top} ${left}`,
        );
      }
    }
    assert.ok(Math.abs(counts.get('flip true')! - draws / 2) < 3 * Math.sqrt(draws));
    const of = (seed: number, epoch: number) => Array.from({ length: 20 }, (_, i) => drawAugmentation(seed, epoch, i));
    assert.deepEqual(of(3, 1), of(3, 1));
    assert.notDeepEqual(of(3, 1), of(3, 2));
    assert.notDeepEqual(of(3, 1), of(4, 1));
    const unflipped = Array.from({ length: 20 }, (_, i) => drawAugmentation(3, 1, i, false));
    assert.deepEqual(
      unflipped,
      of(3, 1).map((draw) => ({ ...draw, flip: false })),
    );
  });
});

describe('files', () => {
  const failure = (pattern: RegExp) => (error: Error) => error instanceof DataError && pattern.test(error.message);

  it('are read in order, from the folder itself or from the archive’s folder inside it', () => {
    for (const target of [folder, join(folder, 'cifar-10-batches-bin')]) {
      writeDataSet(target, 2);
      const train = readCifar10(folder, true);
      assert.equal(train.count, 10);
      assert.ok(train.records.buffer instanceof SharedArrayBuffer);
      const expected = Buffer.concat([1, 2, 3, 4, 5].map((i) => records(2, i)));
      assert.ok(Buffer.from(train.records).equals(expected));
      assert.ok(Buffer.from(readCifar10(folder, false).records).equals(Buffer.from(records(2, 6))));
      assert.deepEqual([countCifar10(folder, true), countCifar10(folder, false)], [10, 2]);
    }
  });

  it('a folder that is missing is upstream’s error, with what to do', () => {
    assert.throws(
      () => readCifar10(join(folder, 'nowhere'), true),
      failure(
        /^Run cifar10_download_and_extract\.py first to download and extract the CIFAR-10 data\.\nhelp: there is no folder .*nowhere; `lockstep download-cifar10/,
      ),
    );
  });

  it('a file that is missing is named', () => {
    writeDataSet();
    rmSync(join(folder, 'data_batch_3.bin'));
    assert.throws(() => cifar10Files(folder, true), failure(/data_batch_3\.bin is missing\.\nhelp:/));
    rmSync(join(folder, 'test_batch.bin'));
    assert.throws(() => readCifar10(folder, false), failure(/test_batch\.bin is missing/));
  });

  it('a file that is cut off, empty or of another size is named, with its size', () => {
    for (const size of [0, 1, RECORD_BYTES - 1, 2 * RECORD_BYTES + 1]) {
      writeDataSet();
      truncateSync(join(folder, 'data_batch_2.bin'), size);
      assert.throws(
        () => readCifar10(folder, true),
        failure(new RegExp(`data_batch_2\\.bin has ${size} bytes, .*help:`, 's')),
      );
    }
  });

  it('a label out of range is an error that names file, record and label', () => {
    writeDataSet();
    const bytes = records(3, 4);
    bytes[2 * RECORD_BYTES] = 10;
    writeFileSync(join(folder, 'data_batch_4.bin'), bytes);
    assert.throws(
      () => readCifar10(folder, true),
      failure(/data_batch_4\.bin: record 2 has label 10, which is not in 0\.\.9\.\nhelp:/),
    );
  });

  it('what is no file, or no folder, is named for what it is, and nothing waits for it', () => {
    const file = () => join(folder, 'data_batch_2.bin');
    const odd: [string, RegExp, () => void][] = [
      ['a named pipe', /data_batch_2\.bin is a named pipe, not a file/, () => execFileSync('mkfifo', [file()])],
      ['a folder', /data_batch_2\.bin is a folder, not a file/, () => mkdirSync(file())],
      ['a device', /data_batch_2\.bin is a device, not a file/, () => symlinkSync('/dev/zero', file())],
      [
        'a link to itself',
        /data_batch_2\.bin cannot be read: its links form a circle/,
        () => symlinkSync(file(), file()),
      ],
      ['a link to nothing', /data_batch_2\.bin is missing/, () => symlinkSync('nothing', file())],
    ];
    for (const [what, pattern, make] of odd) {
      writeDataSet();
      rmSync(file());
      make();
      assert.throws(() => readCifar10(folder, true), failure(new RegExp(`${pattern.source}.*\nhelp: `, 's')), what);
      rmSync(file(), { recursive: true });
    }
    const plain = join(folder, 'plain');
    writeFileSync(plain, '');
    assert.throws(() => readCifar10(plain, true), failure(/plain is a file, and --data_dir must be a folder/));
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    assert.throws(() => readCifar10(pipe, true), failure(/pipe is a named pipe, and --data_dir must be a folder/));
  });

  it('numbers of files may be anything: the first that is missing is named', () => {
    for (const number of ['7', '99999999', '4294967296', '99999999999999999999']) {
      writeDataSet();
      const extra = join(folder, `data_batch_${number}.bin`);
      writeFileSync(extra, records(2, 1));
      assert.throws(() => readCifar10(folder, true), failure(/data_batch_6\.bin is missing/), number);
      rmSync(extra);
    }
    writeFileSync(join(folder, 'data_batch_06.bin'), records(2, 1));
    assert.equal(countCifar10(folder, true), 15, 'a number is written in one way');
  });

  it('more than memory holds is an error before it is allocated', () => {
    writeDataSet();
    truncateSync(join(folder, 'data_batch_1.bin'), RECORD_BYTES * 1e9);
    assert.throws(() => readCifar10(folder, true), failure(/have 3073\.0 GB together, which does not fit into memory/));
  });
});
