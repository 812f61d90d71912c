/**
 * Files of tensors, read at positions and in pieces that a system call takes at once: one of many gigabytes needs no buffer of its size.
 * Whatever the system refuses, and whatever is no regular file, is a TensorFileError.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { TensorFileError } from './safetensors-header.js';

/** No system call takes 2 GiB at once. */
const PIECE_BYTES = 2 ** 30;

/** An array's bytes in pieces that a system call, or a hash, takes at once. */
export function* pieces({ buffer, byteOffset, byteLength }: ArrayBufferView): Generator<Uint8Array, void> {
  for (let at = 0; at < byteLength; at += PIECE_BYTES) {
    yield new Uint8Array(buffer, byteOffset + at, Math.min(PIECE_BYTES, byteLength - at));
  }
}

/** Fills `target` from a position of the file. */
export type Read = (target: Uint8Array, position: number) => void;

/**
 * Opens a regular file for as long as it is used.
 * @throws TensorFileError for what is none, or cannot be read; `cause` is the system's error then.
 */
export function withFile<T>(path: string, use: (read: Read, size: number) => T): T {
  let descriptor: number;
  try {
    // Not blocking: a pipe without a writer would hold the process for ever.
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw unreadable(error);
  }
  try {
    const stat = fstatSync(descriptor);
    if (stat.isDirectory()) throw new TensorFileError('is a folder');
    if (!stat.isFile()) throw new TensorFileError('is no regular file');
    return use((target, position) => readFully(descriptor, target, position), stat.size);
  } catch (error) {
    // What the system refuses has a code; everything else is told as it is.
    throw typeof (error as NodeJS.ErrnoException).code === 'string' ? unreadable(error) : error;
  } finally {
    closeSync(descriptor);
  }
}

function unreadable(error: unknown): TensorFileError {
  const { code, message } = error as NodeJS.ErrnoException;
  const why = code === 'ENOENT' ? 'a link to nothing, or gone (ENOENT)' : (code ?? message);
  return new TensorFileError(`cannot be read: ${why}`, { cause: error });
}

function readFully(descriptor: number, target: Uint8Array, position: number): void {
  for (const piece of pieces(target)) {
    for (let done = 0; done < piece.length; ) {
      const count = readSync(descriptor, piece, done, piece.length - done, position + done);
      if (count === 0) throw new TensorFileError('is cut off: it became shorter while it was read');
      done += count;
    }
    position += piece.length;
  }
}
