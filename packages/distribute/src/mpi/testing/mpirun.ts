/**
 * For tests: runs a compiled program under real `mpirun` on this machine, with a time limit and every rank's output.
 *
 * Not part of the package. A run that exceeds its limit is ended with its whole process group, and the failure shows what
 * every rank had printed until then.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMpiAvailable } from '../native/library.js';
import { orderFile, RESULTS_VARIABLE, resultFile, writeWhole } from './result.js';

/** What a run came to. */
export interface MpirunResult {
  /** mpirun's exit status; null if it was ended by the time limit. */
  readonly status: number | null;
  /** Standard output and error of each rank, in the order of arrival of each. */
  readonly outputs: readonly string[];
  /** What each rank gave to `reportResult`; undefined where it did not. */
  readonly results: readonly unknown[];
  /** What mpirun itself said. */
  readonly launcher: string;
  readonly seconds: number;
  /** For assertion messages. */
  describe(): string;
}

export interface MpirunOptions {
  readonly args?: readonly string[];
  readonly limitSeconds?: number;
  readonly environment?: NodeJS.ProcessEnv;
  /** Further arguments of mpirun itself. */
  readonly mpirunArgs?: readonly string[];
}

/** Why tests under mpirun cannot run here, or false: fits node:test's `skip`. */
export function whyNoMpirun(): string | false {
  if (spawnSync('mpirun', ['--version']).status !== 0) return 'mpirun is not installed (apt-get install openmpi-bin)';
  if (!isMpiAvailable()) return 'libmpi cannot be loaded';
  return false;
}

/** Runs `program` (a URL beside the test) with `processes` ranks. */
export function mpirun(processes: number, program: URL, options: MpirunOptions = {}): Promise<MpirunResult> {
  return startMpirun(processes, program, options).result;
}

/** A job under way. */
interface RunningJob {
  readonly child: ChildProcess;
  /** Where ranks leave what they found, until the job ends. */
  readonly folder: string;
  readonly result: Promise<MpirunResult>;
}

/**
 * A job whose ranks stay, and play one scene after another (`playScenes`). A job starts with the first scene, and with the next one
 * after a scene that ended it.
 */
export class SceneJob {
  readonly #start: () => RunningJob;
  #running: { readonly job: RunningJob; scenes: number; ended: MpirunResult | null } | null = null;
  readonly #processes: number;

  constructor(processes: number, program: URL, options: MpirunOptions = {}) {
    this.#processes = processes;
    // For all of its scenes.
    this.#start = () => startMpirun(processes, program, { limitSeconds: 300, ...options });
  }

  /** What each rank gave. @throws Error with everybody's output if the job ended instead. */
  async play(args: object, limitSeconds = 60): Promise<unknown[]> {
    if (this.#running === null) {
      const begun = { job: this.#start(), scenes: 0, ended: null as MpirunResult | null };
      void begun.job.result.then((result) => (begun.ended = result));
      this.#running = begun;
    }
    const running = this.#running;
    const { folder, child } = running.job;
    const scene = ++running.scenes;
    writeWhole(orderFile(folder, scene), args);
    const files = Array.from({ length: this.#processes }, (_, rank) => resultFile(folder, rank, scene));
    const end = performance.now() + limitSeconds * 1000;
    while (!files.every((file) => existsSync(file))) {
      if (running.ended === null && performance.now() > end) killGroup(child);
      if (running.ended !== null) {
        this.#running = null;
        throw new Error(`The job ended in scene ${JSON.stringify(args)}.\n${running.ended.describe()}`);
      }
      await sleep(5);
    }
    return files.map((file) => JSON.parse(readFileSync(file, 'utf8')) as unknown);
  }

  /** Tells the ranks that this was all. @returns what the job came to; null if none is running. */
  async close(): Promise<MpirunResult | null> {
    const running = this.#running;
    this.#running = null;
    if (running === null) return null;
    if (running.ended === null) writeWhole(orderFile(running.job.folder, running.scenes + 1), null);
    return await running.job.result;
  }
}

function killGroup({ pid }: ChildProcess): void {
  for (const signal of ['SIGCONT', 'SIGKILL'] as const) {
    try {
      process.kill(-(pid as number), signal);
    } catch {
      // It has ended meanwhile.
    }
  }
}

function startMpirun(processes: number, program: URL, options: MpirunOptions): RunningJob {
  const { args = [], limitSeconds = 60, environment = {}, mpirunArgs = [] } = options;
  const began = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-mpirun-'));
  const child = spawn(
    'mpirun',
    [
      ...['--allow-run-as-root', '--oversubscribe', '--bind-to', 'none', '--tag-output', '-np', String(processes)],
      // Of its own accord mpirun kills ranks a second after it told them to end; on a busy machine one may get no core until then, and
      // what it would have said is what tests look at.
      ...['--mca', 'odls_base_sigkill_timeout', '4'],
      ...mpirunArgs,
      ...[process.execPath, fileURLToPath(program), ...args],
    ],
    // A group of its own, so that the time limit reaches the ranks too.
    {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment, [RESULTS_VARIABLE]: folder },
    },
  );
  const outputs: string[] = new Array(processes).fill('');
  let launcher = '';
  const take = (line: string) => {
    // '[1,2]<stderr>:text' is rank 2 of the job.
    const match = /^\[\d+,(\d+)\]<\w+>:(.*)$/s.exec(line);
    if (match) outputs[Number(match[1])] += `${match[2]}\n`;
    else launcher += `${line}\n`;
  };
  for (const stream of [child.stdout, child.stderr]) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      lines.forEach(take);
    });
    stream.on('end', () => rest && take(rest));
  }
  const result = new Promise<MpirunResult>((resolve, reject) => {
    const timer = setTimeout(() => {
      launcher += `(ended by the test after ${limitSeconds} s)\n`;
      killGroup(child);
    }, limitSeconds * 1000);
    child.on('error', reject);
    child.on('close', (status) => {
      clearTimeout(timer);
      const seconds = (performance.now() - began) / 1000;
      const describe = () =>
        [
          `mpirun -np ${processes} ${program.pathname.split('/').pop()} ${args.join(' ')}: status ${status}, ${seconds.toFixed(1)} s`,
          ...outputs.map((text, rank) => `--- rank ${rank}\n${text}`),
          `--- mpirun\n${launcher}`,
        ].join('\n');
      const results = outputs.map((_, rank) => {
        const file = resultFile(folder, rank);
        return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as unknown) : undefined;
      });
      rmSync(folder, { recursive: true, force: true });
      resolve({ status, outputs, results, launcher, seconds, describe });
    });
  });
  return { child, folder, result };
}
