/**
 * What the launcher says about this process: mpirun's and srun's environment variables, read without starting MPI.
 *
 * The program has to know its place before MPI starts (to print help, to check flags), and must not start MPI for nothing.
 */
import { ClusterError } from './cluster-spec.js';
import { environmentNumber } from './environment-number.js';

/** This process's place in a job. */
export interface LaunchedProcess {
  readonly launcher: 'mpirun' | 'srun';
  readonly rank: number;
  readonly size: number;
  /** Among the processes of this machine. */
  readonly localRank: number;
  readonly localSize: number;
}

/** Null if neither mpirun nor `srun --mpi=pmix` started this process. @throws ClusterError for variables that are no numbers. */
export function launchedProcess(environment: NodeJS.ProcessEnv = process.env): LaunchedProcess | null {
  const number = (name: string, byDefault?: number) => environmentNumber(environment, name, byDefault);
  if (environment.OMPI_COMM_WORLD_RANK !== undefined && environment.OMPI_COMM_WORLD_SIZE !== undefined) {
    return placed({
      launcher: 'mpirun',
      rank: number('OMPI_COMM_WORLD_RANK'),
      size: number('OMPI_COMM_WORLD_SIZE'),
      localRank: number('OMPI_COMM_WORLD_LOCAL_RANK', 0),
      localSize: number('OMPI_COMM_WORLD_LOCAL_SIZE', 1),
    });
  }
  // A batch script has SLURM_PROCID too; only what srun started over PMIx can start MPI.
  if (environment.PMIX_RANK !== undefined && environment.SLURM_NTASKS !== undefined) {
    return placed({
      launcher: 'srun',
      rank: number('PMIX_RANK'),
      size: number('SLURM_NTASKS'),
      localRank: number('SLURM_LOCALID', 0),
      localSize: tasksOfNode(environment),
    });
  }
  return null;
}

function placed(launched: LaunchedProcess): LaunchedProcess {
  const { launcher, rank, size } = launched;
  if (rank < size) return launched;
  throw new ClusterError(
    `By the environment this process is rank ${rank} of ${size} that ${launcher} started.\nhelp: unset what was set by hand.`,
  );
}

/** Tasks of this step on this node. (SLURM_NTASKS_PER_NODE is what was asked of the job, if anything was.) */
function tasksOfNode({ SLURM_STEP_TASKS_PER_NODE, SLURM_NODEID, SLURM_NTASKS_PER_NODE }: NodeJS.ProcessEnv): number {
  // '2(x3),1': 2 on each of three nodes, 1 on the fourth.
  let nodes = environmentNumber({ SLURM_NODEID }, 'SLURM_NODEID', 0);
  for (const part of SLURM_STEP_TASKS_PER_NODE?.split(',') ?? []) {
    const [, tasks, times = '1'] = /^(\d+)(?:\(x(\d+)\))?$/.exec(part) ?? [];
    if (tasks === undefined) break;
    if (nodes < Number(times)) return Number(tasks);
    nodes -= Number(times);
  }
  return Number.parseInt(SLURM_NTASKS_PER_NODE ?? '1', 10) || 1;
}
