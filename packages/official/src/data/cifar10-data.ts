/**
 * CIFAR-10's binary files in memory: 3,073-byte records, one label byte and 3×32×32 pixel bytes in planes of red, green, blue
 * (https://www.cs.toronto.edu/~kriz/cifar.html). Images stay bytes; the input pipeline makes floats of them. Memory is
 * shared, so all replicas of a process read one copy.
 */
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';

export const HEIGHT = 32;
export const WIDTH = 32;
export const CHANNELS = 3;
export const NUM_CLASSES = 10;
/** Bytes of an image, and of a record: a label and an image. */
export const IMAGE_BYTES = HEIGHT * WIDTH * CHANNELS;
export const RECORD_BYTES = 1 + IMAGE_BYTES;
/** Examples of the official data set. */
export const NUM_IMAGES = { train: 50_000, validation: 10_000 } as const;

/** The folder inside the official archive. */
const ARCHIVE_FOLDER = 'cifar-10-batches-bin';

/** Records of one split, shareable between threads. */
export interface Cifar10Data {
  /** count × 3073 bytes. */
  readonly records: Uint8Array;
  readonly count: number;
}

/** The data is missing or damaged. The message names the file, what is wrong, and what to do. */
export class DataError extends Error {
  override readonly name = 'DataError';
}

/** The files of a split; data_batch_1 … n as far as they are there. @throws DataError if the folder or a file is missing. */
export function cifar10Files(dataDir: string, isTraining: boolean): string[] {
  const inside = join(dataDir, ARCHIVE_FOLDER);
  const folder = existsSync(inside) ? inside : dataDir;
  if (!existsSync(folder)) {
    throw new DataError(
      'Run cifar10_download_and_extract.py first to download and extract the CIFAR-10 data.\n' +
        `help: there is no folder ${dataDir}; \`lockstep download-cifar10 --data_dir=${dataDir}\` fetches the data, ` +
        '--use_synthetic_data needs none.',
    );
  }
  if (!isTraining) return [requireFile(join(folder, 'test_batch.bin'), dataDir)];
  const present = readdirSync(folder).filter((name) => /^data_batch_\d+\.bin$/.test(name));
  const numbers = present.map((name) => Number(name.match(/\d+/)?.[0])).sort((a, b) => a - b);
  const last = Math.max(5, numbers.at(-1) ?? 0);
  return Array.from({ length: last }, (_, i) => requireFile(join(folder, `data_batch_${i + 1}.bin`), dataDir));
}

function requireFile(file: string, dataDir: string): string {
  if (existsSync(file)) return file;
  throw new DataError(
    `${file} is missing.\nhelp: \`lockstep download-cifar10 --data_dir=${dataDir}\` fetches and unpacks the data set again.`,
  );
}

/**
 * Reads a split into shared memory and checks every label.
 * @throws DataError naming the file: missing, cut off, empty, or with a label outside 0..9.
 */
export function readCifar10(dataDir: string, isTraining: boolean): Cifar10Data {
  const files = cifar10Files(dataDir, isTraining);
  const sizes = files.map((file) => recordCount(file));
  const count = sizes.reduce((a, b) => a + b, 0);
  const records = new Uint8Array(new SharedArrayBuffer(count * RECORD_BYTES));
  let offset = 0;
  for (const [index, file] of files.entries()) {
    const bytes = (sizes[index] as number) * RECORD_BYTES;
    readFully(file, records, offset, bytes);
    checkLabels(file, records, offset, sizes[index] as number);
    offset += bytes;
  }
  return { records, count };
}

/** Examples of a split, without reading them. */
export function countCifar10(dataDir: string, isTraining: boolean): number {
  return cifar10Files(dataDir, isTraining).reduce((sum, file) => sum + recordCount(file), 0);
}

function recordCount(file: string): number {
  const descriptor = openSync(file, 'r');
  try {
    const { size } = fstatSync(descriptor);
    if (size > 0 && size % RECORD_BYTES === 0) return size / RECORD_BYTES;
    throw new DataError(
      `${file} has ${size} bytes, which is not a whole number of ${RECORD_BYTES}-byte records: it is ` +
        `${size === 0 ? 'empty' : 'cut off or not CIFAR-10 binary data'}.\nhelp: fetch or unpack it again.`,
    );
  } finally {
    closeSync(descriptor);
  }
}

function readFully(file: string, target: Uint8Array, offset: number, bytes: number): void {
  const descriptor = openSync(file, 'r');
  try {
    for (let done = 0; done < bytes; ) {
      const read = readSync(descriptor, target, offset + done, bytes - done, done);
      if (read === 0) throw new DataError(`${file} became shorter while it was read: ${done} of ${bytes} bytes.`);
      done += read;
    }
  } finally {
    closeSync(descriptor);
  }
}

function checkLabels(file: string, records: Uint8Array, offset: number, count: number): void {
  for (let record = 0; record < count; record++) {
    const label = records[offset + record * RECORD_BYTES] as number;
    if (label < NUM_CLASSES) continue;
    throw new DataError(
      `${file}: record ${record} has label ${label}, which is not in 0..${NUM_CLASSES - 1}.\n` +
        'help: the file is damaged or not CIFAR-10 binary data; fetch or unpack it again.',
    );
  }
}
