/**
 * Checkpoints of a run: `ckpt-<step>.safetensors` in the model folder. A checkpoint appears whole or not at all: it is
 * written to a temporary name, synced to disk, and renamed. Its SHA-256 stands in its own metadata, so a file that was
 * damaged later is noticed, named, and passed over for the one before it; so is whatever else bears such a name. Only whole
 * ones count when old ones are deleted, and the one just written never is.
 *
 * One process writes at a time: model-dir-lock.ts sees to it. Any number may read meanwhile.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { reasonOf } from '../files/file-errors.js';
import {
  pieces,
  readTensorFile,
  type StoredTensor,
  type TensorFile,
  TensorFileError,
  tensorFilePieces,
} from './safetensors.js';
import { quoted } from './safetensors-header.js';

export interface CheckpointManagerOptions {
  /** Checkpoints kept; older ones are deleted after a new one is safe. Default 5. */
  readonly maxToKeep?: number;
  /** Told about damaged checkpoints that are passed over, and old ones that cannot be deleted. Default: standard error. */
  readonly warn?: (line: string) => void;
  /** What a checkpoint must be beside whole. Throws TensorFileError; such a one is passed over like a damaged one. */
  readonly validate?: (file: TensorFile, step: number) => void;
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

const PATTERN = /^ckpt-(0|[1-9]\d*)\.safetensors$/;
/** What looks like a checkpoint to a person; with a number that no run writes it is none. */
const ALIKE = /^ckpt-.*\.safetensors$/s;
const LEFTOVER = /^ckpt-\d+\.safetensors\.(\d+)\.tmp$/;
const CHECKSUM = 'sha256';
/** A folder whose checkpoints vanish while they are looked at (another process rotates them) is looked at again. */
const LOOKS = 3;

/** Writes, finds and deletes a folder's checkpoints. */
export class CheckpointManager {
  readonly #maxToKeep: number;
  readonly #warn: (line: string) => void;
  readonly #validate: (file: TensorFile, step: number) => void;
  /** Which files are known to be whole, or not; a file that changes is another one. */
  readonly #isWhole = new Map<string, boolean>();

  constructor(
    readonly directory: string,
    options: CheckpointManagerOptions = {},
  ) {
    this.#maxToKeep = options.maxToKeep ?? 5;
    this.#warn = options.warn ?? ((line) => process.stderr.write(`${line}\n`));
    this.#validate = options.validate ?? (() => {});
    if (!Number.isInteger(this.#maxToKeep) || this.#maxToKeep < 1) {
      throw new RangeError(`keep_checkpoint_max must be a positive integer, got ${options.maxToKeep}.`);
    }
  }

  /** Steps of the checkpoints that are there, whole or not, oldest first. @throws CheckpointError if the folder cannot be read. */
  steps(): number[] {
    return this.#names()
      .flatMap((name) => PATTERN.exec(name)?.[1] ?? [])
      .map(Number)
      .filter(Number.isSafeInteger)
      .sort((a, b) => a - b);
  }

  path(step: number): string {
    return join(this.directory, `ckpt-${step}.safetensors`);
  }

  /**
   * Writes a checkpoint and deletes the oldest whole ones beyond the limit, never the one just written.
   * @returns its path
   * @throws CheckpointError (no permission, disk full, …); then older checkpoints are all still there.
   */
  save(step: number, { tensors, metadata }: TensorFile): string {
    const path = this.path(step);
    const temporary = `${path}.${process.pid}.tmp`;
    try {
      mkdirSync(this.directory, { recursive: true });
      writeSynced(temporary, { tensors, metadata: { ...metadata, [CHECKSUM]: checksum(tensors, metadata) } });
      this.#makeWay(path);
      renameSync(temporary, path);
      syncFolder(this.directory);
    } catch (error) {
      remove(temporary);
      throw new CheckpointError(
        `Checkpoint ${path} could not be written: ${reasonOf(error)}.\n` +
          `help: make room or choose another --model_dir; ${this.#present()}.`,
        { cause: error },
      );
    }
    this.#isWhole.set(identity(path, statSync(path)), true);
    this.#rotate(step);
    this.#sweep();
    return path;
  }

  /** The newest checkpoint that is whole, or null. Others are named and passed over. */
  latest(): Checkpoint | null {
    for (let look = 1; ; look++) {
      let hasVanished = false;
      for (const [i, step] of this.steps().reverse().entries()) {
        const path = this.path(step);
        try {
          return { path, step, ...this.#read(step) };
        } catch (error) {
          if (!(error instanceof TensorFileError)) throw error;
          if (lstatSync(path, { throwIfNoEntry: false }) === undefined) {
            hasVanished = true;
            continue;
          }
          const isOldest = i === this.steps().length - 1;
          this.#warn(
            `Checkpoint ${path} ${error.message}; it is passed over${isOldest ? '' : ' for the one before it'}.`,
          );
        }
      }
      if (!hasVanished || look === LOOKS) break;
    }
    for (const name of this.#names()) {
      if (!ALIKE.test(name) || Number.isSafeInteger(Number(PATTERN.exec(name)?.[1]))) continue;
      this.#warn(`${quoted(name)} in ${this.directory} is passed over: no run gives a checkpoint such a number.`);
    }
    return null;
  }

  #read(step: number): TensorFile {
    const file = verified(readTensorFile(this.path(step)));
    this.#validate(file, step);
    return file;
  }

