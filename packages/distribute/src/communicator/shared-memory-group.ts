/**
 * SharedMemoryGroup: what the threads of one process need to become ranks of a SharedMemoryCommunicator.
 *
 * The main thread creates it and hands it to its workers (workerData or postMessage: it is plain data there); it can abort,
 * and takes no part in collectives. A group is used once: after an abort, or when its ranks have left, it is spent.
 */
import { host } from '#host';
import { FlatMemory, type FlatMemoryHandle } from '../simd/flat-memory.js';
import { MAX_SOURCES } from '../simd/kernels.js';
import { GroupBoard } from './group-board.js';
import { mailboxBytes } from './mailbox.js';

export interface SharedMemoryGroupOptions {
  /** Longest wait for the other ranks in one operation, in milliseconds. Default 300,000. */
  readonly timeoutMs?: number;
}

/** A group as it crosses threads. */
export interface SharedMemoryGroupHandle {
  readonly size: number;
  readonly timeoutMs: number;
  /** Whether every rank has a core, so that waiting ranks may spin before they sleep. */
  readonly spins: boolean;
  readonly board: SharedArrayBuffer;
  readonly memory: FlatMemoryHandle;
  /** Address of the staging areas in `memory`. */
  readonly staging: number;
  readonly mailboxes: SharedArrayBuffer;
}

const DEFAULT_TIMEOUT_MS = 300_000;
/** Bytes of a buffer outside the flat memory that go through staging at once. */
export const STAGING_BYTES = 512 * 1024;

/** Float32 elements of all staging areas: one per rank and one for results, twice. */
function stagingLength(size: number): number {
  return (2 * (size + 1) * STAGING_BYTES) / Float32Array.BYTES_PER_ELEMENT;
}

/** See the file's head. */
export class SharedMemoryGroup implements SharedMemoryGroupHandle {
  readonly memory: FlatMemoryHandle;
  readonly spins: boolean;
  readonly staging: number;
  readonly board: SharedArrayBuffer;
  readonly mailboxes: SharedArrayBuffer;

  constructor(
    readonly size: number,
    readonly timeoutMs: number,
  ) {
    if (!Number.isInteger(size) || size < 1 || size > MAX_SOURCES) {
      throw new RangeError(`A group has 1 to ${MAX_SOURCES} ranks, not ${size}.`);
    }
    if (!(timeoutMs > 0)) throw new RangeError(`timeoutMs must be positive, got ${timeoutMs}.`);
    const memory = FlatMemory.create(size);
    this.staging = memory.allocate(stagingLength(size)).byteOffset;
    this.memory = memory.handle;
    // Asked here, because a rank's thread may be bound to one core and would then count one.
    this.spins = size <= host.parallelism();
    this.board = new SharedArrayBuffer(GroupBoard.bytesFor(size));
    this.mailboxes = new SharedArrayBuffer(mailboxBytes(size));
  }

  /**
   * Makes every rank's current and next call throw.
   * @param rank The rank at fault, where that is known: it becomes the error's `rank`.
   */
  abort(reason: string, rank = -1): void {
    new GroupBoard(this.board, this.size, -1, this.timeoutMs).abort(reason, rank);
  }
}

/** On the main thread: a group of `size` ranks, for {@link joinSharedMemoryGroup} in its workers. */
export function createSharedMemoryGroup(size: number, options: SharedMemoryGroupOptions = {}): SharedMemoryGroup {
  return new SharedMemoryGroup(size, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
}
