/**
 * CIFAR-10's binary files in memory: 3,073-byte records, one label byte and 3×32×32 pixel bytes in planes of red, green, blue
 * (https://www.cs.toronto.edu/~kriz/cifar.html). Images stay bytes; the input pipeline makes floats of them. Memory is
 * shared, so all replicas of a process read one copy.
 */
import { closeSync, openSync, readdirSync, readSync, type Stats, statSync } from 'node:fs';
import { totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { kindOf, reasonOf } from '../utils/files/file-errors.js';
import { readCifar10Names } from './cifar10-names.js';
import { DataError } from './data-error.js';
import type { DataSet } from './data-set.js';

export const HEIGHT = 32;
export const WIDTH = 32;
export const CHANNELS = 3;
export const NUM_CLASSES = 10;
/** Bytes of an image, and of a record: a label and an image. */
export const IMAGE_BYTES = HEIGHT * WIDTH * CHANNELS;
export const RECORD_BYTES = 1 + IMAGE_BYTES;
/** Examples of the official data set. */
export const NUM_IMAGES = { train: 50_000, validation: 10_000 } as const;

export { DataError };

/** The kernel reads less than 2 GiB at once. */
const LARGEST_READ = 2 ** 30;

/** The folder inside the official archive. */
const ARCHIVE_FOLDER = 'cifar-10-batches-bin';

/** Records of one split, shareable between threads. */
export interface Cifar10Data {
  /** count × 3073 bytes. */
  readonly records: Uint8Array;
  readonly count: number;
}

/**
 * The files of a split; data_batch_1 … n as far as they are there. Every one exists and is a plain file.
 * @throws DataError if the folder or a file is missing, or is something else.
 */
export function cifar10Files(dataDir: string, isTraining: boolean): string[] {
  const outer = look(dataDir);
  const inside = outer?.isDirectory() ? look(join(dataDir, ARCHIVE_FOLDER)) : undefined;
  const [folder, stats] = inside ? [join(dataDir, ARCHIVE_FOLDER), inside] : [dataDir, outer];
  if (!stats) {
    throw new DataError(
      'Run cifar10_download_and_extract.py first to download and extract the CIFAR-10 data.\n' +
        `help: there is no folder ${dataDir}; \`lockstep download-cifar10 --data_dir=${dataDir}\` fetches the data, ` +
        '--use_synthetic_data needs none.',
    );
  }
  if (!stats.isDirectory())
    throw new DataError(`${folder} is ${kindOf(stats)}, and --data_dir must be a folder.\n${FETCH(dataDir)}`);
  if (!isTraining) return [requireFile(join(folder, 'test_batch.bin'), dataDir)];
  const numbers = list(folder).flatMap((name) => Number(/^data_batch_([1-9]\d*)\.bin$/.exec(name)?.[1] ?? []));
  const last = Math.max(5, ...numbers);
  const files: string[] = [];
  // The first one that is missing ends it: numbers may be anything.
  for (let number = 1; number <= last; number++) {
    files.push(requireFile(join(folder, `data_batch_${number}.bin`), dataDir));
  }
  return files;
}

const FETCH = (dataDir: string) =>
  `help: \`lockstep download-cifar10 --data_dir=${dataDir}\` fetches and unpacks the data set again.`;

function requireFile(file: string, dataDir: string): string {
  const stats = look(file);
  if (!stats) throw new DataError(`${file} is missing.\n${FETCH(dataDir)}`);
  if (!stats.isFile()) throw new DataError(`${file} is ${kindOf(stats)}, not a file.\n${FETCH(dataDir)}`);
  return file;
}

/** What a path leads to; undefined: nothing. @throws DataError where it cannot be known. */
function look(path: string): Stats | undefined {
  return naming(path, () => statSync(path, { throwIfNoEntry: false }));
}

function list(folder: string): string[] {
  return naming(folder, () => readdirSync(folder));
}

/** Errors of the file system with the path and what to do. */
function naming<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(
      `${path} cannot be read: ${reasonOf(error)}.\nhelp: see what it is with \`ls -l\`; --data_dir names the folder of the data.`,
      { cause: error },
    );
  }
}

