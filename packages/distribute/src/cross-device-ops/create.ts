/** Cross-device ops by name, and back from what crossed a thread. */
import type { AllReduceAlgorithm, CrossDeviceOps, CrossDeviceOpsConfig } from './cross-device-ops.js';
import { HierarchicalCopyAllReduce } from './hierarchical-copy-all-reduce.js';
import { NcclAllReduce } from './nccl-all-reduce.js';
import { ReductionToOneDevice } from './reduction-to-one-device.js';
import { ShardedAllReduce } from './sharded-all-reduce.js';

const CONSTRUCTORS: Record<AllReduceAlgorithm, (config: CrossDeviceOpsConfig) => CrossDeviceOps> = {
  nccl: ({ numPacks }) => new NcclAllReduce(numPacks),
  hierarchical_copy: ({ numPacks }) => new HierarchicalCopyAllReduce(numPacks),
  sharded: ({ numPacks }) => new ShardedAllReduce(numPacks),
  reduction_to_one_device: ({ numPacks, reduceToDevice }) => new ReductionToOneDevice(reduceToDevice, numPacks),
};

/** Names that {@link createCrossDeviceOps} takes. */
export const ALL_REDUCE_ALGORITHMS = Object.keys(CONSTRUCTORS) as readonly AllReduceAlgorithm[];

/**
 * @param algorithm One of {@link ALL_REDUCE_ALGORITHMS}.
 * @throws RangeError for another name, or for num_packs ≤ 0
 */
export function createCrossDeviceOps(algorithm: string, numPacks = 1): CrossDeviceOps {
  if (!isAlgorithm(algorithm)) {
    throw new RangeError(
      `There is no all-reduce algorithm '${algorithm}'.\nhelp: choose one of ${ALL_REDUCE_ALGORITHMS.join(', ')}.`,
    );
  }
  return CONSTRUCTORS[algorithm]({ algorithm, numPacks });
}

/** On the other side of a thread: the ops that `toConfig` described. */
export function createCrossDeviceOpsFromConfig(config: CrossDeviceOpsConfig): CrossDeviceOps {
  return CONSTRUCTORS[config.algorithm](config);
}

function isAlgorithm(name: string): name is AllReduceAlgorithm {
  return Object.hasOwn(CONSTRUCTORS, name);
}
