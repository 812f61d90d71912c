/**
 * `lockstep bench input`: how fast ImageNet's input pipeline prepares images, and what processor time each takes, beside what `sharp` takes
 * to decode and resize the same pictures and nothing else, and beside Pillow where Python has it. In turns; medians count. Without
 * --data_dir the pictures are made: 500 × 375, JPEG of ImageNet's size.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { decodeExample } from '@lockstep/official/data/example';
import { loadSharp } from '@lockstep/official/data/image';
import { openImagenet, placeOf } from '@lockstep/official/data/imagenet-data';
import { openPipeline } from '@lockstep/official/data/input-pipeline';
import { makeImagenetRecords } from '@lockstep/official/data/make-imagenet-records';
import { readRecord } from '@lockstep/official/data/tfrecord';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { Philox } from '@lockstep/official/utils/random/philox';
import { flagMain } from '../flag-main.js';
import { summarize } from './statistics.js';

const PEER = fileURLToPath(new URL('../../peers/pillow_input.py', import.meta.url));
const WIDTH = 500;
const HEIGHT = 375;
/** Makes files of about ImageNet's 110 kB. */
const QUALITY = 92;

/** Of one side. */
interface Rate {
  readonly images_per_second: number;
  /** Processor time of all threads, by image. */
  readonly cpu_ms: number;
}

/** One measurement: `--json` prints it. */
export interface InputBenchReport {
  readonly images: number;
  /** Mean size of a file. */
  readonly bytes: number;
  readonly training: Rate;
  readonly evaluation: Rate;
  readonly sharp: Rate;
  readonly pillow: Rate | null;
  /** Of training's images/s to bare sharp's. */
  readonly ratio: number;
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-input-'));
    try {
      const report = await measure(flags, folder);
      process.stdout.write(flags.get('json' as never) ? `${JSON.stringify(report)}\n` : format(report));
      return 0;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench input',
    summary: "ImageNet's input pipeline beside sharp's bare decode and resize, and beside Pillow (python3-pil).",
  });
  const key = true;
  flags.DEFINE_string({ name: 'data_dir', shortName: 'dd', default: '', key, help: 'Folder of records; empty: made.' });
  flags.DEFINE_integer({ name: 'images', default: 512, lowerBound: 2, key, help: 'Images of each turn.' });
  flags.DEFINE_integer({ name: 'image_size', default: 224, lowerBound: 32, key, help: 'Height and width wanted.' });
  flags.DEFINE_integer({ name: 'batch_size', shortName: 'bs', default: 32, lowerBound: 1, key, help: 'Images.' });
  flags.DEFINE_integer({
    name: 'datasets_num_private_threads',
    default: 1,
    lowerBound: 1,
    key,
    help: 'Threads of the pipeline; decoding has its own, as many as UV_THREADPOOL_SIZE says (4).',
  });
  flags.DEFINE_integer({ name: 'rounds', default: 3, lowerBound: 1, key, help: 'Turns of each side.' });
  flags.DEFINE_string({ name: 'python', default: '/usr/bin/python3', key, help: 'Interpreter that may have Pillow.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

async function measure(flags: FlagValues, folder: string): Promise<InputBenchReport> {
  const value = <T>(name: string) => flags.get(name as never) as unknown as T;
  const [images, size, rounds] = [value<number>('images'), value<number>('image_size'), value<number>('rounds')];
  const dataDir = value<string>('data_dir') || (await makeRecords(folder, images));
  const open = (isTraining: boolean) =>
    openImagenet({ dataDir, isTraining, numClasses: 2 ** 31 - 1, imageShape: [size, size, 3] });
  const dataSet = open(true);
  const count = Math.min(images, dataSet.count);
  const pictures = await encodedOf(dataSet.source, count);
  const prepare = (isTraining: boolean) =>
    prepareAll(dataSet, count, isTraining, value('batch_size'), value('datasets_num_private_threads'));
  const sides: Record<'training' | 'evaluation' | 'sharp', { run: () => Promise<void>; rates: Rate[] }> = {
    training: { run: () => prepare(true), rates: [] },
    evaluation: { run: () => prepare(false), rates: [] },
    sharp: { run: () => bareSharp(pictures, size), rates: [] },
  };
  for (const { run } of Object.values(sides)) await run();
  for (let round = 0; round < rounds; round++) {
    for (const side of Object.values(sides)) side.rates.push(await timed(side.run, count));
  }
  const median = (rates: readonly Rate[]): Rate => ({
    images_per_second: summarize(rates.map((rate) => rate.images_per_second)).median,
    cpu_ms: summarize(rates.map((rate) => rate.cpu_ms)).median,
  });
  const [training, sharp] = [median(sides.training.rates), median(sides.sharp.rates)];
  return {
    images: count,
    bytes: Math.round(pictures.reduce((sum, { length }) => sum + length, 0) / count),
    training,
    evaluation: median(sides.evaluation.rates),
    sharp,
    pillow: await pillow(value('python'), pictures, folder, size, rounds),
    ratio: training.images_per_second / sharp.images_per_second,
  };
}

async function timed(run: () => Promise<void>, images: number): Promise<Rate> {
  const [begin, cpu] = [performance.now(), process.cpuUsage()];
  await run();
  const seconds = (performance.now() - begin) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { images_per_second: images / seconds, cpu_ms: (user + system) / 1000 / images };
}

/** Everything that a run's input does: records, checksums, decoding, pixels, shared memory. */
async function prepareAll(
  dataSet: ReturnType<typeof openImagenet>,
  count: number,
  isTraining: boolean,
  batchSize: number,
  threads: number,
): Promise<void> {
  const ranges = Array.from({ length: Math.ceil(count / batchSize) }, (_, i) => {
    return [i * batchSize, Math.min(count, (i + 1) * batchSize)] as const;
  });
  const reading = { seed: 1, isTraining, randomFlip: true };
  const input = await openPipeline({ dataSet, schedule: { kind: 'ranges', ranges }, reading, threads });
  try {
    while (input.next() !== null) input.release();
  } finally {
    await input.close();
  }
}

/** As many at once as keep its threads busy. */
async function bareSharp(pictures: readonly Uint8Array[], size: number): Promise<void> {
  const sharp = await loadSharp();
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < pictures.length; i = next++)
      await sharp(pictures[i]).resize(size, size, { fit: 'fill' }).raw().toBuffer();
  };
  await Promise.all(Array.from({ length: 8 }, worker));
}

