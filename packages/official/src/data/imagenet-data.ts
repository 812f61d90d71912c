/**
 * A folder of ImageNet in TFRecord shards, or of one's own pictures in the same form: train-00000-of-01024 …, validation-00000-of-00128 …,
 * and labels.txt with the name of each class where `make-imagenet-records` made them. Opening finds the place of every record; images stay
 * on disk. Any record can be read then, so that an epoch is a shuffle of the whole set, not of files and a window, and work can be split among any number of workers and replicas without changing it.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { kindOf, reasonOf } from '../utils/files/file-errors.js';
import { quoted } from '../utils/files/quoted.js';
import { DataError } from './data-error.js';
import type { DataSet } from './data-set.js';
import { readLengths } from './record-lengths.js';
import { noSkippedRecords, type SkippedRecords } from './skipped-records.js';
import { frameBytes, recordPlaces } from './tfrecord.js';

/** ImageNet's: 1 … 1000, and 0 for what is none of them. */
export const IMAGENET_CLASSES = 1001;
export const LABELS_FILE = 'labels.txt';
/** A list of names is no gigabyte. */
const LARGEST_LABELS = 2 ** 24;

/** What the reader reads from. */
export interface ImagenetSource {
  readonly files: readonly string[];
  /** By file: number of its first record; one more at the end. */
  readonly firsts: Uint32Array;
  /** By record: of its frame in its file, and bytes of what it holds. */
  readonly offsets: Float64Array;
  readonly lengths: Uint32Array;
  readonly numClasses: number;
  readonly size: { readonly height: number; readonly width: number };
  readonly skipped: SkippedRecords;
}

export interface ImagenetOptions {
  readonly dataDir: string;
  readonly isTraining: boolean;
  readonly numClasses: number;
  readonly imageShape: DataSet['imageShape'];
  /** Records that may be bad; each is counted, and another takes its place. Default 0. */
  readonly skipBadRecords?: number;
}

/** A split for the input pipeline. @throws DataError naming the folder or file: missing, incomplete, empty, cut off, damaged */
export function openImagenet({
  dataDir,
  isTraining,
  numClasses,
  imageShape,
  skipBadRecords = 0,
}: ImagenetOptions): DataSet & { readonly source: ImagenetSource } {
  const classNames = readClassNames(dataDir);
  const files = imagenetFiles(dataDir, isTraining);
  const [height, width] = imageShape;
  const index = indexRecords(dataDir, isTraining, files);
  const count = index.offsets.length;
  if (count === 0) throw new DataError(`${files[0]}: it and all other files of its kind are empty.\n${MAKE}`);
  const skipped = noSkippedRecords(count, skipBadRecords);
  return {
    name: 'ImageNet',
    count,
    numClasses,
    ...(classNames && { classNames }),
    imageShape,
    reader: new URL('./imagenet-reader.js', import.meta.url).href,
    source: { files, ...index, numClasses, size: { height, width }, skipped },
  };
}

const MAKE = 'help: `lockstep make-imagenet-records PICTURES FOLDER` makes records of folders of pictures.';

/**
 * The shards of a split, in order.
 * @throws DataError if the folder is missing or none, has no shards of this split, not all of them, or those of two sets
 */
export function imagenetFiles(dataDir: string, isTraining: boolean): string[] {
  const split = isTraining ? 'train' : 'validation';
  const names = list(dataDir).filter((name) => name.startsWith(`${split}-`));
  const shards = names.flatMap((name) => {
    const [, number, of] = /-(\d{5})-of-(\d{5})$/.exec(name) ?? [];
    return name.length === split.length + '-00000-of-00000'.length && of
      ? [{ number: Number(number), of: Number(of) }]
      : [];
  });
  if (shards.length === 0) {
    const odd = names.length > 0 ? `; ${quoted(names[0] as string)} is no such name` : '';
    throw new DataError(`${dataDir} has no files ${split}-00000-of-…${odd}.\n${MAKE}`);
  }
  const [count, other] = [...new Set(shards.map(({ of }) => of))] as [number, number?];
  if (other !== undefined) {
    throw new DataError(
      `${dataDir} has files ${shardName(split, 0, count)} and ${shardName(split, 0, other)}: two sets in one folder.\n` +
        'help: leave one of them there.',
    );
  }
  const there = new Set(shards.map(({ number }) => number));
  const all = Array.from({ length: count }, (_, number) => number);
  const missing = all.filter((number) => !there.has(number));
  if (missing.length > 0 || shards.some(({ number }) => number >= count)) {
    const [first = Math.max(...there)] = missing;
    const what =
      missing.length > 0
        ? `is missing${missing.length > 1 ? `, and ${missing.length - 1} more` : ''}`
        : 'is one too many';
    throw new DataError(
      `${join(dataDir, shardName(split, first, count))} ${what}.\nhelp: copy the whole set, or make it again.`,
    );
  }
  return all.map((number) => join(dataDir, shardName(split, number, count)));
}

