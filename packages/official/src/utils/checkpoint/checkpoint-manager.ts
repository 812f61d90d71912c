/**
 * Checkpoints of a run: `ckpt-<step>.safetensors` in the model folder. A checkpoint appears whole or not at all: it is
 * written to a temporary name, synced to disk, and renamed. Its SHA-256 stands in its own metadata, so a file that was
 * damaged later is noticed, named, and passed over for the one before it.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import {
  decodeTensorFile,
  encodeTensorFile,
  type StoredTensor,
  type TensorFile,
  TensorFileError,
} from './safetensors.js';

export interface CheckpointManagerOptions {
  /** Checkpoints kept; older ones are deleted after a new one is safe. Default 5. */
  readonly maxToKeep?: number;
  /** Told about damaged checkpoints that are passed over. Default: standard error. */
  readonly warn?: (line: string) => void;
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

const PATTERN = /^ckpt-(\d+)\.safetensors$/;
const LEFTOVER = /^ckpt-\d+\.safetensors\.\d+\.tmp$/;
const CHECKSUM = 'sha256';

/** Writes, finds and deletes a folder's checkpoints. */
export class CheckpointManager {
  readonly #maxToKeep: number;
  readonly #warn: (line: string) => void;

  constructor(
    readonly directory: string,
    options: CheckpointManagerOptions = {},
  ) {
    this.#maxToKeep = options.maxToKeep ?? 5;
    this.#warn = options.warn ?? ((line) => process.stderr.write(`${line}\n`));
    if (!Number.isInteger(this.#maxToKeep) || this.#maxToKeep < 1) {
      throw new RangeError(`keep_checkpoint_max must be a positive integer, got ${options.maxToKeep}.`);
    }
  }

  /** Steps of the checkpoints that are there, oldest first. */
  steps(): number[] {
    let names: string[];
    try {
      names = readdirSync(this.directory);
    } catch (error) {
      // Not there yet, or not a folder: saving says which.
      if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
      throw error;
    }
    return names
      .flatMap((name) => PATTERN.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  }

  path(step: number): string {
    return join(this.directory, `ckpt-${step}.safetensors`);
  }

  /**
   * Writes a checkpoint and deletes the oldest ones beyond the limit.
   * @returns its path
   * @throws CheckpointError (no permission, disk full, …); then older checkpoints are all still there.
   */
  save(step: number, { tensors, metadata }: TensorFile): string {
    const path = this.path(step);
    const temporary = `${path}.${process.pid}.tmp`;
    try {
      mkdirSync(this.directory, { recursive: true });
      const bytes = encodeTensorFile({ tensors, metadata: { ...metadata, [CHECKSUM]: checksum(tensors, metadata) } });
      writeSynced(temporary, bytes);
      renameSync(temporary, path);
      syncFolder(this.directory);
    } catch (error) {
      remove(temporary);
      const { code, message } = error as NodeJS.ErrnoException;
      throw new CheckpointError(
        `Checkpoint ${path} could not be written: ${reason(code) ?? message}.\n` +
          `help: make room or choose another --model_dir; ${this.#present()}.`,
        { cause: error },
      );
    }
    for (const old of this.steps().slice(0, -this.#maxToKeep)) rmSync(this.path(old), { force: true });
    this.#sweep();
    return path;
  }

  /** Deletes what a process that was killed while it wrote left behind. */
  #sweep(): void {
    for (const name of readdirSync(this.directory)) {
      if (LEFTOVER.test(name)) rmSync(join(this.directory, name), { force: true });
    }
  }

  /** The newest checkpoint that is whole, or null. Damaged ones are named and passed over. */
  latest(): Checkpoint | null {
    for (const step of this.steps().reverse()) {
      const path = this.path(step);
      try {
        return { path, step, ...verified(decodeTensorFile(readFileSync(path))) };
      } catch (error) {
        if (!(error instanceof TensorFileError)) throw error;
        this.#warn(`Checkpoint ${path} ${error.message}; it is passed over for the one before it.`);
      }
    }
    return null;
  }

  #present(): string {
    const steps = this.steps();
    const newest = steps.at(-1);
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
    return { path: file, ...verified(decodeTensorFile(readFileSync(file))) };
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
    hash.update(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
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

/** Deletes a file that may not be there, nor its folder. */
function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // What made the save fail (a file for a folder, no permission) makes this fail as well, and is what will be told.
  }
}

function writeSynced(path: string, bytes: Uint8Array): void {
  const descriptor = openSync(path, 'w');
  try {
    for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
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

function reason(code: string | undefined): string | undefined {
  switch (code) {
    case 'ENOSPC':
      return 'the disk is full (ENOSPC)';
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return `no permission to write there (${code})`;
    case 'ENOTDIR':
    case 'EEXIST':
      return `the folder's path is a file (${code})`;
    default:
      return undefined;
  }
}
