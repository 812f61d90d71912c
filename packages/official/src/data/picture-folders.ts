/**
 * Pictures as people keep them: a folder for each class. `DIR/<class>/…`, of which a part is held out for validation, or
 * `DIR/train/<class>/…` beside `DIR/validation/<class>/…` (or `val`), as ImageNet is unpacked. It looks at names, not into files.
 */
import { type Dirent, readdirSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { kindOf, reasonOf } from '../utils/files/file-errors.js';
import { quoted } from '../utils/files/quoted.js';
import { Philox } from '../utils/random/philox.js';
import { shuffle } from '../utils/random/shuffle.js';
import { DataError } from './data-error.js';

const ENDINGS: ReadonlySet<string> = new Set(['.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp']);
const VALIDATION_FOLDERS = ['validation', 'val'];
const SPLIT_STREAM = 5;

export interface Picture {
  readonly path: string;
  /** Index of its class in {@link PictureFolders.classes}. */
  readonly index: number;
}

export interface PictureFolders {
  /** Names of the folders, in the order of their characters. */
  readonly classes: readonly string[];
  /** Shuffled. */
  readonly train: readonly Picture[];
  readonly validation: readonly Picture[];
  /** Files beside the pictures that are none, by their names. */
  readonly others: number;
}

/**
 * @param options.validationFraction of each class, where the folder does not say which pictures are held out; at least one of each stays
 * to train on
 * @param options.seed decides which they are, and the order
 * @throws DataError: no folder, fewer than two classes, a class without pictures, classes to validate that are not trained
 */
export function findPictures(dir: string, options: { validationFraction: number; seed: number }): PictureFolders {
  const top = foldersIn(dir);
  const held = VALIDATION_FOLDERS.find((name) => top.includes(name));
  if (top.includes('train') && held) return joined(join(dir, 'train'), join(dir, held), options.seed);
  const { classes, pictures, others } = picturesBelow(dir, top);
  const { train, validation } = holdOut(pictures, options);
  if (validation.length === 0) {
    throw new DataError(
      `${dir} has ${train.length} pictures in ${classes.length} classes, of which none would be held out for validation.\n` +
        `help: more pictures, or a larger --validation_fraction than ${options.validationFraction}.`,
    );
  }
  return {
    classes,
    train: shuffled(train, options.seed, 0),
    validation: shuffled(validation, options.seed, 1),
    others,
  };
}

function joined(trainDir: string, validationDir: string, seed: number): PictureFolders {
  const train = picturesBelow(trainDir, foldersIn(trainDir));
  const validation = picturesBelow(validationDir, foldersIn(validationDir), 1);
  const index = (name: string) => {
    const found = train.classes.indexOf(name);
    if (found >= 0) return found;
    throw new DataError(
      `${join(validationDir, name)} is a class that ${trainDir} does not have.\nhelp: both have one folder for each class, of the same name.`,
    );
  };
  const indices = validation.classes.map(index);
  const held = validation.pictures.flatMap((pictures, i) =>
    pictures.map((path) => ({ path, index: indices[i] as number })),
  );
  return {
    classes: train.classes,
    train: shuffled(
      train.pictures.flatMap((pictures, i) => pictures.map((path) => ({ path, index: i }))),
      seed,
      0,
    ),
    validation: shuffled(held, seed, 1),
    others: train.others + validation.others,
  };
}

/** Pictures by class. */
function picturesBelow(
  dir: string,
  classes: readonly string[],
  least = 2,
): { readonly classes: readonly string[]; readonly pictures: readonly string[][]; readonly others: number } {
  if (classes.length < least) {
    const few = classes.length === 0 ? 'no folders' : `one folder, ${quoted(classes[0] as string)}`;
    throw new DataError(
      `${dir} has ${few}.\nhelp: put the pictures into one folder for each class, two or more: ${join(dir, 'CLASS', 'picture.jpg')}.`,
    );
  }
  let others = 0;
  const pictures = classes.map((name) => {
    const folder = join(dir, name);
    const files = filesBelow(folder);
    const found = files.filter((path) => ENDINGS.has(extname(path).toLowerCase()));
    others += files.length - found.length;
    if (found.length > 0) return found;
    throw new DataError(
      `${folder} has no pictures${files.length > 0 ? `; ${quoted(files[0] as string)} is none by its name` : ''}.\n` +
        `help: the endings are ${[...ENDINGS].join(', ')}; remove the folder if it is no class.`,
    );
  });
  return { classes, pictures, others };
}

/** A part of each class. */
function holdOut(
  pictures: readonly string[][],
  { validationFraction, seed }: { validationFraction: number; seed: number },
): { train: Picture[]; validation: Picture[] } {
  const train: Picture[] = [];
  const validation: Picture[] = [];
  for (const [index, paths] of pictures.entries()) {
    const mixed = shuffled(paths, seed, 2 + index);
    const held = Math.min(mixed.length - 1, Math.round(mixed.length * validationFraction));
    for (const [i, path] of mixed.entries()) (i < held ? validation : train).push({ path, index });
  }
  return { train, validation };
}

function shuffled<T>(items: readonly T[], seed: number, stream: number): T[] {
  return shuffle([...items], new Philox(seed, [SPLIT_STREAM, stream]));
}

/** Hidden ones are left out. */
function entriesOf(folder: string): Dirent[] {
  try {
    const stats = statSync(folder, { throwIfNoEntry: false });
    if (!stats)
      throw new DataError(`There is no folder ${folder}.\nhelp: name the folder that has one folder for each class.`);
    if (!stats.isDirectory())
      throw new DataError(`${folder} is ${kindOf(stats)}, not a folder.\nhelp: name the folder of the pictures.`);
    const entries = readdirSync(folder, { withFileTypes: true }).filter(({ name }) => !name.startsWith('.'));
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${folder} cannot be read: ${reasonOf(error)}.\nhelp: see what it is with \`ls -l\`.`, {
      cause: error,
    });
  }
}

/** Names; links to folders count. */
function foldersIn(folder: string): string[] {
  return entriesOf(folder).flatMap((entry) => (isFolder(folder, entry) ? [entry.name] : []));
}

function isFolder(folder: string, entry: Dirent): boolean {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  return statSync(join(folder, entry.name), { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Plain files at any depth; a link to a folder is not followed, for it may lead back. */
function filesBelow(folder: string): string[] {
  return entriesOf(folder).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.isFile() || (entry.isSymbolicLink() && !isFolder(folder, entry)) ? [path] : [];
  });
}