/**
 * Reads a split into shared memory and checks every label.
 * @throws DataError naming the file: missing, cut off, empty, or with a label outside 0..9.
 */
export function readCifar10(dataDir: string, isTraining: boolean): Cifar10Data {
  const files = cifar10Files(dataDir, isTraining);
  const sizes = files.map((file) => recordCount(file));
  const count = sizes.reduce((a, b) => a + b, 0);
  const records = allocate(count * RECORD_BYTES, dataDir);
  let offset = 0;
  for (const [index, file] of files.entries()) {
    const bytes = (sizes[index] as number) * RECORD_BYTES;
    readFully(file, records, offset, bytes);
    checkLabels(file, records, offset, sizes[index] as number);
    offset += bytes;
  }
  return { records, count };
}

/** What the reader reads from. */
export interface Cifar10Source {
  /** count × 3073 bytes, in shared memory. */
  readonly records: Uint8Array;
}

/** A split for the input pipeline. @throws DataError naming the file: missing, cut off, empty, or with a label outside 0..9. */
export function openCifar10(dataDir: string, isTraining: boolean): DataSet {
  const data = readCifar10(dataDir, isTraining);
  return cifar10DataSet(data, cifar10Names(dataDir));
}

/** What its classes are called. @throws DataError if the file that says so says something else */
export function cifar10Names(dataDir: string): readonly string[] {
  const [file] = cifar10Files(dataDir, false) as [string];
  return readCifar10Names(dirname(file));
}

/** Records in memory as a data set. */
export function cifar10DataSet({ records, count }: Cifar10Data, classNames?: readonly string[]): DataSet {
  return {
    name: 'CIFAR-10',
    count,
    numClasses: NUM_CLASSES,
    ...(classNames && { classNames }),
    imageShape: [HEIGHT, WIDTH, CHANNELS],
    reader: new URL('./cifar10-reader.js', import.meta.url).href,
    source: { records } satisfies Cifar10Source,
  };
}

/** Examples of a split, without reading them. */
export function countCifar10(dataDir: string, isTraining: boolean): number {
  return cifar10Files(dataDir, isTraining).reduce((sum, file) => sum + recordCount(file), 0);
}

/** The data set's own is 154 MB; what is larger than memory is no data of ours, or not for this reader. */
function allocate(bytes: number, dataDir: string): Uint8Array {
  const gigabytes = (value: number) => `${(value / 1e9).toFixed(1)} GB`;
  try {
    if (bytes < totalmem()) return new Uint8Array(new SharedArrayBuffer(bytes));
  } catch {
    // More than an array can hold.
  }
  throw new DataError(
    `The files in ${dataDir} have ${gigabytes(bytes)} together, which does not fit into memory (${gigabytes(totalmem())}).\n` +
      'help: CIFAR-10 has 154 MB to train on; are these its files?',
  );
}

function recordCount(file: string): number {
  const { size } = naming(file, () => statSync(file));
  if (size > 0 && size % RECORD_BYTES === 0) return size / RECORD_BYTES;
  throw new DataError(
    `${file} has ${size} bytes, which is not a whole number of ${RECORD_BYTES}-byte records: it is ` +
      `${size === 0 ? 'empty' : 'cut off or not CIFAR-10 binary data'}.\nhelp: fetch or unpack it again.`,
  );
}

function readFully(file: string, target: Uint8Array, offset: number, bytes: number): void {
  const descriptor = naming(file, () => openSync(file, 'r'));
  try {
    for (let done = 0; done < bytes; ) {
      const left = Math.min(bytes - done, LARGEST_READ);
      const read = naming(file, () => readSync(descriptor, target, offset + done, left, done));
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
