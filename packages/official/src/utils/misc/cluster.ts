/**
 * From flags to a cluster: `configure_cluster` of the Model Garden's `official/utils/misc/distribution_utils.py`.
 *
 * It only counts workers and writes TF_CONFIG, as upstream does; strategies read TF_CONFIG when they are made, so it must be
 * called before. What upstream does not have: without TF_CONFIG and --worker_hosts, mpirun's processes are the workers, and
 * under mpirun a task's index is its rank.
 */

import { ClusterError, environmentNumber, launchedProcess, NUM_PS_VARIABLE, readTfConfig } from '@lockstep/distribute';

type Environment = Record<string, string | undefined>;

/**
 * Number of worker processes, this one included.
 *
 * @param workerHosts --worker_hosts: 'host:port,host:port', the same on every worker.
 * @param taskIndex --task_index: this worker's position in it; −1 for not given.
 * @throws RangeError with upstream's text if there are several workers and no index; ClusterError if TF_CONFIG is not of its form or has no
 *   worker, or a launcher's variable is no number.
 */
export function configureCluster(
  workerHosts: string | null = null,
  taskIndex = -1,
  environment: Environment = process.env,
): number {
  if (environment.TF_CONFIG) return countWorkers(environment);
  const launched = launchedProcess(environment);
  const rank = launched?.rank ?? null;
  if (workerHosts) {
    const workers = workerHosts.split(',').map((host) => host.trim());
    const odd = workers.find((host) => !/^[\w[][\w.:[\]-]*$/.test(host));
    if (odd !== undefined) {
      throw new RangeError(
        `worker_hosts: '${odd}' in '${workerHosts}' is not a host.\nhelp: --worker_hosts=a:2222,b:2222`,
      );
    }
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
  if (launched === null) return 1;
  return Math.max(1, launched.size - environmentNumber(environment, NUM_PS_VARIABLE, 0));
}

/** @throws ClusterError for a variable that is not of the form, or that has no worker. */
function countWorkers(environment: Environment): number {
  const { cluster } = readTfConfig(environment);
  if (!cluster) throw new ClusterError('"cluster" is not found in TF_CONFIG.');
  const count = (cluster.chief?.length ?? 0) + (cluster.worker?.length ?? 0);
  if (count === 0) throw new ClusterError('You must have `chief` or `worker` jobs in the `cluster_spec`.');
  return count;
}
