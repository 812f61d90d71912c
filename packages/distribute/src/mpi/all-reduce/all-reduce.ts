/**
 * What an all-reduce algorithm is made of: a generator over non-blocking messages, which yields whenever it has to wait.
 *
 * It yields the message that it waits for, and is resumed when that is through; whoever runs it (runs.ts) decides how to
 * wait. An algorithm knows ranks, messages and sums; no time-outs and no other operation under way.
 */
import type { Buffer, CommunicatorReduceOp } from '../../communicator/communicator.js';
import { type Address, addressOf, type ElementType, type OpenMpi, type Request } from '../native/open-mpi.js';
import type { Scratch, ScratchBuffer } from '../native/scratch.js';

/** Runs until the sum is in place; what it yields has not completed yet. */
export type AllReduceRun = Generator<Request, void, void>;

/** What an algorithm gets. */
export interface AllReduceContext {
  readonly mpi: OpenMpi;
  readonly comm: Address;
  readonly rank: number;
  readonly size: number;
  readonly scratch: Scratch;
  /** Two tags that no other operation under way uses: this one and the next. */
  readonly tag: number;
}

/**
 * Pieces longer than this travel in several messages, so that summing one overlaps with receiving the next; in four, until they
 * get longer than {@link LONG_SEGMENT_BYTES}. Every message costs three more of MPI's own, and the processor's time for them.
 */
const SEGMENT_BYTES = 256 * 1024;
export const LONG_SEGMENT_BYTES = 1024 * 1024;
const FEW_SEGMENTS = 4;
/** Bounds the number of messages of a very large buffer. */
const MOST_SEGMENTS = 64;

/** MPI's name of a typed array's elements. */
export function elementType(buffer: Buffer): ElementType {
  if (buffer instanceof Float32Array) return 'float';
  if (buffer instanceof Float64Array) return 'double';
  if (buffer instanceof Int32Array) return 'int32';
  if (buffer instanceof Uint8Array) return 'uint8';
  return 'int64';
}

/** Contiguous parts of a buffer, one per rank, each cut into the same number of segments (some may be empty). */
export interface Partition {
  readonly segments: number;
  /** Longest segment, in elements. */
  readonly longest: number;
  /** First element and number of elements of a segment. */
  range(part: number, segment: number): { start: number; length: number };
}

export function partition(count: number, parts: number, bytesPerElement: number): Partition {
  // Parts begin on cache lines (64 bytes), as far as there are enough elements.
  const align = Math.max(1, 64 / bytesPerElement);
  const part = Math.ceil(count / parts / align) * align;
  const cutInto = (segments: number) => Math.ceil(part / segments / align) * align;
  const longest = Math.max(
    1,
    Math.floor(SEGMENT_BYTES / bytesPerElement),
    Math.min(Math.floor(LONG_SEGMENT_BYTES / bytesPerElement), cutInto(FEW_SEGMENTS)),
    cutInto(MOST_SEGMENTS),
  );
  return {
    segments: Math.max(1, Math.ceil(part / longest)),
    longest: Math.min(longest, part),
    range(index, segment) {
      const start = Math.min(count, index * part + segment * longest);
      const end = Math.min(count, (index + 1) * part, index * part + (segment + 1) * longest);
      return { start, length: Math.max(0, end - start) };
    },
  };
}

/** Messages of one element type on one buffer. */
export class Wire {
  readonly type: Address;
  readonly op: Address;
  readonly bytesPerElement: number;
  readonly base: Address;

  constructor(
    readonly context: AllReduceContext,
    readonly buffer: Buffer,
    op: CommunicatorReduceOp,
  ) {
    this.type = context.mpi.types[elementType(buffer)];
    this.op = context.mpi.ops[op];
    this.bytesPerElement = buffer.BYTES_PER_ELEMENT;
    this.base = addressOf(buffer);
  }

  at(element: number): Address {
    return this.base + element * this.bytesPerElement;
  }

  sendRange(start: number, length: number, to: number, tag: number): Request | null {
    const { mpi, comm } = this.context;
    return length > 0 ? mpi.isend(this.buffer, this.at(start), length, this.type, to, tag, comm) : null;
  }

  receiveRange(start: number, length: number, from: number, tag: number): Request | null {
    const { mpi, comm } = this.context;
    return length > 0 ? mpi.irecv(this.buffer, this.at(start), length, this.type, from, tag, comm) : null;
  }

  receiveInto(scratch: ScratchBuffer, address: Address, length: number, from: number, tag: number): Request | null {
    const { mpi, comm } = this.context;
    return length > 0 ? mpi.irecv(scratch, address, length, this.type, from, tag, comm) : null;
  }

  /** inout = in op inout. */
  combine(input: Address, inout: Address, length: number): void {
    if (length > 0) this.context.mpi.reduceLocal(input, inout, length, this.type, this.op);
  }
}

/** Yields until a message is through. */
export function* done(mpi: OpenMpi, request: Request | null | undefined): AllReduceRun {
  if (request == null) return;
  if (!mpi.test(request)) yield request;
}
