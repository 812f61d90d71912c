/** How gradients become one on all replicas: packing, algorithms, and the flat path that updates weights in the same pass. */
export { ALL_REDUCE_ALGORITHMS, createCrossDeviceOps, createCrossDeviceOpsFromConfig } from './create.js';
export {
  type AllReduceAlgorithm,
  CrossDeviceOps,
  type CrossDeviceOpsConfig,
  type OpsDevice,
  type PeerCommunicator,
  type PeerGroup,
} from './cross-device-ops.js';
export {
  type FinishResult,
  FlatReducer,
  type FlatReducerOptions,
  type FlatSegment,
  MAX_MEET_VALUES,
  type UpdateOptions,
} from './flat-reducer.js';
export { HierarchicalCopyAllReduce } from './hierarchical-copy-all-reduce.js';
export { NcclAllReduce } from './nccl-all-reduce.js';
export { ConcatAndSplitPacker, type Pack, type PackedLayout, splitIntoPacks } from './packing.js';
export { ReductionToOneDevice } from './reduction-to-one-device.js';
export { ShardedAllReduce } from './sharded-all-reduce.js';
