/**
 * For tests: a Slurm cluster of two nodes on this machine, n1 and n2, for as long as the test lasts. Not part of the package.
 *
 * Real munged, slurmctld and one slurmd per node, with files in one folder and ports that were free; another Slurm on
 * the machine is not touched. Both nodes are the same cores, so jobs may run anywhere.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { hostname, userInfo } from 'node:os';
import { join } from 'node:path';
import { processesByRank } from './process.js';

const NODES = ['n1', 'n2'];
/** Debian's folders of libraries. */
const MULTIARCH: Partial<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/** Why there cannot be a Slurm cluster here, or false: fits node:test's `skip`. */
export function whyNoSlurm(): string | false {
  if (process.platform !== 'linux') return 'Slurm is run on Linux';
  const missing = ['slurmctld', 'slurmd', 'srun', 'munged'].find((name) => spawnSync(name, ['-V']).error);
  if (missing) return `${missing} is not installed (apt-get install slurm-wlm munge libpmix-dev)`;
  const libraries = ['/usr/lib', `/usr/lib/${MULTIARCH[process.arch]}`, '/usr/lib64', '/usr/local/lib'];
  return libraries.some((library) => existsSync(join(library, 'libpmix.so')))
    ? false
    : "libpmix.so, which Slurm's plugin pmix opens, is not installed (apt-get install libpmix-dev)";
}

/** See the file's head. */
export class SlurmCluster {
  /** For every command of Slurm that shall speak to this cluster. */
  readonly environment: NodeJS.ProcessEnv;
  /** CPUs of each node. */
  readonly cpus: number;
  readonly #daemons: ChildProcess[] = [];

  private constructor(
    readonly folder: string,
    ports: number[],
  ) {
    for (const name of NODES) for (const kind of ['tmp', 'spool']) mkdirSync(join(folder, `${kind}-${name}`));
    mkdirSync(join(folder, 'state'));
    const key = join(folder, 'munge.key');
    writeFileSync(key, randomBytes(1024), { mode: 0o600 });
    // 'NodeName=host CPUs=2 Boards=1 … RealMemory=24105', then a line with the time it is up.
    const topology = execFileSync('slurmd', ['-C'], { encoding: 'utf8' }).match(
      /CPUs=.*(?= RealMemory)/,
    )?.[0] as string;
    this.cpus = Number(/CPUs=(\d+)/.exec(topology)?.[1]);
    const host = hostname().split('.')[0];
    const user = userInfo().username;
    const node = (name: string, i: number) =>
      `NodeName=${name} NodeHostname=${host} NodeAddr=127.0.0.1 Port=${ports[i + 1]} ${topology}`;
    const conf = join(folder, 'slurm.conf');
    const socket = join(folder, 'munge.sock');
    writeFileSync(
      conf,
      `ClusterName=lockstep
SlurmctldHost=${host}(127.0.0.1)
SlurmctldPort=${ports[0]}
AuthInfo=socket=${socket}
SlurmUser=${user}
SlurmdUser=${user}
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool-%n
# Without a folder for each node the two nodes' PMIx servers would meet in /tmp.
TmpFS=${folder}/tmp-%n
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=10
${NODES.map(node).join('\n')}
PartitionName=main Nodes=${NODES.join(',')} Default=YES State=UP
`,
    );
    this.environment = { SLURM_CONF: conf };
    const files = ['pid', 'log', 'seed'].map((kind) => `--${kind}-file=${join(folder, `munge.${kind}`)}`);
    this.#start('munged', ['--foreground', '--force', `--key-file=${key}`, `--socket=${socket}`, ...files]);
    this.#start('slurmctld', ['-D']);
    for (const name of NODES) this.#start('slurmd', ['-D', '-N', name]);
  }

