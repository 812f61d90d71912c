/**
 * HierarchicalCopyAllReduce: two halves sum for themselves, their mains add the halves, everybody copies from the own main.
 *
 * Made for machines with two groups of tightly linked devices (DGX-1: two quads of GPUs), where only one copy per direction
 * should cross between the groups. With g = floor(n/2) the halves are [0, g) and [g, n). Pack i has main A = i mod n and
 * main B = A ± g in the other half, so that num_packs = n spreads the work over all replicas. Steps: A and B sum
 * their halves; barrier; A adds B's partial sum; barrier; B copies the total; barrier; each other copies from its half's
 * main; barrier. For a pack of P bytes the mains read about n/2·P each, A another P, and every rank but A copies P once.
 *
 * Upstream takes [g, 2g) for the second half and so loses the last device's gradient for odd n, and fails for n = 1; here n
 * is any. The sum is half + half, each in rank order: the same bits for every number of packs and on every replica.
 * Source: `aggregate_gradients_using_hierarchical_copy` (cross_device_utils.py).
 */
import { CrossDeviceOps, type PeerGroup } from './cross-device-ops.js';
import type { Pack } from './packing.js';

/** The two mains of a pack. */
export interface Mains {
  /** Sums its half, then adds the other half. */
  readonly a: number;
  /** Sums the other half. Equal to `a` when there is only one device. */
  readonly b: number;
}

/** Mains of pack `pack` among `size` devices. For even sizes as upstream; for odd sizes B stays in the other half. */
export function mainsOf(pack: number, size: number): Mains {
  const g = Math.floor(size / 2);
  const a = pack % size;
  if (g === 0) return { a, b: a };
  return { a, b: a < g ? a + g : (a - g) % g };
}

/** Members of the half in which `device` is. */
export function halfOf(device: number, size: number): number[] {
  const g = Math.floor(size / 2);
  const [from, to] = device < g ? [0, g] : [g, size];
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** See the file's head. */
export class HierarchicalCopyAllReduce extends CrossDeviceOps {
  override readonly algorithm = 'hierarchical_copy';

  /**
   * @param numPacks Default 1.
   * @throws RangeError `HierarchicalCopy requires num_packs > 0, but … is specified` (upstream 2.0's ValueError)
   */
  constructor(numPacks = 1) {
    CrossDeviceOps.checkPacks(
      numPacks,
      (given) => `HierarchicalCopy requires num_packs > 0, but ${given} is specified`,
    );
    super(numPacks);
  }

  override reducePacks({ rank, size, buffers, kernels, barrier }: PeerGroup, packs: readonly Pack[]): void {
    if (size === 1) return;
    const work = packs.map((pack, i) => ({ pack, mains: mainsOf(i, size) })).filter(({ pack }) => pack.length > 0);
    const cut = ({ offset, length }: Pack, index: number) =>
      (buffers[index] as Float32Array).subarray(offset, offset + length);

    for (const { pack, mains } of work) {
      if (rank !== mains.a && rank !== mains.b) continue;
      kernels.sum(
        cut(pack, rank),
        halfOf(rank, size).map((member) => cut(pack, member)),
      );
    }
    barrier();
    for (const { pack, mains } of work) {
      if (rank === mains.a) kernels.sum(cut(pack, rank), [cut(pack, mains.a), cut(pack, mains.b)]);
    }
    barrier();
    for (const { pack, mains } of work) {
      if (rank === mains.b) kernels.copy(cut(pack, rank), cut(pack, mains.a));
    }
    barrier();
    const half = halfOf(rank, size);
    for (const { pack, mains } of work) {
      if (rank === mains.a || rank === mains.b) continue;
      kernels.copy(cut(pack, rank), cut(pack, half.includes(mains.a) ? mains.a : mains.b));
    }
    barrier();
  }
}
