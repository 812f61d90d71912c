/**
 * Which cluster this process belongs to: the one place that looks at all sources and insists that they agree.
 *
 * Sources: TF_CONFIG (also what `configureCluster` wrote there), the launcher's environment, and LOCKSTEP_NUM_PS for
 * parameter servers. Open MPI is the engine, so a cluster of several processes that no launcher started is an error, and
 * the error shows the command.
 */
import { hostname } from 'node:os';
import { ClusterError, type ClusterSpec, isChief, type Task, tasksByRank, tasksOf } from './cluster-spec.js';
import { environmentNumber } from './environment-number.js';
import type { Host } from './kubernetes.js';
import { type LaunchedProcess, launchedProcess } from './mpi-environment.js';
import { mpirunCommand, shellQuote } from './mpirun-command.js';
import { readTfConfig } from './tf-config.js';

/** Variable by which `lockstep launch --ps N` makes the last N ranks parameter servers. */
export const NUM_PS_VARIABLE = 'LOCKSTEP_NUM_PS';

/** This process in its cluster. */
export interface Cluster {
  readonly spec: ClusterSpec;
  readonly task: Task;
  readonly isChief: boolean;
  /** Chief and workers. */
  readonly numWorkers: number;
  readonly numParameterServers: number;
  /** Null for a cluster of one process that nobody launched. */
  readonly launched: LaunchedProcess | null;
}

/** More than one process is meant, and this one was started alone. */
export class NotLaunchedError extends ClusterError {
  constructor(
    message: string,
    /** What to type instead. */
    readonly command: string,
  ) {
    super(message);
  }
}

/**
 * @param argv Program and arguments, for the command in the error. Default: this process's.
 * @throws NotLaunchedError; ClusterError when the sources contradict each other.
 */
export function resolveCluster(
  environment: NodeJS.ProcessEnv = process.env,
  argv: readonly string[] = process.argv,
): Cluster {
  const launched = launchedProcess(environment);
  const { cluster } = readTfConfig(environment);
  const spec = cluster ?? specOfLaunch(launched, environment);
  const tasks = tasksByRank(spec);
  if (tasks.length === 0) throw new ClusterError('You must have `chief` or `worker` jobs in the `cluster_spec`.');
  if (tasks.length > 1 && !launched) throw notLaunched(spec, environment, argv);
  if (launched && launched.size !== tasks.length) {
    throw new ClusterError(
      `${launched.launcher} started ${launched.size} processes, and TF_CONFIG (or --worker_hosts) describes ${tasks.length} tasks.\n` +
        `help: start ${tasks.length} processes, or leave TF_CONFIG and --worker_hosts out: the launcher's processes are the workers.`,
    );
  }
  // The launcher's rank decides: the same TF_CONFIG may have been handed to all processes.
  const task = tasks[launched?.rank ?? 0] as Task;
  return {
    spec,
    task,
    isChief: isChief(spec, task),
    numWorkers: tasksOf(spec, 'chief').length + tasksOf(spec, 'worker').length,
    numParameterServers: tasksOf(spec, 'ps').length,
    launched,
  };
}

function specOfLaunch(launched: LaunchedProcess | null, environment: NodeJS.ProcessEnv): ClusterSpec {
  const size = launched?.size ?? 1;
  const servers = environmentNumber(environment, NUM_PS_VARIABLE, 0);
  if (servers >= Math.max(size, 1)) {
    throw new ClusterError(
      `${NUM_PS_VARIABLE} is '${environment[NUM_PS_VARIABLE]}' and ${size} processes were started; at least one has to be a worker.\n` +
        'help: lockstep launch --hosts a:2,b:2 --ps 1 -- … sets it.',
    );
  }
  const addresses = (count: number, kind: string) => Array.from({ length: count }, (_, i) => `${kind}-${i}`);
  return {
    worker: addresses(size - servers, launched ? 'rank' : hostname()),
    ...(servers > 0 && { ps: addresses(servers, 'ps-rank') }),
  };
}

function notLaunched(spec: ClusterSpec, environment: NodeJS.ProcessEnv, argv: readonly string[]): NotLaunchedError {
  const tasks = tasksByRank(spec);
  const hosts: Host[] = [];
  for (const { type, index } of tasks) {
    const name = (spec[type]?.[index] ?? 'localhost').replace(/:\d+$/, '');
    const last = hosts.at(-1);
    if (last?.name === name) hosts[hosts.length - 1] = { name, slots: last.slots + 1 };
    else hosts.push({ name, slots: 1 });
  }
  const servers = tasksOf(spec, 'ps').length;
  const plan = {
    hosts,
    program: withoutClusterFlags(argv),
    forward: servers > 0 ? [`${NUM_PS_VARIABLE}=${servers}`] : [],
  };
  const command = shellQuote(mpirunCommand(plan, environment));
  // configureCluster wrote TF_CONFIG if the flags named the cluster; the person has nothing to unset then.
  const isFromFlags = plan.program.length < argv.length;
  return new NotLaunchedError(
    `The cluster has ${tasks.length} processes (${describe(spec)}), and this one was not started by mpirun or srun.\n` +
      'Lockstep talks through Open MPI, which starts all of them from one command, on one machine.\n' +
      `help: ${environment.TF_CONFIG && !isFromFlags ? 'unset TF_CONFIG; ' : ''}${command}`,
    command,
  );
}

/** mpirun's ranks are the task indices. */
function withoutClusterFlags(argv: readonly string[]): string[] {
  const kept: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const match = /^--?(worker_hosts|task_index)(=|$)/.exec(argv[i] as string);
    if (!match) kept.push(argv[i] as string);
    else if (match[2] === '') i++;
  }
  return kept;
}

function describe(spec: ClusterSpec): string {
  return Object.entries(spec)
    .map(([job, addresses]) => `${job}: ${addresses.join(', ')}`)
    .join('; ');
}
