/**
 * CrossDeviceOps: how per-replica values become one value on every replica. tf.distribute.CrossDeviceOps, run SPMD.
 *
 * It knows packs and reduction algorithms; it does not know tensors, variables or which device is what kind of hardware
 * beyond refusing the wrong ones. Upstream's object sees all replicas at once; here every replica calls the same method with
 * its own value, in the same order, and the algorithm says what its rank does. Reductions are sums; a mean divides after.
 */
import type { Communicator } from '../communicator/communicator.js';
import type { SharedBuffers } from '../communicator/shared-memory-communicator.js';
import type { FlatKernels } from '../simd/kernels.js';
import { plainKernels } from '../simd/plain-kernels.js';
import { checkNumPacks, type Pack, splitIntoPacks } from './packing.js';
import { checkReduceOp, type ReduceOp } from './reduce-op.js';

/** Values of `all_reduce_alg` that have a class here, and the two that upstream has no flag value for. */
export type AllReduceAlgorithm = 'nccl' | 'hierarchical_copy' | 'sharded' | 'reduction_to_one_device';

/** Cross-device ops as they cross threads. */
export interface CrossDeviceOpsConfig {
  readonly algorithm: AllReduceAlgorithm;
  readonly numPacks: number;
  /** Of ReductionToOneDevice. */
  readonly reduceToDevice?: number;
}

/** What {@link CrossDeviceOps.checkDevices} looks at. */
export interface OpsDevice {
  readonly name: string;
  readonly type: string;
  readonly provider: string;
}

/** All replicas' buffers within reach of one thread, and a way to wait for the others. */
export interface PeerGroup {
  readonly rank: number;
  readonly size: number;
  /** In rank order. */
  readonly buffers: readonly Float32Array[];
  readonly kernels: FlatKernels;
  barrier(): void;
}

/** A communicator whose ranks share memory. */
export interface PeerCommunicator extends Communicator {
  share(buffer: Float32Array): SharedBuffers;
  readonly memory: { readonly kernels: FlatKernels };
}

/** See the file's head. */
export abstract class CrossDeviceOps {
  abstract readonly algorithm: AllReduceAlgorithm;
  /**
   * Whether a chunk may be summed by whichever replica takes it, in rank order: then full packs are summed while others are still in
   * backward, and what is left is summed in the pass that updates weights. Otherwise {@link reducePacks} runs after backward.
   */
  readonly sumsByChunks: boolean = false;

  /** @param numPacks Into how many packs concatenated values are cut; each is reduced by itself. */
  constructor(readonly numPacks: number) {}

  /**
   * One algorithm: every buffer of the group becomes the sum of all, pack by pack. Runs on every rank, when all buffers are
   * final; when it returns on one, that rank's buffer is complete and nobody will touch any buffer any more.
   */
  abstract reducePacks(group: PeerGroup, packs: readonly Pack[]): void;

  /** @throws Error if these devices cannot be reduced this way. */
  checkDevices(_devices: readonly OpsDevice[]): void {
    // Most algorithms take any device.
  }

  toConfig(): CrossDeviceOpsConfig {
    return { algorithm: this.algorithm, numPacks: this.numPacks };
  }

  /** 'HierarchicalCopyAllReduce(num_packs=2)' */
  toString(): string {
    return `${this.constructor.name}(num_packs=${this.numPacks})`;
  }

  /** `flat` becomes its sum over replicas, in `numPacks` packs. Collective. */
  allReduce(communicator: Communicator, flat: Float32Array): void {
    const packs = splitIntoPacks(flat.length, this.numPacks);
    if (communicator.size === 1) return;
    if (!sharesMemory(communicator)) {
      // Between processes the communicator has the algorithm; packs stay.
      for (const { offset, length } of packs) communicator.allReduce(flat.subarray(offset, offset + length));
      return;
    }
    const { buffers, release } = communicator.share(flat);
    const kernels = communicator.memory.kernels.accepts(buffers) ? communicator.memory.kernels : plainKernels;
    const { rank, size } = communicator;
    this.reducePacks({ rank, size, buffers, kernels, barrier: () => communicator.barrier() }, packs);
    release();
  }

  /**
   * Sum or mean of `value` over replicas, in place, on every rank of `destinations` (default: all). Collective.
   * For fewer destinations than ranks it is summed on the first and copied to the rest, as upstream falls back to
   * ReductionToOneDevice; the other ranks keep their value.
   */
  reduce(communicator: Communicator, op: ReduceOp, value: Float32Array, destinations?: readonly number[]): void {
    checkReduceOp(op);
    const targets = destinations ?? Array.from({ length: communicator.size }, (_, rank) => rank);
    if (targets.length === 0) throw new RangeError('destinations can not be empty');
    for (const rank of targets) {
      if (Number.isInteger(rank) && rank >= 0 && rank < communicator.size) continue;
      throw new RangeError(`Destination ${rank} is not a replica; replicas are 0 to ${communicator.size - 1}.`);
    }
    const isDestination = targets.includes(communicator.rank);
    if (new Set(targets).size === communicator.size) this.allReduce(communicator, value);
    else {
      const sum = value.slice();
      communicator.allReduce(sum);
      if (isDestination) value.set(sum);
    }
    if (op === 'MEAN' && isDestination) divide(value, communicator.size);
  }

  /**
   * As {@link reduce}, for all values of a step: concatenated, cut into packs, reduced, put back. Collective.
   * All replicas must give values of the same sizes in the same order.
   */
  batchReduce(communicator: Communicator, op: ReduceOp, values: readonly Float32Array[]): void {
    checkReduceOp(op);
    const flat = new Float32Array(values.reduce((total, value) => total + value.length, 0));
    let offset = 0;
    for (const value of values) {
      flat.set(value, offset);
      offset += value.length;
    }
    this.allReduce(communicator, flat);
    if (op === 'MEAN') divide(flat, communicator.size);
    offset = 0;
    for (const value of values) {
      value.set(flat.subarray(offset, offset + value.length));
      offset += value.length;
    }
  }

  /** Copies `source`'s value to all replicas. Collective. */
  broadcast(communicator: Communicator, value: Float32Array, source: number): void {
    communicator.broadcast(value, source);
  }

  /** @throws RangeError with `message` for num_packs ≤ 0. */
  protected static checkPacks(numPacks: number, message: (given: number) => string): void {
    checkNumPacks(numPacks, () => message(numPacks));
  }
}

function sharesMemory(communicator: Communicator): communicator is PeerCommunicator {
  return 'share' in communicator;
}

function divide(values: Float32Array, by: number): void {
  for (let i = 0; i < values.length; i++) values[i] = values[i]! / by;
}
