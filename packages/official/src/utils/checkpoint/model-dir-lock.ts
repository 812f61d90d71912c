/**
 * One run at a time writes into a model folder: `.lockstep-lock` says which. It holds the process's id and start time, its
 * host, boot and process namespace, and is touched every few seconds. A lock whose process is gone (kill -9, a machine that
 * went down) is nobody's and is taken over: at once where that can be seen, otherwise after watching that nobody touches it.
 *
 * Readers need no lock. It keeps runs of this program apart and nothing else: no file is protected by it.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  linkSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { quoted } from '../files/quoted.js';

export const LOCK_NAME = '.lockstep-lock';

/** How often a run touches its lock, */
const BEAT_MS = 5_000;
/** and how long one that cannot be looked up is watched before it counts as left behind: several beats. */
const WATCH_MS = 20_000;
/** A lock that was touched so long ago needs no watching: clocks of one file server are not that far apart. */
const LONG_AGO_MS = 300_000;
const POLL_MS = 500;
/** Others may take the same lock over at the same moment; not for ever. */
const TRIES = 10;
const MAX_BYTES = 10_000;

/** Who has a lock. What a system does not tell is null. */
interface Holder {
  readonly pid: number;
  /** Of the process, in clock ticks since the machine's start: tells it from a later one with the same id. */
  readonly started: string | null;
  readonly host: string;
  /** Other after each start of the machine, and on each machine. */
  readonly boot: string | null;
  /** Process ids mean something only within their namespace (a container has its own). */
  readonly namespace: string | null;
  /** For people. */
  readonly since: string;
}

/** Another run writes into the folder. */
export class ModelDirInUseError extends Error {
  override readonly name = 'ModelDirInUseError';
}

export interface LockOptions {
  /** How long to wait for another run that is about to end; a job that is started again may meet its predecessor. Default 0. */
  readonly patienceMs?: number;
  /** Told why it takes a while, and of a lock that was left behind or lost. */
  readonly log?: (line: string) => void;
  /** Ends the waiting: `acquire` throws its reason. */
  readonly signal?: AbortSignal;
  /** Default {@link WATCH_MS}, for tests. */
  readonly watchMs?: number;
}

/** A lock that is held. */
export class ModelDirLock {
  readonly #path: string;
  readonly #text: string;
  readonly #log: (line: string) => void;
  readonly #beat: NodeJS.Timeout;
  readonly #onExit = () => this.release();

