/**
 * What the launcher says about this process: mpirun's and srun's environment variables, read without starting MPI.
 *
 * The program has to know its place before MPI starts (to print help, to check flags), and must not start MPI for nothing.
 */

/** This process's place in a job. */
export interface LaunchedProcess {
  readonly launcher: 'mpirun' | 'srun';
  readonly rank: number;
  readonly size: number;
  /** Among the processes of this machine. */
  readonly localRank: number;
  readonly localSize: number;
}

/** Null if neither mpirun nor `srun --mpi=pmix` started this process. */
export function launchedProcess(environment: NodeJS.ProcessEnv = process.env): LaunchedProcess | null {
  const { OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_LOCAL_RANK, OMPI_COMM_WORLD_LOCAL_SIZE } =
    environment;
  if (OMPI_COMM_WORLD_RANK !== undefined && OMPI_COMM_WORLD_SIZE !== undefined) {
    return {
      launcher: 'mpirun',
      rank: Number(OMPI_COMM_WORLD_RANK),
      size: Number(OMPI_COMM_WORLD_SIZE),
      localRank: Number(OMPI_COMM_WORLD_LOCAL_RANK ?? 0),
      localSize: Number(OMPI_COMM_WORLD_LOCAL_SIZE ?? 1),
    };
  }
  // A batch script has SLURM_PROCID too; only what srun started over PMIx can start MPI.
  const { PMIX_RANK, SLURM_NTASKS, SLURM_LOCALID } = environment;
  if (PMIX_RANK !== undefined && SLURM_NTASKS !== undefined) {
    return {
      launcher: 'srun',
      rank: Number(PMIX_RANK),
      size: Number(SLURM_NTASKS),
      localRank: Number(SLURM_LOCALID ?? 0),
      localSize: tasksOfNode(environment),
    };
  }
  return null;
}

/** Tasks of this step on this node. (SLURM_NTASKS_PER_NODE is what was asked of the job, if anything was.) */
function tasksOfNode({ SLURM_STEP_TASKS_PER_NODE, SLURM_NODEID, SLURM_NTASKS_PER_NODE }: NodeJS.ProcessEnv): number {
  // '2(x3),1': 2 on each of three nodes, 1 on the fourth.
  let nodes = Number(SLURM_NODEID ?? 0);
  for (const part of SLURM_STEP_TASKS_PER_NODE?.split(',') ?? []) {
    const [, tasks, times = '1'] = /^(\d+)(?:\(x(\d+)\))?$/.exec(part) ?? [];
    if (tasks === undefined) break;
    if (nodes < Number(times)) return Number(tasks);
    nodes -= Number(times);
  }
  return Number.parseInt(SLURM_NTASKS_PER_NODE ?? '1', 10);
}
