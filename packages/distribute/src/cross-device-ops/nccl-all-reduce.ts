/**
 * NcclAllReduce: NVIDIA's collectives, for NVIDIA devices only.
 *
 * NCCL runs inside the devices' driver; a device provider for NVIDIA hardware brings a communicator that speaks it, and this
 * class hands it the packs, one collective each. There is no stand-in: on other devices a strategy with it cannot be made.
 * Steps and bytes are NCCL's (ring: 2·(n−1)/n·S sent by every rank). Source: tf.distribute.NcclAllReduce.
 */
import type { Communicator } from '../communicator/communicator.js';
import { CrossDeviceOps, type OpsDevice } from './cross-device-ops.js';
import { splitIntoPacks } from './packing.js';

/** See the file's head. */
export class NcclAllReduce extends CrossDeviceOps {
  override readonly algorithm = 'nccl';

  /**
   * @param numPacks Default 1.
   * @throws RangeError `NCCL all-reduce requires num_packs > 0, but … is specified` (upstream 2.0's ValueError)
   */
  constructor(numPacks = 1) {
    CrossDeviceOps.checkPacks(numPacks, (given) => `NCCL all-reduce requires num_packs > 0, but ${given} is specified`);
    super(numPacks);
  }

  /** @throws Error naming the first device that is not NVIDIA's, and the choices that work there. */
  override checkDevices(devices: readonly OpsDevice[]): void {
    const other = devices.find(({ type, provider }) => type !== 'GPU' || !/nvidia|cuda/i.test(provider));
    if (!other) return;
    const { name, type, provider } = other;
    const what = `${name} is a ${type} device of provider '${provider}'`;
    // Also where the card is NVIDIA's: NCCL is given CUDA's addresses.
    throw ncclNeedsNvidia(type === 'GPU' ? `${what}, whose memory NCCL cannot reach: it takes CUDA's` : what);
  }

  override allReduce(communicator: Communicator, flat: Float32Array): void {
    for (const { offset, length } of splitIntoPacks(flat.length, this.numPacks)) {
      communicator.allReduce(flat.subarray(offset, offset + length));
    }
  }

  override reducePacks(): void {
    throw ncclNeedsNvidia('the replicas of this process share main memory');
  }
}

function ncclNeedsNvidia(what: string): Error {
  return new Error(
    `NCCL all-reduce works on NVIDIA devices only, and ${what}.\n` +
      'help: all_reduce_alg=hierarchical_copy works here; with none given, Lockstep chooses (sharded).',
  );
}
