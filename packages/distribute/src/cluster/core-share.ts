/**
 * This process's share of its machine's cores, when several workers run on it.
 *
 * Unasked, Open MPI binds each of two processes to one core and leaves more of them loose; neither suits a process that
 * divides its cores among replicas. So workers of one machine divide its cores evenly, unless a binding was asked for
 * (`mpirun --bind-to core`, srun's own).
 */
import { cpus } from 'node:os';
import { physicalCores } from '../devices/topology.js';
import { allowedCpus, bindThread } from '../host/affinity.js';
import type { LaunchedProcess } from './mpi-environment.js';

/**
 * Binds the calling (main) thread to its share; threads started later inherit it.
 * @returns logical CPUs of the share.
 */
export function shareCores(
  { launcher, localRank, localSize }: LaunchedProcess,
  environment: NodeJS.ProcessEnv = process.env,
): number[] {
  const policy = environment.OMPI_MCA_hwloc_base_binding_policy ?? environment.PRTE_MCA_hwloc_default_binding_policy;
  const isAsked = policy !== undefined && policy !== 'none';
  if (launcher !== 'mpirun' || isAsked) return allowedCpus();
  // The launcher's default, not somebody's wish: undo it. A container's CPU set still holds.
  if (policy === undefined) bindThread(Array.from({ length: cpus().length }, (_, cpu) => cpu));
  const cores = physicalCores(allowedCpus());
  const each = Math.floor(cores.length / localSize);
  // More workers than cores: the scheduler shares better than we do.
  if (localSize === 1 || each === 0) return cores.flat();
  const share = cores.slice(localRank * each, (localRank + 1) * each).flat();
  bindThread(share);
  return share;
}
