/**
 * Files that outlast a power cut, under temporary names that say whose they are: written to the last byte and synced before they get their
 * names, and swept away once the process that wrote them is gone.
 */
import { closeSync, constants, fsyncSync, openSync, unlinkSync } from 'node:fs';
import { writeAll } from './bytes.js';

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

/** Writes a whole file, to the disk. @throws the system's error; some of it may be written then */
export function writeSynced(path: string, content: Iterable<Uint8Array>): void {
  const descriptor = openTemporary(path);
  try {
    for (const piece of content) writeAll(descriptor, piece);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** A rename is safe only when the folder is on disk as well. */
export function syncFolder(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Deletes a file that may not be there. (rmSync tries rmdir as well, and says why that failed.) */
export function deleteFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Whether a process is there. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