  /** @throws Error after 30 s, with what the daemons said. */
  static async start(folder: string): Promise<SlurmCluster> {
    const cluster = new SlurmCluster(folder, await freePorts(1 + NODES.length));
    try {
      await cluster.#until(
        () => cluster.run('sinfo', ['--noheader', '--format=%T %D']).trim() === 'idle 2',
        30,
        'two idle nodes',
      );
    } catch (error) {
      await cluster.remove();
      throw error;
    }
    return cluster;
  }

  /** What a command of Slurm prints. Its status is not looked at: sinfo fails until slurmctld is up. */
  run(command: string, args: readonly string[], environment: NodeJS.ProcessEnv = {}): string {
    const env = { ...process.env, ...this.environment, ...environment };
    const { stdout, stderr, error } = spawnSync(command, args, { env, encoding: 'utf8', timeout: 30_000 });
    if (error) throw error;
    return stdout || stderr;
  }

  /** Puts a batch file in the queue. @returns the job's id. */
  submit(args: readonly string[], environment: NodeJS.ProcessEnv = {}): string {
    const job = this.run('sbatch', ['--parsable', ...args], environment).trim();
    if (!/^\d+$/.test(job)) throw new Error(`sbatch: ${job}`);
    return job;
  }

  /** A field of `scontrol show job`: JobState, Restarts, ExitCode, … */
  field(job: string, name: string): string {
    return new RegExp(`\\b${name}=(\\S*)`).exec(this.run('scontrol', ['show', 'job', job]))?.[1] ?? '';
  }

  /** Waits for the job's state. @throws Error if another final state comes, or none within the limit, with `output()`. */
  async untilState(job: string, state: string, output: () => string, limitSeconds = 60): Promise<void> {
    const isOver = (now: string) => ['COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL'].includes(now);
    const check = () => {
      const now = this.field(job, 'JobState');
      if (now !== state && isOver(now)) throw new Error(`Job ${job} is ${now}, not ${state}:\n${output()}`);
      return now === state;
    };
    await this.#until(check, limitSeconds, `${state} of job ${job}`, output);
  }

  /** Process ids of a job's ranks, by rank: those that PMIx gave one, under the name `command`. */
  ranksOf(job: string, command: string): Map<number, number> {
    return processesByRank((folder) => {
      const environment = readFileSync(`${folder}/environ`, 'utf8');
      const isOurs = ['SLURM_CONF', 'SLURM_JOB_ID'].every((key, i) =>
        `\0${environment}`.includes(`\0${key}=${[this.environment.SLURM_CONF, job][i]}\0`),
      );
      const words = readFileSync(`${folder}/cmdline`, 'utf8').split('\0');
      return isOurs && words.includes(command) ? /(?:^|\0)PMIX_RANK=(\d+)/.exec(environment)?.[1] : undefined;
    });
  }

  /** Ends jobs and daemons. */
  async remove(): Promise<void> {
    this.run('scancel', ['--user', userInfo().username, '--signal=KILL']);
    // slurmd first, so that the steps that it ends can still be reported.
    for (const daemon of this.#daemons.reverse()) {
      if (daemon.exitCode !== null || daemon.signalCode !== null) continue;
      const ended = new Promise((resolve) => daemon.on('exit', resolve));
      daemon.kill('SIGTERM');
      const timer = setTimeout(() => daemon.kill('SIGKILL'), 5000);
      await ended;
      clearTimeout(timer);
    }
  }

  #start(command: string, args: readonly string[]): void {
    const log = openSync(join(this.folder, 'daemons.log'), 'a');
    this.#daemons.push(
      spawn(command, args, { env: { ...process.env, ...this.environment }, stdio: ['ignore', log, log] }),
    );
  }

  async #until(check: () => boolean, limitSeconds: number, what: string, output = () => ''): Promise<void> {
    const end = performance.now() + limitSeconds * 1000;
    while (!check()) {
      if (performance.now() > end) {
        const log = readFileSync(join(this.folder, 'daemons.log'), 'utf8').slice(-4000);
        throw new Error(`No ${what} within ${limitSeconds} s.\n${output()}\n${log}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.on('error', reject).listen(0, '127.0.0.1', () => {
            const address = server.address();
            resolve(typeof address === 'object' && address ? address.port : 0);
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
