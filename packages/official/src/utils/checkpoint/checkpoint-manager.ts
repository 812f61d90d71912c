/**
 * Checkpoints of a run: `ckpt-<step>` with a format's ending or endings in the model folder. A checkpoint appears whole or not at all: it is
 * written to temporary names, synced to disk, and renamed. Its SHA-256 stands in its own metadata, so a file that was
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
import { quoted } from '../files/quoted.js';
import type { CheckpointFormat } from './checkpoint-format.js';
import { FORMATS } from './formats.js';
import { pieces, type StoredTensor, type TensorFile, TensorFileError } from './safetensors.js';

export interface CheckpointManagerOptions {
  /** Checkpoints kept; older ones are deleted after a new one is safe. Default 5. */
  readonly maxToKeep?: number;
  /** Of what is written and read. Default: the first of FORMATS, safetensors. */
  readonly format?: CheckpointFormat;
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

const PREFIX = 'ckpt-';
const CHECKSUM = 'sha256';
/** A folder whose checkpoints vanish while they are looked at (another process rotates them) is looked at again. */
const LOOKS = 3;

/** Writes, finds and deletes a folder's checkpoints. */
export class CheckpointManager {
  readonly #maxToKeep: number;
  readonly #format: CheckpointFormat;
  /** Names of the file that makes a checkpoint whole; what looks like one to a person; and what a killed process left. */
  readonly #pattern: RegExp;
  readonly #alike: RegExp;
  readonly #leftover: RegExp;
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
    this.#format = options.format ?? FORMATS[0];
    const all = this.#format.endings.map((ending) => ending.replaceAll('.', '\\.'));
    this.#pattern = new RegExp(`^${PREFIX}(0|[1-9]\\d*)${all.at(-1)}$`);
    this.#alike = new RegExp(`^${PREFIX}.*${all.at(-1)}$`, 's');
    this.#leftover = new RegExp(`^${PREFIX}\\d+(?:${all.join('|')})\\.(\\d+)\\.tmp$`);
    if (!Number.isInteger(this.#maxToKeep) || this.#maxToKeep < 1) {
      throw new RangeError(`keep_checkpoint_max must be a positive integer, got ${options.maxToKeep}.`);
    }
  }

  /** Steps of the checkpoints that are there, whole or not, oldest first. @throws CheckpointError if the folder cannot be read. */
  steps(): number[] {
    return this.#names()
      .flatMap((name) => this.#pattern.exec(name)?.[1] ?? [])
      .map(Number)
      .filter(Number.isSafeInteger)
      .sort((a, b) => a - b);
  }

  /** Of the file that makes the checkpoint of a step whole. */
  path(step: number): string {
    return this.#paths(step).at(-1) as string;
  }

  #paths(step: number): string[] {
    return this.#format.endings.map((ending) => join(this.directory, `${PREFIX}${step}${ending}`));
  }

  /**
   * Writes a checkpoint and deletes the oldest whole ones beyond the limit, never the one just written.
   * @returns its path
   * @throws CheckpointError (no permission, disk full, …); then older checkpoints are all still there.
   */
  save(step: number, { tensors, metadata }: TensorFile): string {
    const path = this.path(step);
    const files = this.#paths(step).map((file) => ({ file, temporary: `${file}.${process.pid}.tmp` }));
    try {
      mkdirSync(this.directory, { recursive: true });
      const metadataAndSum = { ...metadata, [CHECKSUM]: checksum(tensors, metadata) };
      const contents = this.#format.encode({ tensors, metadata: metadataAndSum });
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
    this.#isWhole.set(this.#identity(step, statSync(path)), true);
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
      if (!this.#alike.test(name) || Number.isSafeInteger(Number(this.#pattern.exec(name)?.[1]))) continue;
      this.#warn(`${quoted(name)} in ${this.directory} is passed over: no run gives a checkpoint such a number.`);
    }
    return null;
  }

  #read(step: number): TensorFile {
    const file = verified(this.#format.read(this.#paths(step)));
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
    const key = this.#identity(step, stat);
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

  /** Of all files as they are now. @param stat of the one that makes it whole */
  #identity(step: number, stat: Stats): string {
    const others = this.#paths(step).slice(0, -1);
    const states = others.map((path) => {
      const one = statSync(path, { throwIfNoEntry: false });
      return one ? identity(path, one) : path;
    });
    return [...states, identity(this.path(step), stat)].join('\n');
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
    for (const old of whole.slice(0, Math.max(0, whole.length - (this.#maxToKeep - 1)))) this.#deleteStep(old);
  }

  /** The file that makes it whole goes first: what is left of one that is half deleted is no checkpoint. */
  #deleteStep(step: number): void {
    for (const path of this.#paths(step).reverse()) this.#delete(path);
  }

  /** Deletes what a process that was killed while it wrote left behind. One that lives may be writing still. */
  #sweep(): void {
    for (const name of this.#names()) {
      const pid = this.#leftover.exec(name)?.[1];
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
  const found = FORMATS.map((format) => ({ format, paths: filesAt(where, format) })).find(
    ({ paths }) => paths !== null,
  );
  if (!found?.paths) {
    for (const format of FORMATS) {
      const latest = new CheckpointManager(where, { format }).latest();
      if (latest !== null) return latest;
    }
    throw new CheckpointError(
      `There is no checkpoint at ${where}.\nhelp: name a file ckpt-<step>.safetensors, or a model folder.`,
    );
  }
  const file = found.paths.at(-1) as string;
  try {
    return { path: file, ...verified(found.format.read(found.paths)) };
  } catch (error) {
    if (!(error instanceof TensorFileError)) throw error;
    throw new CheckpointError(`Checkpoint ${file} ${error.message}.\nhelp: choose another checkpoint.`);
  }
}

/** A checkpoint's files by the path of the one that makes it whole, its ending given or not; null: there is none. */
function filesAt(where: string, { endings }: CheckpointFormat): string[] | null {
  const last = endings.at(-1) as string;
  const whole = [where, `${where}${last}`].find((path) => statSync(path, { throwIfNoEntry: false })?.isFile());
  if (whole === undefined) return null;
  const base = whole.endsWith(last) ? whole.slice(0, -last.length) : whole;
  return [...endings.slice(0, -1).map((ending) => `${base}${ending}`), whole];
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

function writeSynced(path: string, content: Iterable<Uint8Array>): void {
  const descriptor = openTemporary(path);
  try {
    for (const piece of content) {
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
