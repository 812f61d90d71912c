/**
 * Checkpoints of a run: `ckpt-<step>`, or what a format calls them, with its ending or endings in the model folder. A checkpoint appears
 * whole or not at all: it is written to temporary names, synced to disk, and renamed. Its SHA-256 stands in its own metadata, unless its
 * format checks every byte, so a file that was damaged later is noticed, named, and passed over for the one before it; so is whatever else
 * bears such a name. Only whole ones count when old ones are deleted, and the one just written never is. One format is written; those that
 * are read may be several, and the newest step counts.
 *
 * One process writes at a time: model-dir-lock.ts sees to it. Any number may read meanwhile.
 */
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, renameSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '../files/file-errors.js';
import { makeFolder } from '../files/make-folder.js';
import { quoted } from '../files/quoted.js';
import { deleteFile, isAlive, syncFolder, writeSynced } from '../files/synced-files.js';
import type { CheckpointFormat } from './checkpoint-format.js';
import { Names } from './checkpoint-names.js';
import { FORMATS } from './formats.js';
import { pieces, type StoredTensor, type TensorFile, TensorFileError } from './safetensors.js';

export interface CheckpointManagerOptions {
  /** Checkpoints kept; older ones are deleted after a new one is safe. Default 5. */
  readonly maxToKeep?: number;
  /** Of what is written. Default: the first of FORMATS, safetensors. */
  readonly format?: CheckpointFormat;
  /** Of what is read, found and deleted. Default: what is written, alone. */
  readonly formats?: readonly CheckpointFormat[];
  /** Told about damaged checkpoints that are passed over, and old ones that cannot be deleted. Default: standard error. */
  readonly warn?: (line: string) => void;
  /** What a checkpoint must be beside whole. Throws TensorFileError; such a one is passed over like a damaged one. */
  readonly validate?: (file: TensorFile, step: number) => void;
  /** Whether it may be deleted when it is old. Default: all may. */
  readonly isOwn?: (file: TensorFile) => boolean;
}

/** A checkpoint that was read. */
export interface Checkpoint extends TensorFile {
  readonly path: string;
  readonly step: number;
}

/** A checkpoint could not be written. What was there before is untouched. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError';
}

/** A checkpoint that is there, whole or not. */
interface Place {
  readonly step: number;
  readonly names: Names;
}
const CHECKSUM = 'sha256';
/** A folder whose checkpoints vanish while they are looked at (another process rotates them) is looked at again. */
const LOOKS = 3;

/** Writes, finds and deletes a folder's checkpoints. */
export class CheckpointManager {
  readonly #maxToKeep: number;
  /** Of the format that is written. */
  readonly #written: Names;
  /** Of all that are read, that one last: of two checkpoints of one step it counts. */
  readonly #names: readonly Names[];
  readonly #warn: (line: string) => void;
  readonly #validate: (file: TensorFile, step: number) => void;
  readonly #isOwn: (file: TensorFile) => boolean;
  /** Which files are known to be whole, or not; a file that changes is another one. */
  readonly #isWhole = new Map<string, boolean>();