async function encodedOf(source: ReturnType<typeof openImagenet>['source'], count: number): Promise<Uint8Array[]> {
  return await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const place = placeOf(source, i);
      const feature = decodeExample(await readRecord(place.file, place)).get('image/encoded');
      return feature?.values[0] as Uint8Array;
    }),
  );
}

/** @returns null where Python has no Pillow */
async function pillow(
  python: string,
  pictures: readonly Uint8Array[],
  folder: string,
  size: number,
  rounds: number,
): Promise<Rate | null> {
  const files = join(folder, 'pillow');
  mkdirSync(files);
  for (const [i, picture] of pictures.entries()) writeFileSync(join(files, `${i}.jpg`), picture);
  try {
    const words = [PEER, files, '--size', `${size}`, '--workers', `${availableParallelism()}`, '--rounds', `${rounds}`];
    const { stdout } = await promisify(execFile)(python, words);
    return JSON.parse(stdout) as Rate;
  } catch {
    return null;
  }
}

/** Clouds of several sizes with grain, which compress as photographs do. */
async function makeRecords(folder: string, count: number): Promise<string> {
  const sharp = await loadSharp();
  const pictures = join(folder, 'pictures');
  for (const name of ['a', 'b']) mkdirSync(join(pictures, name), { recursive: true });
  await Promise.all(
    Array.from({ length: count }, async (_, i) => {
      const random = new Philox(1, [6, i]);
      const layer = async (width: number, height: number) => {
        const bytes = Uint8Array.from({ length: 3 * width * height }, () => random.integer(256));
        const raw = { width, height, channels: 3 as const };
        return await sharp(bytes, { raw }).resize(WIDTH, HEIGHT, { fit: 'fill', kernel: 'cubic' }).raw().toBuffer();
      };
      const layers = [await layer(8, 6), await layer(60, 45), await layer(250, 188)] as const;
      const pixels = layers[0].map((value, at) => 0.6 * value + 0.25 * layers[1][at]! + 0.15 * layers[2][at]!);
      await sharp(pixels, { raw: { width: WIDTH, height: HEIGHT, channels: 3 } })
        .jpeg({ quality: QUALITY })
        .toFile(join(pictures, i % 2 === 0 ? 'a' : 'b', `${i}.jpg`));
    }),
  );
  const records = join(folder, 'records');
  await makeImagenetRecords(pictures, records, { validationFraction: Math.max(0.01, 2 / count) });
  return records;
}

function format({ images, bytes, training, evaluation, sharp, pillow: peer, ratio }: InputBenchReport): string {
  const row = (name: string, { images_per_second: rate, cpu_ms: cpu }: Rate) =>
    `  ${name.padEnd(38)}${rate.toFixed(1).padStart(8)} images/s ${cpu.toFixed(2).padStart(7)} ms of processor time each`;
  return [
    `${images} images of ${(bytes / 1000).toFixed(0)} kB on average, ${availableParallelism()} cores`,
    row('training: record, box, resize, mirror', training),
    row('evaluation: record, centre, resize', evaluation),
    row('sharp alone: decode, resize', sharp),
    peer ? row('Pillow: decode, box, resize, mirror', peer) : '  Pillow: not measured (apt-get install python3-pil)',
    `  training / sharp alone                ${ratio.toFixed(2).padStart(8)}`,
    '',
  ].join('\n');
}