  #names(): string[] {
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

  /** Whether a checkpoint is whole and what it should be. Each is read once, those written here not at all. */
  #counts(step: number): boolean {
    const path = this.path(step);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (!stat?.isFile()) return false;
    const key = identity(path, stat);
    let known = this.#isWhole.get(key);
    if (known === undefined) {
      try {
        this.#read(step);
        known = true;
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

  /** Damaged ones do not count and are left where they are: whoever wants to look into them can. */
  #rotate(newest: number): void {
    const others = this.steps().filter((step) => step !== newest);
    if (others.length < this.#maxToKeep) return;
    const whole = others.filter((step) => this.#counts(step));
    for (const old of whole.slice(0, Math.max(0, whole.length - (this.#maxToKeep - 1)))) this.#delete(this.path(old));
  }

  /** Deletes what a process that was killed while it wrote left behind. One that lives may be writing still. */
  #sweep(): void {
    for (const name of this.#names()) {
      const pid = LEFTOVER.exec(name)?.[1];
      if (pid === undefined || (Number(pid) !== process.pid && isAlive(Number(pid)))) continue;
      this.#delete(join(this.directory, name));
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
    const newest = this.steps().findLast((step) => this.#counts(step));
    return newest === undefined ? 'no checkpoint was saved before' : `the checkpoint of step ${newest} is still there`;
  }
}

/**
 * Reads one checkpoint: a file (its ending may be left out), or the newest whole one of a folder.
 * @throws CheckpointError if there is none, or it is damaged.
 */
export function readCheckpoint(where: string): TensorFile & { readonly path: string } {
  const candidates = [where, `${where}.safetensors`];
  const file = candidates.find((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
  if (file === undefined) {
    const latest = new CheckpointManager(where).latest();
    if (latest !== null) return latest;
    throw new CheckpointError(
      `There is no checkpoint at ${where}.\nhelp: name a file ckpt-<step>.safetensors, or a model folder.`,
    );
  }
  try {
    return { path: file, ...verified(readTensorFile(file)) };
  } catch (error) {
    if (!(error instanceof TensorFileError)) throw error;
    throw new CheckpointError(`Checkpoint ${file} ${error.message}.\nhelp: choose another checkpoint.`);
  }
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

function verified(file: TensorFile): TensorFile {
  const expected = file.metadata[CHECKSUM];
  if (expected === undefined) throw new TensorFileError('has no checksum');
  const found = checksum(file.tensors, file.metadata);
  if (found !== expected)
    throw new TensorFileError(`is damaged: its SHA-256 is ${found.slice(0, 12)}…, not ${expected.slice(0, 12)}…`);
  return file;
}

/** Deletes a file that may not be there. (rmSync tries rmdir as well, and says why that failed.) */
function deleteFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** The same, where its folder may not be there either. */
function remove(path: string): void {
  try {
    deleteFile(path);
  } catch {
    // What made the save fail (a file for a folder, no permission) makes this fail as well, and is what will be told.
  }
}

/** A file as it is now: whoever changes it makes it another. */
function identity(path: string, { ino, size, mtimeMs }: Stats): string {
  return `${path} ${ino} ${size} ${mtimeMs}`;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Never through a link that stands under this name: it would write over another file. */
function openTemporary(path: string): number {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  try {
    return openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o666);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ELOOP') throw error;
    deleteFile(path);
    return openSync(path, 'wx');
  }
}

function writeSynced(path: string, file: TensorFile): void {
  const descriptor = openTemporary(path);
  try {
    for (const piece of tensorFilePieces(file)) {
      for (let done = 0; done < piece.length; ) done += writeSync(descriptor, piece, done);
    }
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** A rename is safe only when the folder is on disk as well. */
function syncFolder(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
