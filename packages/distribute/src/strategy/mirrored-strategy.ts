/**
 * MirroredStrategy: one replica per device of this machine, the same weights on all of them, gradients averaged every step.
 *
 * Device rules, error texts and defaults are upstream's (mirrored_strategy.py, 1.14): all GPUs if there are any, else the
 * CPU. The one difference is the default for CPU devices, where upstream falls back to copying everything to one device:
 * replicas that share memory sum slices side by side.
 */

import { type AllReduceAlgorithm, CrossDeviceOps } from '../cross-device-ops/cross-device-ops.js';
import { canonicalDeviceName, type DeviceDescription, defaultDevices, resolveDevices } from '../devices/device.js';
import { defaultLog } from '../log.js';
import { type RunOptions, runReplicas } from '../replica/run-replicas.js';
import { backendsOf } from './backend-remark.js';
import { chooseCrossDeviceOps } from './cross-device-choice.js';
import { prepareRun } from './prepare-run.js';
import type { Strategy, StrategyLog } from './strategy.js';

export interface MirroredStrategyOptions extends StrategyLog {
  /** Names such as 'cpu:0'. Default: all GPUs, else 'cpu:0'. */
  readonly devices?: readonly string[];
  /** Default: chosen for the devices, and said in the log. */
  readonly crossDeviceOps?: CrossDeviceOps;
  /** Packs of the cross-device ops that are chosen when none are given. Default 1. */
  readonly numPacks?: number;
}

/** tf.distribute.MirroredStrategy. */
export class MirroredStrategy implements Strategy {
  readonly name = 'MirroredStrategy';
  readonly isInStep = true;
  readonly role = 'worker';
  readonly devices: readonly DeviceDescription[];
  readonly crossDeviceOps: CrossDeviceOps;
  readonly #log: (line: string) => void;

  /** @throws RangeError with upstream's texts for empty, duplicate and remote devices. */
  constructor(options: MirroredStrategyOptions = {}) {
    const names = options.devices ? checkDevices(options.devices) : defaultDevices();
    this.devices = resolveDevices(names);
    this.#log = options.log ?? defaultLog;
    if (options.crossDeviceOps !== undefined && !(options.crossDeviceOps instanceof CrossDeviceOps)) {
      throw new TypeError(
        `crossDeviceOps must be cross-device ops, got ${String(options.crossDeviceOps)}.\n` +
          "help: new ShardedAllReduce(numPacks), or createCrossDeviceOps('hierarchical_copy', numPacks)",
      );
    }
    if (options.crossDeviceOps) {
      options.crossDeviceOps.checkDevices(this.devices);
      this.crossDeviceOps = options.crossDeviceOps;
    } else {
      this.crossDeviceOps = chooseCrossDeviceOps(this.devices, options.numPacks ?? 1);
      this.#log(
        `MirroredStrategy on ${names.join(', ')} (${backendsOf(this.devices)}): gradients are reduced by ${this.crossDeviceOps}.`,
      );
    }
  }

  get numReplicasInSync(): number {
    return this.devices.length;
  }

  get allReduceAlgorithm(): AllReduceAlgorithm {
    return this.crossDeviceOps.algorithm;
  }

  get crossDeviceOpsDescription(): string {
    return this.crossDeviceOps.toString();
  }

  async run<Result = unknown>(module: URL | string, args?: unknown, options: RunOptions = {}): Promise<Result[]> {
    const { devices, url } = prepareRun(this.devices, module, args, options, this.#log);
    const spec = { devices, crossDeviceOps: this.crossDeviceOps.toConfig() };
    return (await runReplicas(spec, url, args, options)) as Result[];
  }
}

/** Upstream's rules, in upstream's order and words. */
function checkDevices(devices: readonly string[]): string[] {
  if (!Array.isArray(devices)) {
    throw new TypeError(`devices must be a list of names, got ${typeof devices}.\nhelp: devices: ['cpu:0', 'cpu:1']`);
  }
  if (devices.length === 0) {
    throw new RangeError('Got an empty `devices` list. Please make sure the `devices` you pass in is not empty.');
  }
  checkLocal(devices);
  const names = devices.map(canonicalDeviceName);
  if (new Set(names).size !== names.length) {
    const list = names.map((name) => `'${name}'`).join(', ');
    throw new RangeError(`No duplicates allowed in \`devices\` argument: [${list}]`);
  }
  return names;
}

function checkLocal(devices: readonly string[]): void {
  const jobs = devices.map((device) => /\/?job:([^/]+)/i.exec(device)?.[1]);
  const isLocal = (job: string | undefined) => job === undefined || job === 'localhost';
  const allLocal = isLocal(jobs[0]);
  for (const [i, job] of jobs.entries()) {
    if (allLocal && !isLocal(job)) {
      throw new RangeError("Local device string cannot have job specified other than 'localhost'");
    }
    if (!allLocal && job === undefined) throw new RangeError('Remote device string must have job specified.');
    if (!allLocal && !/\/task:\d+/i.test(devices[i] as string)) {
      throw new RangeError('Remote device string must have task specified.');
    }
  }
  if (!allLocal) throw new RangeError('In-graph multi-worker training with `MirroredStrategy` is not supported.');
}
