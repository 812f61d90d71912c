/**
 * ReductionToOneDevice: one replica sums everything, the others copy the sum.
 *
 * Steps for S bytes and n replicas: the target sums all n buffers in rank order; barrier; each other replica copies
 * S; barrier. The target reads n·S and writes S bytes while the others wait, then each other rank reads and writes S.
 * Works for anything, is fast for nothing: TensorFlow's choice for CPU devices, and the plainest thing to compare with.
 * Source: tf.distribute.ReductionToOneDevice (cross_device_ops.py).
 */
import { CrossDeviceOps, type CrossDeviceOpsConfig, type PeerGroup } from './cross-device-ops.js';
import type { Pack } from './packing.js';

/** See the file's head. */
export class ReductionToOneDevice extends CrossDeviceOps {
  override readonly algorithm = 'reduction_to_one_device';

  /**
   * @param reduceToDevice Replica that sums. Default 0, the first destination.
   * @param numPacks Default 1. Upstream's class has no packs; the sum is the same.
   */
  constructor(
    readonly reduceToDevice = 0,
    numPacks = 1,
  ) {
    CrossDeviceOps.checkPacks(
      numPacks,
      (given) => `ReductionToOneDevice requires num_packs > 0, but ${given} is specified`,
    );
    super(numPacks);
  }

  override toConfig(): CrossDeviceOpsConfig {
    return { ...super.toConfig(), reduceToDevice: this.reduceToDevice };
  }

  override reducePacks({ rank, size, buffers, kernels, barrier }: PeerGroup, packs: readonly Pack[]): void {
    if (size === 1) return;
    const target = this.reduceToDevice;
    if (!(target in buffers)) {
      throw new RangeError(`reduceToDevice ${target} is not a replica; replicas are 0 to ${size - 1}.`);
    }
    const cut = ({ offset, length }: Pack, index: number) =>
      (buffers[index] as Float32Array).subarray(offset, offset + length);
    if (rank === target) {
      for (const pack of packs) {
        kernels.sum(
          cut(pack, target),
          buffers.map((_, index) => cut(pack, index)),
        );
      }
    }
    barrier();
    if (rank !== target) for (const pack of packs) kernels.copy(cut(pack, rank), cut(pack, target));
    barrier();
  }
}
