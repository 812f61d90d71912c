/**
 * A folder that appears whole or not at all: its files are written into another one beside it, synced, and that one is given its name. What
 * was there before is left alone: a folder with anything in it is refused, before a long run as well as after it.
 */
import { mkdirSync, readdirSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { kindOf, probeFolder, reasonOf } from '../files/file-errors.js';
import { makeFolder } from '../files/make-folder.js';
import { quoted } from '../files/quoted.js';
import { isAlive, syncFolder, writeSynced } from '../files/synced-files.js';
import type { ExportFile } from './export.js';

/** A model could not be exported; what was there before still is. */
export class ExportError extends Error {
  override readonly name = 'ExportError';

  constructor(
    /** What happened, without a full stop. */
    readonly problem: string,
    /** What to do. */
    readonly remedy: string,
    options?: ErrorOptions,
  ) {
    super(`${problem}.\nhelp: ${remedy}`, options);
  }
}

/**
 * Whether a model can be written there, found out by writing for a moment.
 * @param what is named in the message: 'flag --export_dir', 'OUT'
 * @throws ExportError if something is there already, or nothing can be
 */
export function checkExportFolder(folder: string, what: string): void {
  const refuse = (why: string, help: string): never => {
    throw new ExportError(`${what}: ${folder} ${why}`, help);
  };
  try {
    const stats = statSync(folder, { throwIfNoEntry: false });
    if (stats && !stats.isDirectory()) refuse(`is ${kindOf(stats)}`, 'name a folder that is new or empty.');
    const [first, ...rest] = stats ? readdirSync(folder) : [];
    if (first !== undefined) {
      const more = rest.length > 0 ? ` and ${rest.length} more` : '';
      refuse(`is not empty: it has ${quoted(first)}${more}`, 'name a new folder, or delete what is in it.');
    }
    probeFolder(dirname(resolve(folder)), `${basename(resolve(folder))}.probe`);
  } catch (error) {
    if (error instanceof ExportError) throw error;
    refuse(`cannot be written to: ${reasonOf(error)}`, 'name a folder that you may write to.');
  }
}

/** Writes the files into a new or empty folder. @throws ExportError; then nothing of it is left */
export function writeExportFolder(folder: string, files: readonly ExportFile[], what: string): void {
  checkExportFolder(folder, what);
  // A link to an empty folder stays one.
  const target = statSync(folder, { throwIfNoEntry: false }) ? realpathSync(folder) : resolve(folder);
  const parent = dirname(target);
  const temporary = join(parent, `.${basename(target)}.${process.pid}.tmp`);
  try {
    makeFolder(parent);
    sweep(parent, basename(target));
    mkdirSync(temporary);
    for (const { name, pieces } of files) writeSynced(join(temporary, name), pieces);
    syncFolder(temporary);
    renameSync(temporary, target);
    syncFolder(parent);
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw new ExportError(`${what}: nothing was written to ${folder}: ${reasonOf(error)}`, remedyOf(error), {
      cause: error,
    });
  }
}

function remedyOf(error: unknown): string {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EBUSY':
    case 'EXDEV':
      return 'a folder on which a disk is mounted cannot be replaced; name a new one within it.';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'make room, or name a folder on another disk.';
    default:
      return 'name a folder that you may write to.';
  }
}

/** What exports to this folder left behind that were killed. */
function sweep(parent: string, name: string): void {
  for (const entry of readdirSync(parent)) {
    const rest = entry.startsWith(`.${name}.`) ? entry.slice(name.length + 2) : '';
    const pid = /^(\d+)\.tmp$/.exec(rest)?.[1];
    if (pid === undefined || (Number(pid) !== process.pid && isAlive(Number(pid)))) continue;
    rmSync(join(parent, entry), { recursive: true, force: true });
  }
}
