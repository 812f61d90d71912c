/**
 * `lockstep launch --hosts a:2,b:2 -- cifar10 …`: composes the mpirun line, prints it, runs it, and starts the job again from
 * its last checkpoint when it fails, as often as --max_restarts allows. It trains nothing and knows no ranks: whoever types
 * the printed line gets the same job.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  type Host,
  mpirunCommand,
  NUM_PS_VARIABLE,
  parseHostfile,
  parseHosts,
  removeSegments,
  STATUS_MARK_VARIABLE,
  shellQuote,
} from '@lockstep/distribute';
import { reasonOf } from '@lockstep/official/utils/files/file-errors';
import { FlagValues, UsageError } from '@lockstep/official/utils/flags/core';
import { INTERRUPTED, StopRequests, surviveBrokenOutput } from '@lockstep/official/utils/misc/interrupt';
import { isCommand } from '../cli.js';
import { flagMain } from '../flag-main.js';
import { StatusFilter } from '../status-filter.js';

const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));
/** What a shell says of a command that is not there. */
const NOT_FOUND = 127;
/** Exit status of the mains for bad flags: trying again would not help. */
const USAGE = 2;
/** mpirun may wait for a machine that it cannot reach any more; how long after the chief's end, beside twice the grace. */
const LINGER_SECONDS = 10;
/** Between a failure and the next try: sockets close, a pod comes back, a person can press Ctrl-C. Twice as long each time. */
const PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 60_000;

export interface LaunchOptions {
  readonly hosts: readonly Host[];
  readonly parameterServers: number;
  readonly maxRestarts: number;
  readonly graceSeconds: number;
  /** So long may mpirun take to reach all hosts. */
  readonly startSeconds: number;
  readonly mpirunArgs: readonly string[];
  /** What the ranks run: arguments of `lockstep`, or a program of one's own. */
  readonly command: readonly string[];
  readonly dryRun: boolean;
}

export function main(argv: readonly string[]): Promise<number> {
  const at = argv.indexOf('--');
  const [own, command] = at < 0 ? [argv, []] : [argv.slice(0, at), argv.slice(at + 1)];
  const flags = defineFlags();
  return flagMain(own, flags, () => launch(optionsOf(flags, command)));
}

/** @throws UsageError for flags that do not fit together, or to the command. */
function optionsOf(flags: FlagValues, command: readonly string[]): LaunchOptions {
  if (command.length === 0) {
    throw new UsageError('lockstep launch: there is nothing to run after --', {
      flag: '--',
      value: '',
      remedy: 'lockstep launch --hosts a:2,b:2 -- cifar10 --data_dir=… --model_dir=…',
    });
  }
  const value = (name: string) => flags.get(name as never) as unknown;
  const hosts = readHosts(value('hosts') as string | null, value('hostfile') as string | null);
  const parameterServers = value('ps') as number;
  const slots = hosts.reduce((sum, host) => sum + host.slots, 0);
  if (parameterServers >= slots) {
    throw new UsageError(`flag --ps=${parameterServers}: the hosts have ${slots} slots, so no worker is left`, {
      flag: 'ps',
      value: String(parameterServers),
      remedy: 'The last --ps processes of all become parameter servers; give the hosts more slots.',
    });
  }
  return {
    hosts,
    parameterServers,
    maxRestarts: value('max_restarts') as number,
    graceSeconds: value('grace_secs') as number,
    startSeconds: value('start_secs') as number,
    mpirunArgs: (value('mpirun_args') as string).split(/\s+/).filter(Boolean),
    command,
    dryRun: value('dry_run') as boolean,
  };
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep launch',
    summary:
      'Runs a command in many processes with mpirun, and again when it fails: lockstep launch --hosts a:2,b:2 -- cifar10 …',
  });
  const key = true;
  flags.DEFINE_string({
    name: 'hosts',
    default: null,
    key,
    help: 'Machines and their processes: a:2,b:2. Without it, and without --hostfile: localhost:2.',
  });
  flags.DEFINE_string({
    name: 'hostfile',
    default: null,
    key,
    help: "File with a line 'host slots=N' for each machine, as Open MPI and Kubeflow's MPIJob write it.",
  });
  flags.DEFINE_integer({
    name: 'ps',
    default: 0,
    lowerBound: 0,
    key,
    help: 'How many of the processes, the last ones, are parameter servers.',
  });
  flags.DEFINE_integer({
    name: 'max_restarts',
    default: 0,
    lowerBound: 0,
    key,
    help: 'How often a failed job is started again; it goes on from its last checkpoint.',
  });
  flags.DEFINE_integer({
    name: 'grace_secs',
    default: 1,
    lowerBound: 1,
    key,
    help: 'Seconds that processes get to say which one was lost before mpirun ends them; mpirun shows what they say only afterwards. Ctrl-C waits as long as saving takes; a second one does not.',
  });
  flags.DEFINE_integer({
    name: 'start_secs',
    default: 120,
    lowerBound: 1,
    key,
    help: "Seconds in which mpirun must have reached all hosts and begun a command of Lockstep's. Afterwards the command's own limits hold, --worker_start_secs first.",
  });
  flags.DEFINE_string({
    name: 'mpirun_args',
    default: '',
    key,
    help: "Further arguments of mpirun, separated by blanks: --mpirun_args='--mca btl_tcp_if_include eth0'.",
  });
  flags.DEFINE_bool({ name: 'dry_run', default: false, key, help: 'Print the mpirun line and run nothing.' });
  return flags;
}

