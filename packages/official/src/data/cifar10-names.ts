/** What CIFAR-10's classes are called: by batches.meta.txt, which lies beside its files, or else by the names that it has for them. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '../utils/files/file-errors.js';
import { DataError } from './data-error.js';

export const CIFAR10_NAMES = [
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
] as const;

export const NAMES_FILE = 'batches.meta.txt';
const LARGEST_NAMES = 65_536;

/** @param folder of the binary files @throws DataError if the file is there and has not a name for each class */
export function readCifar10Names(folder: string): readonly string[] {
  const file = join(folder, NAMES_FILE);
  if (!existsSync(file)) return CIFAR10_NAMES;
  const wrong = (what: string) =>
    new DataError(
      `${file} ${what}.\nhelp: ${CIFAR10_NAMES.length} names, one a line, in the order of the labels; or delete it.`,
    );
  let names: string[];
  try {
    const stats = statSync(file);
    if (!stats.isFile() || stats.size > LARGEST_NAMES) throw wrong('is no list of names');
    names = readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw wrong(`cannot be read: ${reasonOf(error)}`);
  }
  if (names.length !== CIFAR10_NAMES.length) throw wrong(`has ${names.length} names`);
  return names;
}