  constructor(
    readonly directory: string,
    options: CheckpointManagerOptions = {},
  ) {
    this.#maxToKeep = options.maxToKeep ?? 5;
    this.#warn = options.warn ?? ((line) => process.stderr.write(`${line}\n`));
    this.#validate = options.validate ?? (() => {});
    this.#isOwn = options.isOwn ?? (() => true);
    const format = options.format ?? FORMATS[0];
    const others = (options.formats ?? []).filter((other) => other !== format);
    this.#names = [...others, format].map((one) => new Names(one, directory));
    this.#written = this.#names.at(-1) as Names;
    if (!Number.isInteger(this.#maxToKeep) || this.#maxToKeep < 1) {
      throw new RangeError(`keep_checkpoint_max must be a positive integer, got ${options.maxToKeep}.`);
    }
  }

  /** Steps of the checkpoints that are there, whole or not, oldest first. @throws CheckpointError if the folder cannot be read. */
  steps(): number[] {
    return [...new Set(this.#places().map(({ step }) => step))];
  }

  /** Of the file that makes the checkpoint of a step whole, in the format that is written. */
  path(step: number): string {
    return this.#written.path(step);
  }

  /** Oldest first; of one step the format that is written comes last. */
  #places(): Place[] {
    const files = this.#files();
    return this.#names
      .flatMap((names) => files.flatMap((file) => names.stepOf(file) ?? []).map((step) => ({ step, names })))
      .sort((a, b) => a.step - b.step);
  }

  /**
   * Writes a checkpoint and deletes the oldest whole ones beyond the limit, never the one just written.
   * @returns its path
   * @throws CheckpointError (no permission, disk full, …); then older checkpoints are all still there.
   */
  save(step: number, { tensors, metadata }: TensorFile): string {
    const path = this.path(step);
    const { format } = this.#written;
    const files = this.#written.paths(step).map((file) => ({ file, temporary: `${file}.${process.pid}.tmp` }));
    try {
      makeFolder(this.directory);
      const contents = format.encode({
        tensors,
        metadata: format.hasChecksums ? metadata : { ...metadata, [CHECKSUM]: checksum(tensors, metadata) },
      });
      for (const [i, { temporary }] of files.entries()) writeSynced(temporary, contents[i] as Iterable<Uint8Array>);
      for (const { file, temporary } of files) {
        this.#makeWay(file);
        renameSync(temporary, file);
      }
      syncFolder(this.directory);
    } catch (error) {
      for (const { temporary } of files) remove(temporary);
      throw new CheckpointError(
        `Checkpoint ${path} could not be written: ${reasonOf(error)}.\n` +
          `help: make room or choose another --model_dir; ${this.#present()}.`,
        { cause: error },
      );
    }
    const place = { step, names: this.#written };
    this.#isWhole.set(identityOf(place, statSync(path)), true);
    // Lists of formats of which one came or went.
    for (const names of new Set([this.#written, ...this.#rotate(place)])) this.#list(names, step);
    this.#sweep();
    return path;
  }

  /** The newest checkpoint that is whole, or null. Others are named and passed over. */
  latest(): Checkpoint | null {
    for (let look = 1; ; look++) {
      let hasVanished = false;
      for (const [i, place] of this.#places().reverse().entries()) {
        const { step } = place;
        const path = place.names.path(step);
        try {
          return { path, step, ...this.#read(place) };
        } catch (error) {
          if (!(error instanceof TensorFileError)) throw error;
          if (lstatSync(path, { throwIfNoEntry: false }) === undefined) {
            hasVanished = true;
            continue;
          }
          const isOldest = i === this.#places().length - 1;
          this.#warn(
            `Checkpoint ${path} ${error.message}; it is passed over${isOldest ? '' : ' for the one before it'}.`,
          );
        }
      }
      if (!hasVanished || look === LOOKS) break;
    }
    for (const name of this.#files()) {
      if (!this.#names.some((names) => names.isAlike(name))) continue;
      this.#warn(`${quoted(name)} in ${this.directory} is passed over: no run gives a checkpoint such a number.`);
    }
    return null;
  }

  #read({ step, names }: Place): TensorFile {
    const file = verified(names.format, names.paths(step));
    this.#validate(file, step);
    return file;
  }

  #files(): string[] {
    try {
      return readdirSync(this.directory);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Not there yet, or not a folder: saving says which.
      if (code === 'ENOENT' || code === 'ENOTDIR') return [];
      throw new CheckpointError(
        `The folder ${this.directory} cannot be read: ${reasonOf(error)}.\nhelp: choose another --model_dir.`,
        { cause: error },
      );
    }
  }

  /** Whether a checkpoint is whole, what it should be, and our own. Each is read once, those written here not at all. */
  #counts(place: Place): boolean {
    const stat = statSync(place.names.path(place.step), { throwIfNoEntry: false });
    if (!stat?.isFile()) return false;
    const key = identityOf(place, stat);
    let known = this.#isWhole.get(key);
    if (known === undefined) {
      try {
        known = this.#isOwn(this.#read(place));
      } catch (error) {
        if (!(error instanceof TensorFileError)) throw error;
        known = false;
      }
      this.#isWhole.set(key, known);
    }
    return known;
  }

  /** A folder cannot be written over: it gets another name, and is not lost either. */
  #makeWay(path: string): void {
    if (!lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
    let aside = `${path}.set-aside`;
    for (let i = 2; lstatSync(aside, { throwIfNoEntry: false }); i++) aside = `${path}.set-aside-${i}`;
    renameSync(path, aside);
    this.#warn(`A folder stood where checkpoint ${path} belongs; its name is ${aside} now.`);
  }

  /** Damaged ones do not count and are left where they are: whoever wants to look into them can. @returns of what was deleted */
  #rotate(newest: Place): Names[] {
    const others = this.#places().filter(({ step, names }) => step !== newest.step || names !== newest.names);
    if (others.length < this.#maxToKeep) return [];
    const whole = others.filter((place) => this.#counts(place));
    const old = whole.slice(0, Math.max(0, whole.length - (this.#maxToKeep - 1)));
    for (const { step, names } of old) {
      // The file that makes it whole goes first: what is left of one that is half deleted is no checkpoint.
      for (const path of names.paths(step).reverse()) this.#delete(path);
    }
    return old.map(({ names }) => names);
  }

  /** Other programs' list of what is there. Nothing here depends on it, so that one that cannot be written is a warning. */
  #list(names: Names, newest: number): void {
    const { list } = names.format;
    if (!list) return;
    const path = join(this.directory, list.file);
    const steps = this.#places().filter((place) => place.names === names && place.step <= newest);
    if (steps.length === 0) {
      this.#delete(path);
      return;
    }
    const text = list.write(steps.map(({ step }) => names.name(step)));
    const temporary = `${path}.${process.pid}.tmp`;
    try {
      writeSynced(temporary, [new TextEncoder().encode(text)]);
      renameSync(temporary, path);
    } catch (error) {
      remove(temporary);
      this.#warn(`${path} could not be written: ${reasonOf(error)}.`);
    }
  }

  /** Deletes what a process that was killed while it wrote left behind. One that lives may be writing still. */
  #sweep(): void {
    for (const file of this.#files()) {
      const pid = this.#names.map((names) => names.writerOf(file)).find((one) => one !== null);
      if (pid === undefined || pid === null || (pid !== process.pid && isAlive(pid))) continue;
      this.#delete(join(this.directory, file));
    }
  }

  #delete(path: string): void {
    try {
      deleteFile(path);
    } catch (error) {
      this.#warn(`${path} could not be deleted: ${reasonOf(error)}.`);
    }
  }

  #present(): string {
    const newest = this.#places().findLast((place) => this.#counts(place));
    return newest ? `the checkpoint of step ${newest.step} is still there` : 'no checkpoint was saved before';
  }
}

/**
 * Reads one checkpoint: a file (its ending may be left out), or the newest whole one of a folder; where none of the folder's has a name
 * with a step, the one that its list names.
 * @throws CheckpointError if there is none, or it is damaged.
 */
export function readCheckpoint(
  where: string,
  formats: readonly [CheckpointFormat, ...CheckpointFormat[]] = FORMATS,
): TensorFile & { readonly path: string } {
  let found = checkpointAt(where, formats);
  if (found === null) {
    const latest = new CheckpointManager(where, { format: formats[0], formats }).latest();
    if (latest !== null) return latest;
    found = listed(where, formats);
  }
  if (found === null) {
    throw new CheckpointError(
      `There is no checkpoint at ${where}.\n` +
        "help: name a file ckpt-<step>.safetensors, TensorFlow's model.ckpt-<step>, or a model folder.",
    );
  }
  const { format, paths } = found;
  const path = paths.at(-1) as string;
  try {
    return { path, ...verified(format, paths) };
  } catch (error) {
    if (!(error instanceof TensorFileError)) throw error;
    throw new CheckpointError(`Checkpoint ${path} ${error.message}.\nhelp: choose another checkpoint.`);
  }
}

/** A checkpoint's files, in the order of its format's endings. */
interface Files {
  readonly format: CheckpointFormat;
  readonly paths: readonly string[];
}

/** By the path of one of its files, or without an ending; null: there is none. A file with an ending of no format is the first's. */
function checkpointAt(where: string, formats: readonly CheckpointFormat[]): Files | null {
  for (const format of formats) {
    const paths = filesOf(baseOf(where, format), format);
    if (isFile(paths.at(-1) as string)) return { format, paths };
  }
  const [format] = formats;
  return format?.endings.length === 1 && isFile(where) ? { format, paths: [where] } : null;
}

function baseOf(path: string, format: CheckpointFormat): string {
  if (format.base) return format.base(path);
  const ending = format.endings.find((one) => path.endsWith(one)) ?? '';
  return path.slice(0, path.length - ending.length);
}

/** Of a folder whose checkpoints have other names. */
function listed(folder: string, formats: readonly CheckpointFormat[]): Files | null {
  for (const format of formats) {
    const found = format.list
      ?.latest(folder)
      .map((base) => filesOf(base, format))
      .find((paths) => isFile(paths.at(-1) as string));
    if (found) return { format, paths: found };
  }
  return null;
}

function filesOf(base: string, { endings }: CheckpointFormat): string[] {
  return endings.map((ending) => `${base}${ending}`);
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function checksum(tensors: Readonly<Record<string, StoredTensor>>, metadata: Readonly<Record<string, string>>): string {
  const hash = createHash('sha256');
  const own = Object.entries(metadata).filter(([name]) => name !== CHECKSUM);
  hash.update(JSON.stringify(own.sort(([a], [b]) => (a < b ? -1 : 1))));
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    hash.update(JSON.stringify([name, shape]));
    for (const piece of pieces(values)) hash.update(piece);
  }
  return hash.digest('hex');
}

/** @throws TensorFileError */
function verified(format: CheckpointFormat, paths: readonly string[]): TensorFile {
  const file = format.read(paths);
  if (format.hasChecksums) return file;
  const expected = file.metadata[CHECKSUM];
  if (expected === undefined) throw new TensorFileError('has no checksum');
  const found = checksum(file.tensors, file.metadata);
  if (found !== expected)
    throw new TensorFileError(`is damaged: its SHA-256 is ${found.slice(0, 12)}…, not ${expected.slice(0, 12)}…`);
  return file;
}

/** The same, where its folder may not be there either. */
function remove(path: string): void {
  try {
    deleteFile(path);
  } catch {
    // What made the save fail (a file for a folder, no permission) makes this fail as well, and is what will be told.
  }
}

/** All files of a checkpoint as they are now. @param stat of the one that makes it whole */
function identityOf({ step, names }: Place, stat: Stats): string {
  const paths = names.paths(step);
  const states = paths.slice(0, -1).map((path) => {
    const one = statSync(path, { throwIfNoEntry: false });
    return one ? identity(path, one) : path;
  });
  return [...states, identity(paths.at(-1) as string, stat)].join('\n');
}

/** A file as it is now: whoever changes it makes it another. */
function identity(path: string, { ino, size, mtimeMs }: Stats): string {
  return `${path} ${ino} ${size} ${mtimeMs}`;
}
