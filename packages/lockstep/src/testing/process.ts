/**
 * For tests: runs the compiled `lockstep` command, alone or under real mpirun, with a time limit and everybody's output.
 *
 * Not part of the package. A run that exceeds its limit is ended with its whole process group, and `describe()` shows what
 * was printed until then.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));

export interface ProcessResult {
  /** Null if a signal ended it: the time limit's, or one that the test sent. */
  readonly status: number | null;
  /** Standard output and error of everybody, in the order of arrival. */
  readonly output: string;
  /** The same by rank of the job, where mpirun tagged it. */
  readonly ranks: Readonly<Record<number, string>>;
  readonly seconds: number;
  /** For assertion messages. */
  describe(): string;
}

export interface ProcessOptions {
  readonly limitSeconds?: number;
  readonly environment?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** A process under way. */
export interface RunningProcess {
  readonly child: ChildProcess;
  readonly result: Promise<ProcessResult>;
  output(): string;
  /** Until the output matches, or the process ends. @throws Error after `limitSeconds`. */
  until(pattern: RegExp, limitSeconds?: number): Promise<void>;
}

/** Why tests under mpirun cannot run here, or false: fits node:test's `skip`. */
export function whyNoMpirun(): string | false {
  return spawnSync('mpirun', ['--version']).status === 0
    ? false
    : 'mpirun is not installed (apt-get install openmpi-bin)';
}

/** mpirun's arguments for tests: `processes` ranks on this machine, whose lines are tagged with their rank. */
export function mpirunArguments(processes: number, more: readonly string[] = []): string[] {
  const root = process.getuid?.() === 0 ? ['--allow-run-as-root'] : [];
  return [...root, '--oversubscribe', '--bind-to', 'none', '--tag-output', ...more, '-np', String(processes)];
}

export function start(command: string, args: readonly string[], options: ProcessOptions = {}): RunningProcess {
  const { limitSeconds = 240, environment = {}, cwd } = options;
  const began = performance.now();
  const child = spawn(command, args, {
    // A group of its own, so that the time limit reaches everybody.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
    ...(cwd && { cwd }),
  });
  let output = '';
  const ranks: Record<number, string> = {};
  const take = (line: string) => {
    const match = /^\[\d+,(\d+)\]<\w+>:(.*)$/s.exec(line);
    if (match) ranks[Number(match[1])] = `${ranks[Number(match[1])] ?? ''}${match[2]}\n`;
  };
  for (const stream of [child.stdout, child.stderr]) {
    let rest = '';
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      lines.forEach(take);
    });
    stream.on('end', () => rest && take(rest));
  }
  let isOver = false;
  const result = new Promise<ProcessResult>((resolve, reject) => {
    const timer = setTimeout(() => {
      output += `(ended by the test after ${limitSeconds} s)\n`;
      killGroup(child);
    }, limitSeconds * 1000);
    child.on('error', reject);
    child.on('close', (status) => {
      isOver = true;
      clearTimeout(timer);
      const seconds = (performance.now() - began) / 1000;
      const describe = () =>
        `${command} ${args.join(' ')}: status ${status}, ${seconds.toFixed(1)} s\n${output.slice(-8000)}`;
      resolve({ status, output, ranks, seconds, describe });
    });
  });
  return {
    child,
    result,
    output: () => output,
    async until(pattern, seconds = 120) {
      const end = performance.now() + seconds * 1000;
      while (!pattern.test(output) && !isOver) {
        if (performance.now() > end) throw new Error(`No ${pattern} within ${seconds} s:\n${output}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  };
}

/** Runs `lockstep …` to its end. */
export function lockstep(args: readonly string[], options: ProcessOptions = {}): Promise<ProcessResult> {
  return start(process.execPath, [BIN, ...args], options).result;
}

/** Runs `lockstep …` in `processes` ranks under mpirun to its end. */
export function mpirun(
  processes: number,
  args: readonly string[],
  options: ProcessOptions & { readonly mpirunArgs?: readonly string[] } = {},
): Promise<ProcessResult> {
  return startMpirun(processes, args, options).result;
}

export function startMpirun(
  processes: number,
  args: readonly string[],
  options: ProcessOptions & { readonly mpirunArgs?: readonly string[] } = {},
): RunningProcess {
  const launch = mpirunArguments(processes, options.mpirunArgs);
  return start('mpirun', [...launch, process.execPath, BIN, ...args], options);
}

/** Process ids by rank. @param rankOf of a folder in /proc: the process's rank, or undefined if it is none that is looked for. */
export function processesByRank(rankOf: (folder: string) => string | undefined): Map<number, number> {
  const found = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const rank = rankOf(`/proc/${name}`);
      if (rank !== undefined) found.set(Number(rank), Number(name));
    } catch {
      // It has ended meanwhile, or is not ours to read.
    }
  }
  return found;
}

/** Process ids of the job's ranks that run this command, by rank. */
export function ranksOf(launcher: number): Map<number, number> {
  return processesByRank((folder) => {
    const fields = readFileSync(`${folder}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    if (Number(fields[1]) !== launcher) return undefined;
    return openMpiRank(readFileSync(`${folder}/environ`, 'utf8'));
  });
}

/** Rank by a process's environment, as /proc has it; undefined if mpirun did not start it. */
export function openMpiRank(environment: string): string | undefined {
  return /(?:^|\0)OMPI_COMM_WORLD_RANK=(\d+)/.exec(environment)?.[1];
}

/** Why no disk can be made slow here, or false: fits node:test's `skip`. */
export function whyNoSlowDisk(): string | false {
  return spawnSync('strace', ['-V']).status === 0 ? false : 'strace is not installed (apt-get install strace)';
}

/** The next sync to disk of a process takes so long. Ends with the process. */
export function slowDownDisk(pid: number, seconds: number): RunningProcess {
  const delay = `inject=fsync:delay_enter=${seconds * 1e6}:when=1`;
  return start('strace', ['-f', '-e', 'trace=fsync', '-e', delay, '-o', '/dev/null', '-p', String(pid)]);
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
