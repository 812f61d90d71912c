/** How gradients become one on all replicas: packing and algorithms. */
export { ALL_REDUCE_ALGORITHMS, createCrossDeviceOps, createCrossDeviceOpsFromConfig } from './create.js';
export {
  type AllReduceAlgorithm,
  CrossDeviceOps,
  type CrossDeviceOpsConfig,
  type OpsDevice,
  type PeerCommunicator,
  type PeerGroup,
} from './cross-device-ops.js';
export { HierarchicalCopyAllReduce } from './hierarchical-copy-all-reduce.js';
export { NcclAllReduce } from './nccl-all-reduce.js';
export { ConcatAndSplitPacker, type Pack, type PackedLayout, splitIntoPacks } from './packing.js';
export { ReduceOp } from './reduce-op.js';
export { ReductionToOneDevice } from './reduction-to-one-device.js';
export { ShardedAllReduce } from './sharded-all-reduce.js';
