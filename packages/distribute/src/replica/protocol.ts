/** What the main thread and a replica's thread say to each other. Plain data only. */

import type { SharedMemoryGroupHandle } from '../communicator/shared-memory-group.js';
import type { CrossDeviceOpsConfig } from '../cross-device-ops/cross-device-ops.js';
import type { DeviceDescription } from '../devices/device.js';
import type { OutputMessage } from '../host/output.js';
import type { SummaryEvent } from './summary.js';
import type { ReplicaFailureReport } from './transferred-error.js';

/** Everything a replica's thread is born with. */
export interface ReplicaWorkerData {
  readonly replica: number;
  readonly replicas: number;
  readonly device: DeviceDescription;
  /** Bind the thread to the device's cores. */
  readonly bindThreads: boolean;
  /** URL of the module whose default export runs. */
  readonly module: string;
  readonly args: unknown;
  /** Whether somebody takes what replicas tell by `context.summary`. */
  readonly hasSummary: boolean;
  readonly control: SharedArrayBuffer;
  readonly group: SharedMemoryGroupHandle;
  readonly crossDeviceOps: CrossDeviceOpsConfig;
  /** Of output; one integer. */
  readonly underWay: SharedArrayBuffer;
}

export type ReplicaMessage =
  | { readonly type: 'report'; readonly message: unknown }
  | { readonly type: 'summary'; readonly event: SummaryEvent }
  | { readonly type: 'result'; readonly value: unknown }
  | { readonly type: 'error'; readonly error: ReplicaFailureReport }
  | OutputMessage;
