/**
 * From flags to a cluster: `configure_cluster` of the Model Garden's `official/utils/misc/distribution_utils.py`.
 *
 * It only counts workers and writes TF_CONFIG, as upstream does; strategies read TF_CONFIG when they are made, so it must be
 * called before. What upstream does not have: without TF_CONFIG and --worker_hosts, mpirun's processes are the workers, and
 * under mpirun a task's index is its rank.
 */

/** The launcher's variables that matter here. */
type Environment = Record<string, string | undefined>;

/**
 * Number of worker processes, this one included.
 *
 * @param workerHosts --worker_hosts: 'host:port,host:port', the same on every worker.
 * @param taskIndex --task_index: this worker's position in it; −1 for not given.
 * @throws RangeError with upstream's text if there are several workers and no index; Error if TF_CONFIG has no cluster.
 */
export function configureCluster(
  workerHosts: string | null = null,
  taskIndex = -1,
  environment: Environment = process.env,
): number {
  if (environment.TF_CONFIG) return countWorkers(environment.TF_CONFIG);
  const { rank, size, servers } = launched(environment);
  if (workerHosts) {
    const workers = workerHosts.split(',').map((host) => host.trim());
    const index = taskIndex < 0 && rank !== null ? rank : taskIndex;
    if (workers.length > 1 && index < 0) {
      throw new RangeError('Must specify task_index when number of workers > 1');
    }
    if (workers.length > 1 && index >= workers.length) {
      throw new RangeError(
        `task_index is ${index}, and worker_hosts names ${workers.length} workers.\n` +
          `help: indices are 0 to ${workers.length - 1}, in the order of worker_hosts.`,
      );
    }
    environment.TF_CONFIG = JSON.stringify({
      cluster: { worker: workers },
      task: { type: 'worker', index: workers.length === 1 ? 0 : index },
    });
    return workers.length;
  }
  return Math.max(1, size - servers);
}

function countWorkers(text: string): number {
  let config: { cluster?: Record<string, unknown> };
  try {
    config = JSON.parse(text) as typeof config;
  } catch (error) {
    throw new Error(
      `TF_CONFIG is not JSON: ${(error as Error).message}.\n` +
        `help: TF_CONFIG='{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'`,
    );
  }
  const { cluster } = config;
  if (!cluster) throw new Error('"cluster" is not found in TF_CONFIG.');
  const count = (job: string) => (Array.isArray(cluster[job]) ? (cluster[job] as unknown[]).length : 0);
  return count('chief') + count('worker');
}

/** Rank and size under mpirun, and how many of the ranks are parameter servers. */
function launched(environment: Environment): { rank: number | null; size: number; servers: number } {
  const { OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, PMIX_RANK, SLURM_NTASKS, LOCKSTEP_NUM_PS } = environment;
  const servers = Number(LOCKSTEP_NUM_PS ?? 0);
  if (OMPI_COMM_WORLD_RANK !== undefined && OMPI_COMM_WORLD_SIZE !== undefined) {
    return { rank: Number(OMPI_COMM_WORLD_RANK), size: Number(OMPI_COMM_WORLD_SIZE), servers };
  }
  if (PMIX_RANK !== undefined && SLURM_NTASKS !== undefined) {
    return { rank: Number(PMIX_RANK), size: Number(SLURM_NTASKS), servers };
  }
  return { rank: null, size: 1, servers: 0 };
}
