/**
 * OneDeviceStrategy: one replica on one device. Nothing is reduced and batches are not split.
 *
 * It exists so that a program written for many devices runs on one without a second code path.
 */
import { type DeviceDescription, resolveDevices } from '../devices/device.js';
import { defaultLog } from '../log.js';
import { type RunOptions, runReplicas } from '../replica/run-replicas.js';
import { singleReplicaOps } from './cross-device-choice.js';
import { prepareRun } from './prepare-run.js';
import type { Strategy } from './strategy.js';

/** tf.distribute.OneDeviceStrategy. */
export class OneDeviceStrategy implements Strategy {
  readonly name = 'OneDeviceStrategy';
  readonly isInStep = true;
  readonly role = 'worker';
  readonly numReplicasInSync = 1;
  readonly devices: readonly DeviceDescription[];
  readonly crossDeviceOpsDescription = null;

  /**
   * @param device 'cpu:0', 'gpu:0', or upstream's form 'device:CPU:0'. Default 'cpu:0', which has all cores.
   * @throws RangeError if there is no such device.
   */
  constructor(device = 'cpu:0') {
    this.devices = resolveDevices([device]);
  }

  async run<Result = unknown>(module: URL | string, args?: unknown, options: RunOptions = {}): Promise<Result[]> {
    const { devices, url } = prepareRun(this.devices, module, args, options, defaultLog);
    return (await runReplicas({ devices, crossDeviceOps: singleReplicaOps() }, url, args, options)) as Result[];
  }
}