function readHosts(hosts: string | null, hostfile: string | null): Host[] {
  if (hosts !== null && hostfile !== null) {
    throw new UsageError('flag --hostfile: --hosts is given as well', {
      flag: 'hostfile',
      value: hostfile,
      remedy: 'Give one of the two.',
    });
  }
  if (hostfile === null) {
    try {
      return parseHosts(hosts ?? 'localhost:2');
    } catch (error) {
      throw new UsageError(`flag --hosts=${hosts}: ${(error as Error).message.split('\n')[0]}`, {
        flag: 'hosts',
        value: String(hosts),
        remedy: 'host:processes, separated by commas: a:2,b:2.',
      });
    }
  }
  return parseHostfile(readHostfile(hostfile));
}

function readHostfile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new UsageError(`flag --hostfile=${path}: the file cannot be read: ${reasonOf(error)}`, {
      flag: 'hostfile',
      value: path,
      remedy: "Name a text file with a line 'host slots=N' for each machine.",
    });
  }
}

/** Whether a lost worker should leave the others going: parameter servers, under our own commands, which can tell. */
function isRecoverable({ parameterServers, command }: LaunchOptions): boolean {
  return parameterServers > 0 && isCommand(command[0] as string);
}

/** Arguments of the command, mpirun first. @param isRestart Leaves --clean out: it would delete what the restart goes on from. */
export function composeCommand(options: LaunchOptions, isRestart = false): string[] {
  const { hosts, parameterServers, command, graceSeconds, mpirunArgs } = options;
  const isOwn = isCommand(command[0] as string);
  const typed = isRestart ? command.filter((word) => !/^--?clean(=(true|1))?$/.test(word)) : command;
  // A flag file may have it as well, and `start` has it by itself; the last word counts.
  const words = isRestart && TRAINING.includes(command[0] as string) ? [...typed, '--noclean'] : typed;
  const namesStrategy = words.some((word) => /^--?(distribution_strategy|ds)(=|$)/.test(word));
  const strategy = parameterServers > 0 && isOwn && !namesStrategy ? ['--distribution_strategy=parameter_server'] : [];
  return mpirunCommand({
    hosts,
    program: isOwn ? [process.execPath, BIN, ...words, ...strategy] : words,
    forward: parameterServers > 0 ? [`${NUM_PS_VARIABLE}=${parameterServers}`] : [],
    graceSeconds,
    mpirunArgs: [...(isRecoverable(options) ? ['--enable-recovery'] : []), ...mpirunArgs],
  });
}

