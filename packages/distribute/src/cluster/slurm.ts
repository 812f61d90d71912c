/**
 * The cluster that Slurm allocated: SlurmClusterResolver.
 *
 * Tasks are laid out host by host, jobs in sorted order of their names, ports counted from a base on each host. Start the
 * program with `srun --mpi=pmix`, or with mpirun inside the allocation; both give rank and size.
 */
import { execFileSync } from 'node:child_process';
import { ClusterError, type ClusterSpec, type Task } from './cluster-spec.js';
import { environmentNumber } from './environment-number.js';

export interface SlurmOptions {
  /** Number of tasks of each job: {ps: 1, worker: 3}. */
  readonly jobs: Readonly<Record<string, number>>;
  /** Default 8888. */
  readonly portBase?: number;
  /** Default 1. */
  readonly gpusPerNode?: number;
  /** Default 1. */
  readonly gpusPerTask?: number;
  /** Default: SLURM_NTASKS_PER_NODE. */
  readonly tasksPerNode?: number;
  /** Sets CUDA_VISIBLE_DEVICES of this process. Default true. */
  readonly autoSetGpu?: boolean;
  readonly rpcLayer?: string;
  readonly environment?: NodeJS.ProcessEnv;
  /** The allocation's hosts. Default: what `scontrol show hostname` prints. */
  readonly hosts?: () => string[];
}

/** tf.distribute.cluster_resolver.SlurmClusterResolver. */
export class SlurmClusterResolver {
  readonly rpcLayer: string;
  readonly #jobs: [string, number][];
  readonly #environment: NodeJS.ProcessEnv;
  readonly #rank: number;
  readonly #tasksPerNode: number;
  readonly #hosts: string[];
  #task: Task | null = null;

  /** @throws ClusterError with upstream's texts. */
  constructor(private readonly options: SlurmOptions) {
    const { jobs, gpusPerNode = 1, gpusPerTask = 1, tasksPerNode, environment = process.env } = options;
    this.#environment = environment;
    this.rpcLayer = options.rpcLayer ?? 'grpc';
    this.#jobs = Object.entries(jobs).sort(([left], [right]) => (left < right ? -1 : 1));
    this.#rank = numberOf(environment, 'OMPI_COMM_WORLD_RANK', 'SLURM_PROCID');
    const tasks = numberOf(environment, 'OMPI_COMM_WORLD_SIZE', 'SLURM_NTASKS');
    // '2(x3)' is Slurm's way to write 2 on each of 3 nodes.
    const perNode = tasksPerNode ?? Number.parseInt(environment.SLURM_NTASKS_PER_NODE ?? '', 10);
    if (!Number.isInteger(perNode)) {
      throw new ClusterError('Neither `tasks_per_node` or SLURM_NTASKS_PER_NODE is set.');
    }
    this.#tasksPerNode = perNode;
    if (perNode * gpusPerTask > gpusPerNode) throw new ClusterError('Requested more GPUs per node then available.');
    if (this.#jobs.reduce((sum, [, count]) => sum + count, 0) !== tasks) {
      throw new ClusterError('Requested more tasks then assigned tasks.');
    }
    this.#hosts = (options.hosts ?? (() => hostsOfAllocation(environment)))();
  }

  clusterSpec(): ClusterSpec {
    const { portBase = 8888, gpusPerTask = 1, autoSetGpu = true } = this.options;
    const slots = this.#hosts.flatMap((host) =>
      Array.from({ length: this.#tasksPerNode }, (_, slot) => ({ host, slot, address: `${host}:${portBase + slot}` })),
    );
    const spec: Record<string, string[]> = {};
    let next = 0;
    for (const [job, count] of this.#jobs) {
      spec[job] = slots.slice(next, next + count).map(({ address }) => address);
      if (this.#rank >= next && this.#rank < next + count) this.#task = { type: job, index: this.#rank - next };
      next += count;
    }
    if (autoSetGpu) {
      const slot = slots[this.#rank]?.slot ?? 0;
      const gpus = Array.from({ length: gpusPerTask }, (_, i) => slot * gpusPerTask + i);
      this.#environment.CUDA_VISIBLE_DEVICES = gpus.join(',');
    }
    return spec;
  }

  /** This process's task; null before {@link clusterSpec}. */
  getTaskInfo(): Task | null {
    return this.#task;
  }

  /** '[rpc layer://]address' of a task, this process's by default. */
  master(task?: Task): string {
    const spec = this.clusterSpec();
    const chosen = task ?? this.#task;
    const address = chosen && spec[chosen.type]?.[chosen.index];
    if (!address) return '';
    return this.rpcLayer ? `${this.rpcLayer}://${address}` : address;
  }
}

function numberOf(environment: NodeJS.ProcessEnv, ...names: string[]): number {
  for (const name of names) {
    if (environment[name]) return environmentNumber(environment, name);
  }
  throw new ClusterError(
    `None of ${names.join(', ')} is set.\nhelp: start the program with srun --mpi=pmix, or with mpirun inside the allocation.`,
  );
}

function hostsOfAllocation(environment: NodeJS.ProcessEnv): string[] {
  try {
    const text = execFileSync('scontrol', ['show', 'hostname'], {
      env: environment,
      encoding: 'utf8',
      timeout: 10_000,
    });
    return text.split('\n').filter(Boolean);
  } catch (error) {
    throw new ClusterError(
      `\`scontrol show hostname\` failed: ${(error as Error).message.split('\n')[0]}.\n` +
        'help: run inside a Slurm allocation (salloc or sbatch), on a node that has scontrol.',
    );
  }
}
