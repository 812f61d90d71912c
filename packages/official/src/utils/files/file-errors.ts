/*
 * Errors of the file system and kinds of files in words, and whether a folder can be written to. An error that is only a number and a system
 * call tells a person neither which flag is meant nor what to do; whoever catches one adds both to these words.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, rmdirSync, type Stats, statSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const WORDS: Readonly<Record<string, string>> = {
  EACCES: 'no permission',
  EPERM: 'no permission',
  EROFS: 'the disk is read-only',
  ENOSPC: 'the disk is full',
  EDQUOT: 'no more room for this user',
  EISDIR: 'a folder is in the way',
  ENOTDIR: 'a part of the path is not a folder',
  EEXIST: 'a file is in the way',
  ENOENT: 'it is not there',
  ELOOP: 'its links form a circle',
  ENAMETOOLONG: 'the name is too long',
  EMFILE: 'too many files are open',
  EIO: 'the disk does not answer',
};

/** 'no permission (EACCES)'; the error's own message where there are no words for it. */
export function reasonOf(error: unknown): string {
  const { code, message } = (error instanceof Error ? error : { message: String(error) }) as NodeJS.ErrnoException;
  const words = code === undefined ? undefined : WORDS[code];
  return words === undefined ? message : `${words} (${code})`;
}

/** What stands under a name. Opening a named pipe would wait for somebody who writes, and hear no signal meanwhile. */
export function kindOf(stats: Stats): string {
  if (stats.isFile()) return 'a file';
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFIFO()) return 'a named pipe';
  return stats.isSocket() ? 'a socket' : 'a device';
}

/** As much as a full disk has no more room for. */
const PROBE_BYTES = 65_536;

/**
 * Whether files can be made in a folder, or the folder itself: found out by really writing, because permissions say little of
 * disks that are full, read-only or remote. Nothing stays behind.
 *
 * @param name of what is made for a moment; random letters follow it.
 * @throws the file system's error
 */
export function probeFolder(folder: string, name: string): void {
  const target = path.resolve(folder);
  let existing = target;
  for (;;) {
    const stats = statSync(existing, { throwIfNoEntry: false });
    if (stats?.isDirectory()) break;
    if (stats) throw Object.assign(new Error(`${existing} is no folder`), { code: 'EEXIST' });
    existing = path.dirname(existing);
  }
  const probe = path.join(existing, `${name}.${process.pid}.${randomBytes(6).toString('hex')}`);
  if (existing !== target) {
    mkdirSync(probe);
    rmdirSync(probe);
    return;
  }
  const descriptor = openSync(probe, 'wx');
  try {
    writeFileSync(descriptor, '\n'.repeat(PROBE_BYTES));
  } finally {
    closeSync(descriptor);
    unlinkSync(probe);
  }
}
