/** Pictures read back by libvips, an evaluation's details against a table by hand. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inflateSync } from 'node:zlib';
import { DetailsCollector } from '../resnet/replica/evaluation-details.js';
import type { EvaluationDetails } from '../utils/logs/run-observer.js';
import { evaluationSummary } from './evaluation-summary.js';
import { encodePng } from './png.js';

const sharp = await import('sharp').then(
  (module) => module.default,
  () => null,
);

describe('a PNG', () => {
  for (const channels of [1, 2, 3, 4]) {
    it(`of ${channels} channels is read back, pixel by pixel`, {
      skip: sharp === null && 'sharp is not installed',
    }, async () => {
      const [height, width] = [5, 7];
      const pixels = Uint8Array.from({ length: height * width * channels }, (_, i) => (i * 37 + (i >> 3)) & 0xff);
      const picture = encodePng(pixels, [height, width, channels]);
      assert.deepEqual([picture.height, picture.width, picture.channels], [height, width, channels]);
      assert.ok(sharp);
      const { data, info } = await sharp(Buffer.from(picture.bytes)).raw().toBuffer({ resolveWithObject: true });
      // What is grey is read as such, or as three equal colours.
      const step = info.channels / channels;
      assert.deepEqual([info.height, info.width], [height, width]);
      if (step === 1) assert.deepEqual(new Uint8Array(data), pixels);
      else
        assert.deepEqual(
          Uint8Array.from({ length: height * width }, (_, i) => data[i * info.channels] as number),
          pixels.filter((_, i) => i % channels === 0),
        );
    });
  }

  it('is the bytes of RFC 2083: header, one compressed chunk, end', () => {
    const bytes = Buffer.from(encodePng(Uint8Array.of(10, 20, 30, 45), [2, 2, 1]).bytes);
    assert.equal(
      bytes.subarray(0, 33).toString('hex'),
      '89504e470d0a1a0a' + '0000000d49484452' + '0000000200000002' + '0800000000' + '57dd52f8',
    );
    const length = bytes.readUInt32BE(33);
    assert.equal(bytes.toString('latin1', 37, 41), 'IDAT');
    // Each line with its filter, the second as differences.
    assert.deepEqual([...inflateSync(bytes.subarray(41, 41 + length))], [2, 10, 20, 2, 20, 25]);
    assert.equal(bytes.subarray(45 + length).toString('hex'), '0000000049454e44ae426082');
  });

  it('is refused for another number of pixels', () => {
    assert.throws(() => encodePng(new Uint8Array(11), [2, 2, 3]), RangeError);
    assert.throws(() => encodePng(new Uint8Array(20), [2, 2, 5]), RangeError);
    assert.throws(() => encodePng(new Uint8Array(0), [0, 2, 1]), RangeError);
  });
});

/** Logits whose softmax has `probability` at `prediction`, and equal parts elsewhere. */
function logits(classes: number, prediction: number, probability: number): number[] {
  const others = (1 - probability) / (classes - 1);
  return Array.from({ length: classes }, (_, i) => Math.log(i === prediction ? probability : others));
}

function collectorOf(classes: number, imageShape: readonly number[]): DetailsCollector {
  const collector = DetailsCollector.of(classes, imageShape);
  assert.ok(collector);
  return collector;
}

