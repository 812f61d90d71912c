/**
 * Makes a folder, and those above it that are not there. Node's own `mkdirSync` with `recursive` does not come back where a folder is there and
 * takes no other (`/proc`): it tries again and again.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/** A folder that is there stays as it is. @throws the file system's error, EEXIST for what is there and is no folder */
export function makeFolder(folder: string): void {
  try {
    mkdirSync(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
    if (code !== 'ENOENT' || existsSync(dirname(folder))) throw error;
    makeFolder(dirname(folder));
    // Again from the beginning: others may have been here meanwhile.
    makeFolder(folder);
  }
}
