/**
 * Which cross-device ops a strategy uses when none are named: upstream's choose_the_best, for devices of this kind.
 *
 * Replicas of one process share memory, so they sum slices side by side (ShardedAllReduce); upstream would copy everything
 * to one device here.
 */

import type { DeviceDescription } from '../devices/device.js';
import { type CrossDeviceOps, type CrossDeviceOpsConfig, ShardedAllReduce } from '../replica/provisional.js';

/** The best there is for these devices. */
export function chooseCrossDeviceOps(_devices: readonly DeviceDescription[], numPacks: number): CrossDeviceOps {
  return new ShardedAllReduce(numPacks);
}

/** For one replica: whatever it is, it reduces nothing. */
export function singleReplicaOps(): CrossDeviceOpsConfig {
  return new ShardedAllReduce(1).toConfig();
}

/** 'ShardedAllReduce(num_packs=2)'. */
export function describeOps(ops: CrossDeviceOps): string {
  return `${ops.constructor.name}(num_packs=${ops.numPacks})`;
}
