/**
 * Lengths of all records of a split, beside its shards: `train.lengths`, 32 bits each, lowest byte first, in the order of files and
 * records. With it a folder opens without a look at every record, which on a cold disk takes minutes for ImageNet. It is taken only if it
 * fits the sizes of the files to the byte; each record's own length is compared when it is read.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { frameBytes } from './tfrecord.js';

type Split = 'train' | 'validation';

const fileOf = (folder: string, split: Split): string => join(folder, `${split}.lengths`);

/** @param files of the split, in order @returns lengths by file; null where there is no list, or not of these files */
export function readLengths(folder: string, split: Split, files: readonly string[]): Uint32Array[] | null {
  let bytes: Buffer;
  try {
    bytes = readFileSync(fileOf(folder, split));
  } catch {
    return null;
  }
  if (bytes.length % 4 !== 0) return null;
  const lengths = Uint32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(4 * i));
  const byFile: Uint32Array[] = [];
  let at = 0;
  for (const file of files) {
    const begin = at;
    let left = statSync(file, { throwIfNoEntry: false })?.size ?? -1;
    while (left > 0 && at < lengths.length) left -= frameBytes(lengths[at++] as number);
    if (left !== 0) return null;
    byFile.push(lengths.subarray(begin, at));
  }
  return at === lengths.length ? byFile : null;
}

/** @throws the file system's error */
export function writeLengths(folder: string, split: Split, lengths: readonly number[]): void {
  const bytes = Buffer.alloc(4 * lengths.length);
  for (const [i, length] of lengths.entries()) bytes.writeUInt32LE(length, 4 * i);
  writeFileSync(fileOf(folder, split), bytes);
}
