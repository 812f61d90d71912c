/** Replicas of several processes in step. */
export { HierarchicalCommunicator, WorkerLostError } from './hierarchical-communicator.js';
export {
  type CollectiveCommunicationName,
  MultiWorkerMirroredStrategy,
  type MultiWorkerMirroredStrategyOptions,
} from './multi-worker-mirrored-strategy.js';
