/**
 * Which cross-device ops a strategy uses when none are named: upstream's choose_the_best, for devices of this kind.
 *
 * Replicas of one process share memory, so they sum slices side by side (ShardedAllReduce); upstream would copy everything
 * to one device here.
 */

import type { CrossDeviceOps, CrossDeviceOpsConfig } from '../cross-device-ops/cross-device-ops.js';
import { ShardedAllReduce } from '../cross-device-ops/sharded-all-reduce.js';
import type { DeviceDescription } from '../devices/device.js';

/** The best there is for these devices. */
export function chooseCrossDeviceOps(_devices: readonly DeviceDescription[], numPacks: number): CrossDeviceOps {
  return new ShardedAllReduce(numPacks);
}

/** For one replica: whatever it is, it reduces nothing. */
export function singleReplicaOps(): CrossDeviceOpsConfig {
  return new ShardedAllReduce(1).toConfig();
}