/** 'train-00000-of-01024' */
export function shardName(split: string, number: number, count: number): string {
  const digits = (value: number) => String(value).padStart(5, '0');
  return `${split}-${digits(number)}-of-${digits(count)}`;
}

/** Names of the classes, by label; null where the folder has no labels.txt. @throws DataError if there is no name in a line */
export function readClassNames(dataDir: string): string[] | null {
  const file = join(dataDir, LABELS_FILE);
  if (!existsSync(file)) return null;
  const wrong = (what: string) => new DataError(`${file} ${what}.\nhelp: one name a line, in the order of the labels.`);
  try {
    const stats = statSync(file);
    if (!stats.isFile()) throw wrong(`is ${kindOf(stats)}, not a file`);
    if (stats.size > LARGEST_LABELS) throw wrong(`has ${stats.size} bytes, which are no names of classes`);
    const lines = readFileSync(file, 'utf8')
      .replace(/\r?\n$/, '')
      .split(/\r?\n/);
    const empty = lines.findIndex((line) => line.trim() === '');
    if (empty !== -1) throw wrong(lines.length === 1 ? 'is empty' : `has no name in line ${empty + 1}`);
    return lines;
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw wrong(`cannot be read: ${reasonOf(error)}`);
  }
}

function list(dataDir: string): string[] {
  try {
    const stats = statSync(dataDir, { throwIfNoEntry: false });
    if (!stats) throw new DataError(`There is no folder ${dataDir}.\n${MAKE}\n      --use_synthetic_data needs none.`);
    if (!stats.isDirectory()) {
      throw new DataError(`${dataDir} is ${kindOf(stats)}, and --data_dir must be a folder.\n${MAKE}`);
    }
    return readdirSync(dataDir);
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(
      `${dataDir} cannot be read: ${reasonOf(error)}.\nhelp: --data_dir names the folder of the data.`,
      {
        cause: error,
      },
    );
  }
}

/** Of all files, in shared memory: by the list of lengths if there is one, else walking from record to record. */
function indexRecords(
  dataDir: string,
  isTraining: boolean,
  files: readonly string[],
): Pick<ImagenetSource, 'firsts' | 'offsets' | 'lengths'> {
  const known = readLengths(dataDir, isTraining ? 'train' : 'validation', files);
  const byFile = known ?? files.map((file) => Uint32Array.from(Array.from(recordPlaces(file), ({ length }) => length)));
  const count = byFile.reduce((sum, { length }) => sum + length, 0);
  const firsts = new Uint32Array(new SharedArrayBuffer(4 * (files.length + 1)));
  const offsets = new Float64Array(new SharedArrayBuffer(8 * count));
  const lengths = new Uint32Array(new SharedArrayBuffer(4 * count));
  let record = 0;
  for (const [file, ofFile] of byFile.entries()) {
    lengths.set(ofFile, record);
    let offset = 0;
    for (const length of ofFile) {
      offsets[record++] = offset;
      offset += frameBytes(length);
    }
    firsts[file + 1] = record;
  }
  return { firsts, offsets, lengths };
}

/** Where a record lies. */
export function placeOf(
  { files, firsts, offsets, lengths }: ImagenetSource,
  record: number,
): { readonly file: string; readonly offset: number; readonly length: number } {
  // The last file that begins with this record or before it; one without records is passed over.
  let [low, high] = [0, files.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((firsts[middle] as number) <= record) low = middle;
    else high = middle - 1;
  }
  return { file: files[low] as string, offset: offsets[record] as number, length: lengths[record] as number };
}
