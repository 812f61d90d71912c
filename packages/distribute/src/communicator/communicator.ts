/**
 * The one seam below everything distributed: a Communicator knows ranks and bytes, and nothing else.
 *
 * It does not know tensors, packs, replicas or variables (CrossDeviceOps and Strategy do), and it never negotiates: every
 * rank must issue the same collectives in the same order. Calls block the calling thread (TensorFlow.js computes
 * gradients synchronously, so does its user), and every wait ends: by completion, by abort, or by time-out.
 */

/** Typed arrays that a communicator can move. Sums are defined for the numeric ones below. */
export type Buffer = Float32Array | Float64Array | Int32Array | Uint8Array | BigInt64Array;

/** Element-wise combination of the ranks' buffers. */
export type CommunicatorReduceOp = 'sum' | 'max' | 'min';

/** A collective that was started and has not been waited for. */
export interface Work {
  /** True when the result is in place. Never blocks. */
  test(): boolean;
  /** Blocks until the result is in place. Throws {@link CommunicatorError} on abort or time-out. */
  wait(): void;
}

/** A group of ranks that exchange bytes. Ranks run 0..size−1. */
export interface Communicator {
  /** 'shared_memory', 'mpi', …: for messages. */
  readonly name: string;
  readonly rank: number;
  readonly size: number;
  /** Reduces `buffer` over all ranks, in place, in a fixed rank order (so all ranks hold bit-identical results). */
  allReduce(buffer: Buffer, op?: CommunicatorReduceOp): void;
  /** As {@link allReduce}, started now and finished by `wait`. `buffer` must not be touched in between. */
  allReduceAsync(buffer: Buffer, op?: CommunicatorReduceOp): Work;
  /** Copies root's `buffer` into every rank's. */
  broadcast(buffer: Buffer, root: number): void;
  /** `receive` holds size × send.length elements, rank 0's first. */
  allGather(send: Buffer, receive: Buffer): void;
  /** Returns when every rank has called it. */
  barrier(): void;
  send(buffer: Buffer, destination: number, tag?: number): void;
  receive(buffer: Buffer, source: number, tag?: number): void;
  /** Makes every rank's current and next call throw a {@link CommunicatorError} with this reason. */
  abort(reason: string): void;
  /** Frees what the communicator holds. The group cannot be used afterwards. */
  close(): void;
}

/** Why a collective could not be completed. The message names the rank, the collective and the remedy. */
export class CommunicatorError extends Error {
  override readonly name = 'CommunicatorError';
  constructor(
    message: string,
    /** The rank that is at fault, where that is known. */
    readonly rank?: number,
  ) {
    super(message);
  }
}
