/** The communicator between processes. */
export type { MpiAlgorithm } from './all-reduce/start.js';
export type { RankIdentity } from './identity.js';
export { type MpiAllReduceOptions, MpiCommunicator } from './mpi-communicator.js';
export { MpiGroup, type MpiGroupHandle, type MpiOptions } from './mpi-group.js';
export {
  isMpiAvailable,
  LIBRARY_VARIABLE as MPI_LIBRARY_VARIABLE,
  type LoadedMpi,
  loadMpi,
  MpiNotFoundError,
} from './native/library.js';
export { removeSegments } from './segments.js';
export { BEGUN, reportBeginning, reportStatus, STATUS_MARK_VARIABLE } from './status-mark.js';