  private constructor(path: string, text: string, log: (line: string) => void) {
    this.#path = path;
    this.#text = text;
    this.#log = log;
    this.#beat = setInterval(() => this.#touch(), BEAT_MS).unref();
    process.on('exit', this.#onExit);
  }

  /**
   * Takes the lock of a folder that is there.
   * @throws ModelDirInUseError naming who has it; the system's error if no file can be made in the folder.
   */
  static async acquire(modelDir: string, options: LockOptions = {}): Promise<ModelDirLock> {
    const { patienceMs = 0, log = () => {}, watchMs = WATCH_MS, signal } = options;
    const path = join(modelDir, LOCK_NAME);
    const text = `${JSON.stringify(thisProcess())}\n`;
    const patientUntil = performance.now() + patienceMs;
    let hasSpoken = false;
    for (let tries = 1; tries <= TRIES; ) {
      signal?.throwIfAborted();
      if (place(path, text)) return new ModelDirLock(path, text, log);
      const found = look(path);
      if (found === null) {
        tries++;
        continue;
      }
      const holder = parse(found.text);
      let state = holder ? stateOf(holder) : 'unknown';
      if (state === 'unknown' && age(path, found.touched) > LONG_AGO_MS) state = 'gone';
      if (state === 'unknown') {
        log(
          `${path} is of ${nameOf(holder)}, which cannot be looked up here; watching for ${watchMs / 1000} s whether it is there.`,
        );
        state = await watch(path, found, watchMs, signal);
      }
      if (state === 'gone') {
        takeOver(path, found.text);
        log(`${path} was left behind by ${nameOf(holder)} and is taken over.`);
        tries++;
      } else if (performance.now() < patientUntil) {
        if (!hasSpoken)
          log(`--model_dir=${modelDir} is in use by ${nameOf(holder)}; waiting ${patienceMs / 1000} s for it to end.`);
        hasSpoken = true;
        await sleep(POLL_MS);
      } else {
        throw new ModelDirInUseError(
          `--model_dir=${modelDir} is in use by another run: ${nameOf(holder)}. Two would overwrite each other's checkpoints.\n` +
            'help: wait for it to end, or choose another --model_dir; --eval_only may run beside it.',
        );
      }
    }
    throw new ModelDirInUseError(
      `--model_dir=${modelDir}: its lock ${path} could not be taken.\nhelp: delete ${path} if no other run uses the folder.`,
    );
  }

  /** @throws ModelDirInUseError if somebody has taken it over, believing this process gone. */
  check(): void {
    const found = look(this.#path);
    if (found?.text === this.#text) return;
    throw new ModelDirInUseError(
      `${this.#path} is not this run's any more: ${nameOf(parse(found?.text ?? ''))} has taken it over.\n` +
        'help: choose another --model_dir for one of the two.',
    );
  }

  /** Gives it back. Nothing happens if somebody else has it meanwhile, or at the second time. */
  release(): void {
    clearInterval(this.#beat);
    process.off('exit', this.#onExit);
    try {
      if (look(this.#path)?.text === this.#text) unlinkSync(this.#path);
    } catch {
      // The folder is gone, or cannot be written to any more: the lock is stale as soon as this process has ended.
    }
  }

  #touch(): void {
    try {
      if (look(this.#path)?.text === this.#text) {
        const now = new Date();
        utimesSync(this.#path, now, now);
        return;
      }
    } catch {
      return; // A file server that does not answer for a while: the next beat tries again.
    }
    clearInterval(this.#beat);
    this.#log(`warning: ${this.#path} is not this run's any more: another run may be writing into the folder.`);
  }
}

function thisProcess(): Holder {
  return {
    pid: process.pid,
    started: processStart(process.pid),
    host: hostname(),
    boot: bootId(),
    namespace: namespaceOf(),
    since: new Date().toISOString(),
  };
}

type State = 'there' | 'gone' | 'unknown';

function stateOf({ pid, started, host, boot, namespace }: Holder): State {
  const isHere = host === hostname() && boot === bootId() && namespace === namespaceOf();
  if (!isHere) return 'unknown';
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return 'gone';
  }
  // Without /proc a process with this id is believed to be the one.
  return started === processStart(pid) ? 'there' : 'gone';
}

/** Whether anybody touches the lock, or changes it. */
async function watch(path: string, before: Look, watchMs: number, signal?: AbortSignal): Promise<State> {
  for (const end = performance.now() + watchMs; performance.now() < end; ) {
    await sleep(Math.min(POLL_MS, watchMs));
    signal?.throwIfAborted();
    const now = look(path);
    // Gone or changed: whoever asked looks again.
    if (now === null || now.text !== before.text) return 'there';
    if (now.touched !== before.touched) return 'there';
  }
  return 'gone';
}

interface Look {
  /** '' for what is no readable file. */
  readonly text: string;
  readonly touched: number;
}

/** Null if it is not there. Opened each time: file servers' clients look again then. */
function look(path: string): Look | null {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return null;
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return { text: '', touched: stat.mtimeMs };
  }
  try {
    const opened = fstatSync(descriptor);
    const isLock = opened.isFile() && opened.size <= MAX_BYTES;
    return { text: isLock ? readFileSync(descriptor, 'utf8') : '', touched: opened.mtimeMs };
  } finally {
    closeSync(descriptor);
  }
}

function parse(text: string): Holder | null {
  try {
    const holder = JSON.parse(text) as Holder;
    return Number.isSafeInteger(holder.pid) && holder.pid > 0 && typeof holder.host === 'string' ? holder : null;
  } catch {
    return null;
  }
}

function nameOf(holder: Holder | null): string {
  if (holder === null) return 'nobody who can be named';
  return `process ${holder.pid} on host ${quoted(holder.host)}, since ${quoted(String(holder.since)).slice(1, -1)}`;
}

/** How long ago by the file server's own clock, in milliseconds. */
function age(path: string, touched: number): number {
  const own = aside(path);
  writeFileSync(own, '', { flag: 'wx' });
  try {
    return lstatSync(own).mtimeMs - touched;
  } finally {
    unlinkSync(own);
  }
}

function aside(path: string): string {
  return `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
}

/** Makes the lock, whole at once. @returns false if there is one. */
function place(path: string, text: string): boolean {
  const own = aside(path);
  writeFileSync(own, text, { flag: 'wx' });
  try {
    try {
      linkSync(own, path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
      // A file system without hard links: half a lock may be seen for a moment, and is watched then.
      writeFileSync(path, text, { flag: 'wx' });
    }
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    unlinkSync(own);
  }
}

/** Takes a lock away that is nobody's. Somebody else may be at it: what is not the one that was looked at is put back. */
function takeOver(path: string, stale: string): void {
  const own = aside(path);
  try {
    renameSync(path, own);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (look(own)?.text !== stale) {
    try {
      linkSync(own, path);
    } catch {
      // There is a third one already.
    }
  }
  unlinkSync(own);
}

/** Null where there is no /proc. A zombie has ended. */
function processStart(pid: number): string | null {
  const stat = readSystem(`/proc/${pid}/stat`);
  if (stat === null) return null;
  // The name, in parentheses, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ['Z', 'X'].includes(fields[0] as string) ? null : (fields[19] ?? null);
}

function bootId(): string | null {
  return readSystem('/proc/sys/kernel/random/boot_id')?.trim() ?? null;
}

function namespaceOf(): string | null {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return null;
  }
}

function readSystem(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