describe("an evaluation's details", () => {
  it('are not collected of tens of thousands of classes, whose table would be gigabytes', () => {
    assert.equal(DetailsCollector.of(21_841, [224, 224, 3]), null);
    assert.equal(collectorOf(1001, [224, 224, 3]).details.confusion.length, 1001 ** 2);
  });

  it('count what was taken for what, and keep the surest mistakes, then what was least sure', () => {
    const collector = collectorOf(3, [1, 2, 1]);
    const cases = [
      [0, 0, 0.9],
      [0, 1, 0.6],
      [1, 1, 0.5],
      [2, 0, 0.8],
      [2, 2, 0.99],
      [1, 1, 0.7],
    ] as const;
    for (const half of [cases.slice(0, 2), cases.slice(2)]) {
      collector.add(
        Float32Array.from(half.flatMap(([, prediction, probability]) => logits(3, prediction, probability))),
        {
          images: Float32Array.from(half.flatMap((_, i) => [-1, i])),
          labels: Int32Array.from(half.map(([label]) => label)),
          size: half.length,
        },
      );
    }
    const { confusion, samples } = collector.details;
    assert.deepEqual([...confusion], [1, 1, 0, 0, 2, 0, 1, 0, 1]);
    assert.deepEqual(
      samples.map(({ label, prediction, probability }) => [label, prediction, Number(probability.toFixed(3))]),
      [
        [2, 0, 0.8],
        [0, 1, 0.6],
        [1, 1, 0.5],
        [1, 1, 0.7],
        [0, 0, 0.9],
        [2, 2, 0.99],
      ],
    );
    // Darkest and brightest of each.
    assert.deepEqual(samples[0]?.pixels, Uint8Array.of(0, 255));
  });

  it('keep sixteen samples, and make large ones small', () => {
    const collector = collectorOf(2, [200, 100, 3]);
    for (let i = 0; i < 40; i++) {
      const images = Float32Array.from({ length: 200 * 100 * 3 }, (_, at) => at % 7);
      collector.add(Float32Array.from(logits(2, 1, 0.6 + i / 200)), { images, labels: Int32Array.of(0), size: 1 });
    }
    const { samples } = collector.details;
    assert.equal(samples.length, 16);
    assert.deepEqual(samples[0]?.shape, [67, 34, 3]);
    assert.equal(samples[0]?.pixels.length, 67 * 34 * 3);
    assert.ok(Math.abs((samples[0]?.probability as number) - 0.795) < 1e-5);
    assert.ok(Math.abs((samples[15]?.probability as number) - 0.72) < 1e-5);
  });

  const details = (
    classes: number,
    confusion: Float64Array,
    more: Partial<EvaluationDetails> = {},
  ): EvaluationDetails => ({ classes, confusion, samples: [], ...more });

  it('become a matrix and its picture', async () => {
    const { texts, images } = evaluationSummary(details(2, Float64Array.of(3, 1, 0, 0), { names: ['a', 'b'] }));
    assert.deepEqual(JSON.parse(texts['evaluation/confusion'] as string), {
      classes: 2,
      images: 4,
      names: { 0: 'a', 1: 'b' },
      matrix: [
        [3, 1],
        [0, 0],
      ],
    });
    assert.deepEqual(Object.keys(images), ['evaluation/confusion_image']);
    if (sharp === null) return;
    const data = await sharp(Buffer.from(images['evaluation/confusion_image']?.bytes as Uint8Array))
      .toColourspace('b-w')
      .raw()
      .toBuffer();
    // 3 of 4, 1 of 4; a row without images is white.
    assert.deepEqual([data[0], data[15], data[15 * 16], data[16 * 16 - 1]], [64, 191, 255, 255]);
  });

  it('of many classes become the most frequent mistakes', () => {
    const confusion = new Float64Array(60 * 60);
    for (let label = 0; label < 60; label++) confusion[label * 61] = 100;
    for (let i = 0; i < 30; i++) confusion[i * 60 + i + 1] = 1 + i;
    const { texts, images } = evaluationSummary(
      details(60, confusion, { names: Array.from({ length: 60 }, (_, i) => `n${i}`) }),
    );
    const { pairs, matrix, names, classes } = JSON.parse(texts['evaluation/confusion'] as string);
    assert.deepEqual(
      [classes, matrix, pairs.length, pairs[0], pairs[19]],
      [60, undefined, 20, [29, 30, 30], [10, 11, 11]],
    );
    assert.deepEqual(
      Object.keys(names).map(Number),
      Array.from({ length: 21 }, (_, i) => i + 10),
    );
    assert.deepEqual(images, {});
  });

  it('become tiles, four in a row', async () => {
    const samples = [1, 2, 3, 4, 5].map((value) => ({
      ...{ label: value, prediction: 0, probability: 0.123456, shape: [2, 3, 1] as const },
      pixels: new Uint8Array(6).fill(value * 10),
    }));
    const { texts, images } = evaluationSummary(details(9, new Float64Array(81), { samples }));
    const { columns, tile, items } = JSON.parse(texts['evaluation/samples'] as string);
    assert.deepEqual(
      [columns, tile, items.length, items[4]],
      [4, [2, 3], 5, { label: 5, prediction: 0, probability: 0.1235 }],
    );
    const picture = images['evaluation/samples_image'];
    assert.deepEqual([picture?.height, picture?.width], [4, 12]);
    if (sharp === null) return;
    const data = await sharp(Buffer.from(picture?.bytes as Uint8Array))
      .toColourspace('b-w')
      .raw()
      .toBuffer();
    assert.deepEqual([data[0], data[3], data[11], data[24], data[27]], [10, 20, 40, 50, 0]);
  });
});