/** @returns the job's exit status: of the last try; 130 when interrupted. */
async function launch(options: LaunchOptions): Promise<number> {
  const say = (line: string) => process.stderr.write(`lockstep launch: ${line}\n`);
  if (options.dryRun) {
    process.stdout.write(`${shellQuote(composeCommand(options))}\n`);
    return 0;
  }
  const interrupt = new Interrupt();
  try {
    for (let restarts = 0; ; restarts++) {
      const command = composeCommand(options, restarts > 0);
      say(shellQuote(command));
      const status = await run(command, interrupt, options);
      if (status === 0) return 0;
      if (interrupt.isInterrupted) return INTERRUPTED;
      const left = options.maxRestarts - restarts;
      if (status === USAGE || status === NOT_FOUND || left <= 0) {
        if (options.maxRestarts > 0 && status !== USAGE && status !== NOT_FOUND) {
          say(`the job failed with exit status ${status}, and --max_restarts=${options.maxRestarts} is used up.`);
        }
        return status;
      }
      say(`the job failed with exit status ${status}; restart ${restarts + 1} of ${options.maxRestarts} follows.`);
      await interrupt.pause(Math.min(PAUSE_MS * 2 ** restarts, LONGEST_PAUSE_MS));
      if (interrupt.isInterrupted) return INTERRUPTED;
    }
  } finally {
    interrupt.stop();
  }
}

/** Runs mpirun with our output. In a group of its own: the terminal's Ctrl-C then reaches it once, through us. */
function run([program, ...words]: string[], interrupt: Interrupt, options: LaunchOptions): Promise<number> {
  const recovers = isRecoverable(options);
  const isMarked = isCommand(options.command[0] as string);
  const mark = `lockstep-status-${randomUUID()}`;
  const args = isMarked ? ['-x', `${STATUS_MARK_VARIABLE}=${mark}`, ...words] : words;
  const [file, ...rest] = endsWithUs([program as string, ...args], interrupt.signal);
  const child = spawn(file as string, rest, {
    stdio: ['ignore', 'inherit', isMarked ? 'pipe' : 'inherit'],
    detached: true,
  });
  const limit = new Limit(() => killWithChildren(child.pid as number));
  const { startSeconds, hosts } = options;
  if (isMarked) {
    const names = hosts.map(({ name }) => name).join(', ');
    limit.set(
      startSeconds,
      `no process of the job has begun within ${startSeconds} s: mpirun has not reached every host of ${names}, and is ended.\n` +
        'help: see whether `ssh HOST true` works for each; a longer limit is --start_secs.',
    );
  }
  const lingerSeconds = 2 * options.graceSeconds + LINGER_SECONDS;
  const filter = new StatusFilter(mark, (text) => process.stderr.write(text), {
    onBegun: () => limit.clear(),
    onStatus: () =>
      limit.set(
        lingerSeconds,
        `mpirun has not ended ${lingerSeconds} s after the chief; it waits for a machine that does not answer, and is ended.`,
      ),
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => filter.push(text));
  return new Promise((resolve, reject) => {
    const release = interrupt.forwardTo((signal) => child.kill(signal));
    child.once('error', (error: NodeJS.ErrnoException) => {
      release();
      limit.clear();
      if (error.code !== 'ENOENT') return reject(error);
      process.stderr.write(
        'mpirun was not found.\nhelp: on Debian or Ubuntu run `apt-get install openmpi-bin`, on every machine; elsewhere put ' +
          "Open MPI's bin folder into PATH.\n",
      );
      resolve(NOT_FOUND);
    });
    child.once('close', (status, signal) => {
      release();
      filter.end();
      limit.clear();
      // Ranks that were killed leave theirs.
      removeSegments(filter.job);
      if (limit.isOver) return resolve(filter.status ?? 1);
      // mpirun says 0 then, even of a job that was ended; a chief that is not there any more has not succeeded.
      if (recovers) return resolve(filter.status ?? (status || 1));
      // As a shell counts.
      resolve(status ?? (signal === null ? 1 : 128 + (SIGNALS[signal] ?? 0)));
    });
  });
}

/**
 * The command, such that it is told to end when this process is gone, however that ended: nobody would hear a job's end then, and
 * whoever gives the command again would have two of them. By util-linux' setpriv, where it is; elsewhere as it was.
 */
function endsWithUs(command: readonly string[], signal: NodeJS.Signals | null): readonly string[] {
  if (signal === null || process.platform !== 'linux') return command;
  const tie = ['setpriv', '--pdeathsig', signal.replace('SIG', ''), '--'];
  return spawnSync(tie[0] as string, [...tie.slice(1), 'true']).status === 0 ? [...tie, ...command] : command;
}

/** A limit on what mpirun does, which has none by itself. */
class Limit {
  isOver = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(private readonly end: () => void) {}

  /** In the place of the limit before. @param why What is said when it is over. */
  set(seconds: number, why: string): void {
    this.clear();
    this.#timer = setTimeout(() => {
      this.isOver = true;
      process.stderr.write(`lockstep launch: ${why}\n`);
      this.end();
    }, seconds * 1000);
  }

  clear(): void {
    clearTimeout(this.#timer);
  }
}

