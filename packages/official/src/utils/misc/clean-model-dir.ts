/*
 * --clean: deletes what runs of Lockstep wrote into a model folder, recognised by content, and nothing else. A folder with
 * anything in it that no run wrote is left alone altogether: it is more likely a mistake than a model folder.
 *
 * It is in two parts, so that everything else about a command can be checked between them: a plan, which reads only, and the
 * deletion of the very files that the plan names.
 */
import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { LOCK_NAME } from '../checkpoint/model-dir-lock.js';
import { readTensorHeader, TensorFileError } from '../checkpoint/safetensors.js';
import { STATE_FILE } from '../checkpoint/tensorflow/checkpoint-state.js';
import { METADATA_TENSOR } from '../checkpoint/tensorflow-format.js';
import { reasonOf } from '../files/file-errors.js';
import { quoted } from '../files/quoted.js';
import type { FlagsObject } from '../flags/core.js';
import { type Log, stderrLog } from '../logs/log.js';
import { BENCHMARK_RUN_LOG_FILE_NAME, METRIC_LOG_FILE_NAME } from '../logs/logger.js';

/** Name and content of the file that marks a folder as a model folder; see markModelDir. */
export const MODEL_DIR_MARKER = '.lockstep-model';
export const MARKER_TEXT = 'A model folder of Lockstep: --clean may delete it.\n';

/** A file that --clean is to delete, as it was when it was looked at. */
export interface DoomedFile {
  readonly path: string;
  readonly ino: number;
  readonly size: number;
  readonly mtimeMs: number;
}

/** What --clean is to delete. Plain data: it crosses threads. */
export interface CleanPlan {
  readonly modelDir: string;
  readonly files: readonly DoomedFile[];
}

/** As much of a file as tells whose it is. */
const HEAD_BYTES = 4096;
/** A data file of ours begins with its metadata, behind their length and its checksum. */
const METADATA_WITHIN = 64;

