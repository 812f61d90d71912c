/** The Communicator, and its implementation between threads of one process. */
export * from './communicator.js';
export {
  joinSharedMemoryGroup,
  type SharedBuffers,
  SharedMemoryCommunicator,
} from './shared-memory-communicator.js';
export {
  createSharedMemoryGroup,
  SharedMemoryGroup,
  type SharedMemoryGroupHandle,
  type SharedMemoryGroupOptions,
} from './shared-memory-group.js';
