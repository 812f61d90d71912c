/**
 * How a checkpoint's content becomes files, and files its content. The manager names, keeps, syncs and deletes them and knows no
 * format; a format knows no folder and no run. A new one is a file beside safetensors-format.ts and an entry in formats.ts.
 */
import type { TensorFile } from './safetensors.js';

export interface CheckpointFormat {
  readonly name: string;
  /** What a checkpoint's name begins with, before its step. Default `ckpt-`. */
  readonly prefix?: string;
  /** Endings of a checkpoint's files, each with its dot, in the order of writing: it is whole when the last one is there. */
  readonly endings: readonly [string, ...string[]];
  /** Whether reading finds every damage by itself: the manager adds no checksum of its own then. */
  readonly hasChecksums?: boolean;
  /** A text file that lists a folder's checkpoints, for other programs; written after each of them. */
  readonly list?: CheckpointList;
  /** Each file's bytes, piece by piece, in the order of the endings. @throws RangeError for what could not be read again. */
  encode(content: TensorFile): readonly Iterable<Uint8Array>[];
  /** @param paths in the order of the endings @throws TensorFileError if they are not, or not all, what they should be */
  read(paths: readonly string[]): TensorFile;
}

export interface CheckpointList {
  readonly file: string;
  /** @param names of the checkpoints, without endings, oldest first @returns the file's text */
  write(names: readonly string[]): string;
  /** Where the latest may be, its ending left out, by a folder's list: the first that is there is meant. */
  latest(folder: string): readonly string[];
}
