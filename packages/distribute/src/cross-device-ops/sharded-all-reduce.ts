/**
 * ShardedAllReduce: replicas that share memory sum slices side by side. Lockstep's default within a process.
 *
 * Steps for S bytes and n replicas: replica r sums slice r (S/n) of every pack over all n buffers, in rank order,
 * and writes the sum into all of them; barrier. Every rank reads S and writes S bytes, at the same time as the others:
 * reduce-scatter and all-gather in one pass, without the copies between them. The same bits for every number of packs.
 */
import { CrossDeviceOps, type PeerGroup } from './cross-device-ops.js';
import type { Pack } from './packing.js';

/** See the file's head. */
export class ShardedAllReduce extends CrossDeviceOps {
  override readonly algorithm = 'sharded';
  override readonly sumsByChunks = true;

  /** @param numPacks Default 1. */
  constructor(numPacks = 1) {
    CrossDeviceOps.checkPacks(
      numPacks,
      (given) => `ShardedAllReduce requires num_packs > 0, but ${given} is specified`,
    );
    super(numPacks);
  }

  override reducePacks({ rank, size, buffers, kernels, barrier }: PeerGroup, packs: readonly Pack[]): void {
    if (size === 1) return;
    for (const { offset, length } of packs) {
      const from = offset + Math.floor((length * rank) / size);
      const to = offset + Math.floor((length * (rank + 1)) / size);
      if (to > from) kernels.sumToAll(buffers.map((buffer) => buffer.subarray(from, to)));
    }
    barrier();
  }
}