/** By name, how a file of ours is known by its content. What is never deleted (the lock, the marker) is known as well. */
const KINDS: readonly { readonly name: RegExp; readonly isOurs: (file: string) => boolean; readonly stays?: true }[] = [
  { name: /^ckpt-\d+\.safetensors(\.\d+\.tmp)?$/, isOurs: isOurCheckpoint },
  // TensorFlow's own have the same names, and no such tensor.
  {
    name: /^model\.ckpt-\d+\.index(\.\d+\.tmp)?$/,
    isOurs: (file) => head(file) === '' || head(file).includes(METADATA_TENSOR),
  },
  {
    name: /^model\.ckpt-\d+\.data-00000-of-00001(\.\d+\.tmp)?$/,
    isOurs: (file) => head(file) === '' || head(file).slice(0, METADATA_WITHIN).includes('{"format":"lockstep-'),
  },
  {
    name: new RegExp(`^${STATE_FILE}(\\.\\d+\\.tmp)?$`),
    isOurs: (file) => head(file) === '' || /^model_checkpoint_path: "model\.ckpt-\d+"\n/.test(head(file)),
  },
  {
    name: /^timeline-\d+(-\d+)?\.json$/,
    isOurs: (file) => /^\{"traceEvents":\[\{"ph":"M","name":"(thread|process)_name"/.test(head(file)),
  },
  {
    name: exactly(METRIC_LOG_FILE_NAME),
    isOurs: (file) => hasKeys(file, ['name', 'value', 'unit', 'global_step', 'timestamp']),
  },
  {
    name: exactly(BENCHMARK_RUN_LOG_FILE_NAME),
    isOurs: (file) => hasKeys(file, ['model_name', 'machine_config', 'run_parameters']),
  },
  { name: /^events\.out\.tfevents\.\d+\..+\.lockstep$/, isOurs: (file) => head(file).includes('brain.Event:2') },
  { name: exactly(MODEL_DIR_MARKER), isOurs: (file) => head(file) === MARKER_TEXT, stays: true },
  {
    name: new RegExp(`^\\${LOCK_NAME}(\\.\\d+\\.[0-9a-f]+)?$`),
    isOurs: (file) => head(file) === '' || hasKeys(file, ['pid', 'host']),
    stays: true,
  },
];

/**
 * What --clean would delete: null where the flag is not set or the folder does not exist. Nothing is changed.
 * @throws Error naming the folder, why it is left alone, and what to do.
 */
export function planClean({ clean, model_dir: modelDir }: Pick<FlagsObject, 'clean' | 'model_dir'>): CleanPlan | null {
  if (!clean || !existsSync(modelDir)) return null;
  const real = realpathSync(modelDir);
  const files: DoomedFile[] = [];
  const foreign: string[] = [];
  let reason = whyProtected(real);
  if (reason === null) {
    for (const name of looking(real, () => readdirSync(real).sort())) {
      const file = path.join(real, name);
      const { ino, size, mtimeMs, isFile } = looking(file, () => describe(file));
      const kind = KINDS.find((one) => one.name.test(name));
      if (!kind || !isFile || !looking(file, () => kind.isOurs(file))) foreign.push(quoted(name).slice(1, -1));
      else if (!kind.stays) files.push({ path: file, ino, size, mtimeMs });
    }
    if (foreign.length > 0) {
      const more = foreign.length > 3 ? ` and ${foreign.length - 3} more` : '';
      reason = `it contains ${foreign.slice(0, 3).join(', ')}${more}, which no run of lockstep made`;
    }
  }
  if (reason === null) return { modelDir, files };
  throw new Error(
    `--clean does not delete --model_dir=${modelDir}: ${reason}.\n` +
      'help: choose another --model_dir, or delete the folder yourself if nothing in it is needed.',
  );
}

/**
 * Deletes the files of a plan and says so. One that has changed since is another one, and stays.
 * @returns whether something was deleted.
 * @throws Error naming the file that cannot be deleted.
 */
export function carryOutClean({ modelDir, files }: CleanPlan, log: Log = stderrLog): boolean {
  if (files.length === 0) return false;
  log.info(`--clean flag set. Removing existing model dir: ${modelDir}`);
  for (const { path: file, ino, size, mtimeMs } of files) {
    try {
      const now = describe(file);
      if (now.ino === ino && now.size === size && now.mtimeMs === mtimeMs) unlinkSync(file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      throw new Error(`--clean could not delete ${file}: ${reasonOf(error)}.\nhelp: choose another --model_dir.`, {
        cause: error,
      });
    }
  }
  return true;
}

/** Both parts at once: upstream's apply_clean. @throws as {@link planClean} and {@link carryOutClean}. */
export function applyClean(flagsObj: Pick<FlagsObject, 'clean' | 'model_dir'>, log: Log = stderrLog): boolean {
  const plan = planClean(flagsObj);
  return plan !== null && carryOutClean(plan, log);
}

/** What cannot be looked at cannot be known for ours. */
function looking<T>(file: string, look: () => T): T {
  try {
    return look();
  } catch (error) {
    throw new Error(
      `--clean deletes nothing: ${file} cannot be read: ${reasonOf(error)}.\nhelp: choose another --model_dir.`,
      { cause: error },
    );
  }
}

/** Folders in which a mistake would cost too much, or null. */
function whyProtected(real: string): string | null {
  const contains = (other: string) => {
    const relative = path.relative(real, other);
    return relative === '' || !(relative.startsWith('..') || path.isAbsolute(relative));
  };
  const protectedDirs = {
    'the home folder': homedir(),
    'the current folder': process.cwd(),
    'the folder for temporary files': tmpdir(),
  };
  for (const [what, dir] of Object.entries(protectedDirs)) {
    if (existsSync(dir) && contains(realpathSync(dir))) return `it is or contains ${what}, ${dir}`;
  }
  return statSync(real).isDirectory() ? null : 'it is no folder';
}

/** Links are not followed: what they point to is not the run's. */
function describe(file: string): { ino: number; size: number; mtimeMs: number; isFile: boolean } {
  const stat = lstatSync(file);
  return { ino: stat.ino, size: stat.size, mtimeMs: stat.mtimeMs, isFile: stat.isFile() };
}

/** A checkpoint of a main of Lockstep, or one that was cut off: its header names the format first. */
function isOurCheckpoint(file: string): boolean {
  try {
    return /^lockstep-/.test(readTensorHeader(file).metadata.format ?? '');
  } catch (error) {
    if (!(error instanceof TensorFileError)) throw error;
    const start = head(file);
    return start === '' || start.startsWith('{"__metadata__":{"format":"lockstep-', 8);
  }
}

/** Whether the first line is a JSON object with these keys. An empty file is nobody's loss. */
function hasKeys(file: string, keys: readonly string[]): boolean {
  const [line] = head(file, 1 << 20).split('\n');
  if (line === '') return true;
  try {
    const value = JSON.parse(line as string) as object;
    return keys.every((key) => Object.hasOwn(value, key));
  } catch {
    return false;
  }
}

/** The beginning, a character for each byte of those that are not of a text. */
function head(file: string, bytes = HEAD_BYTES): string {
  const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  try {
    const buffer = Buffer.alloc(bytes);
    return buffer.toString('latin1', 0, readSync(descriptor, buffer, 0, bytes, 0));
  } finally {
    closeSync(descriptor);
  }
}

function exactly(name: string): RegExp {
  return new RegExp(`^${name.replaceAll('.', '\\.')}$`);
}