/** mpirun and what it has started here: ssh, which would hold our output open. */
function killWithChildren(pid: number): void {
  let children: number[] = [];
  try {
    const lists = readdirSync(`/proc/${pid}/task`).map((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8'),
    );
    children = lists.flatMap((list) => list.split(' ').filter(Boolean).map(Number));
  } catch {
    // Not Linux, or it has ended meanwhile.
  }
  for (const one of [pid, ...children]) {
    try {
      process.kill(one, 'SIGKILL');
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** Of `mpirun`; 0 where that cannot be known. */
function openMpiMajor(): number {
  const { stdout } = spawnSync('mpirun', ['--version'], { encoding: 'utf8', timeout: 10_000 });
  return Number(/Open MPI\) (\d+)/.exec(stdout ?? '')?.[1] ?? 0);
}

const SIGNALS: Readonly<Record<string, number>> = { SIGINT: 2, SIGKILL: 9, SIGTERM: 15 };

/** Our commands that have --clean. */
const TRAINING = ['cifar10', 'start'];

/** A terminal that closes is told here only: mpirun has a process group of its own. */
const STOPPING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Ctrl-C, SIGTERM and SIGHUP. The first asks every process, through mpirun, to finish its step, save and end; the second tells
 * mpirun to end the job.
 */
class Interrupt {
  isInterrupted = false;
  readonly #major = openMpiMajor();
  readonly #handsOn = this.#major >= 4;
  #forward: ((signal: NodeJS.Signals) => void) | null = null;
  #wake: (() => void) | null = null;
  readonly #release: () => void;
  readonly #requests = new StopRequests();
  readonly #listener = (): void => {
    const which = this.#requests.take();
    if (which === 'same') return;
    this.#forward?.(this.#handsOn && which === 'first' ? 'SIGUSR2' : 'SIGINT');
    this.isInterrupted = true;
    this.#wake?.();
  };

  /** What asks mpirun to have everybody save and end; null without an mpirun. */
  get signal(): NodeJS.Signals | null {
    if (this.#major === 0) return null;
    return this.#handsOn ? 'SIGUSR2' : 'SIGTERM';
  }

  constructor() {
    for (const signal of STOPPING) process.on(signal, this.#listener);
    // What the job prints goes through here: when nobody reads it any more, the job is asked to save and end.
    this.#release = surviveBrokenOutput(() => {
      if (!this.isInterrupted) this.#listener();
    });
  }

  forwardTo(forward: (signal: NodeJS.Signals) => void): () => void {
    this.#forward = forward;
    return () => {
      this.#forward = null;
    };
  }

  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  stop(): void {
    for (const signal of STOPPING) process.off(signal, this.#listener);
    this.#release();
  }
}
