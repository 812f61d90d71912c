/**
 * The TCP ports of a job's ranks: none, where all of them run on one machine.
 *
 * Open MPI 4 and 5 let every rank listen on all interfaces as soon as the component `tcp` is loaded, also where ranks only talk
 * through shared memory. A stranger who connects there and sends less than a handshake holds up every thread that enters MPI, so
 * ports that nobody needs stay closed. It decides nothing for jobs on several machines.
 */
import { accessSync, constants, statfsSync } from 'node:fs';
import type { LoadedMpi } from './library.js';

/** Where Open MPI reads which components carry messages; mpirun's own --mca btl arrives in it too. */
export const TRANSPORTS_VARIABLE = 'OMPI_MCA_btl';

/** Whether the launcher started all ranks of the job on one machine. False where it does not say so. */
export function isLocalJob(environment: NodeJS.ProcessEnv = process.env): boolean {
  const { OMPI_COMM_WORLD_SIZE: size, OMPI_COMM_WORLD_LOCAL_SIZE: local, SLURM_STEP_NUM_NODES: nodes } = environment;
  if (size !== undefined) return size === local;
  return nodes === '1';
}

/** Room of one rank's segment in shared memory (btl_vader_segment_size), twice. */
const BYTES_PER_RANK = 8 * 2 ** 20;

/**
 * Whether shared memory can carry a job's messages: containers may have little of it, or none that may be written. Open MPI would fall
 * back to TCP then, so TCP has to stay.
 */
export function hasSharedMemory(ranks: number, folder = '/dev/shm'): boolean {
  if (process.platform !== 'linux') return true;
  try {
    accessSync(folder, constants.W_OK);
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize >= ranks * BYTES_PER_RANK;
  } catch {
    return false;
  }
}

/**
 * The components that a local job needs: messages to itself and through shared memory.
 * @param version Open MPI's: '4.1.4'.
 */
export function localTransports(version: string): string {
  return Number.parseInt(version, 10) >= 5 ? 'self,sm' : 'self,vader';
}

/** Before MPI starts. What somebody has chosen stays. */
export function closePortsOfLocalJob({ library, version }: LoadedMpi, environment = process.env): void {
  if (!isLocalJob(environment) || environment[TRANSPORTS_VARIABLE] !== undefined) return;
  if (!hasSharedMemory(Number(environment.OMPI_COMM_WORLD_SIZE ?? environment.SLURM_NTASKS ?? 1))) return;
  // The C library's own environment: a worker thread's process.env is a copy that MPI does not see.
  library.func('int setenv(str name, str value, int overwrite)')(TRANSPORTS_VARIABLE, localTransports(version), 0);
}
