/** The communicator between processes. */
export { isMpiAvailable, LIBRARY_VARIABLE as MPI_LIBRARY_VARIABLE, loadMpi, MpiNotFoundError } from './library.js';
export { type MpiAllReduceOptions, MpiCommunicator } from './mpi-communicator.js';
export { type MpiAlgorithm, MpiGroup, type MpiGroupHandle, type MpiOptions } from './mpi-group.js';
