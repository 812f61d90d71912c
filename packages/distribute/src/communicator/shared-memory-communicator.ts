/**
 * SharedMemoryCommunicator: the Communicator between threads of one process.
 *
 * Buffers inside the group's FlatMemory are read and written where they are; any other buffer goes through staging areas,
 * in parts. Steps of an all-reduce of S bytes over n ranks, in place in flat memory: barrier; each rank sums its 1/n of all
 * buffers, in rank order, and writes the sum to all of them; barrier. A rank reads S bytes and writes S bytes. Staged, it
 * copies S in and S out besides. Small buffers (16 KiB) need one barrier: everybody sums everything.
 *
 * Staging areas exist twice. What a rank writes between its barriers k and k+1 goes to area k mod 2 and is read between k+1
 * and k+2, so one barrier per part is enough.
 */
import { FlatMemory } from '../simd/flat-memory.js';
import { combine } from './combine.js';
import {
  type Buffer,
  type Communicator,
  CommunicatorError,
  type CommunicatorReduceOp,
  type Work,
} from './communicator.js';
import { GroupBoard } from './group-board.js';
import { Mailbox } from './mailbox.js';
import { type ElementType, elementType, type Operation, type OperationName } from './operation.js';
import { type SharedMemoryGroupHandle, STAGING_BYTES } from './shared-memory-group.js';

/** Up to here every rank sums everything. */
const SMALL_BYTES = 16 * 1024;

type SharedView = new (buffer: SharedArrayBuffer, offset: number, length: number) => Buffer;
const VIEWS: Record<Exclude<ElementType, 'none'>, SharedView> = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  uint8: Uint8Array,
  int64: BigInt64Array,
};

/** A collective in steps: yields the barrier that has to be complete before it goes on. */
type Steps = Generator<number, void, void>;

/** Every rank's buffer, as seen from this rank. */
export interface SharedBuffers {
  /** In rank order, all of the same length. */
  readonly buffers: Float32Array[];
  /** Brings the result back if the buffer had to be copied. Call it when all ranks are done with all buffers. */
  release(): void;
}

/** See the file's head. Made by {@link joinSharedMemoryGroup}. */
export class SharedMemoryCommunicator implements Communicator {
  readonly name = 'shared_memory';
  readonly size: number;
  /** Where zero-copy buffers are allocated. */
  readonly memory: FlatMemory;
  readonly #board: GroupBoard;
  readonly #staging: number;
  readonly #mailboxes: SharedArrayBuffer;
  /** Started and not finished, in order of issue. */
  readonly #queue: SharedWork[] = [];
  /** Messages that arrived before they were asked for, by source. */
  readonly #unclaimed = new Map<number, { tag: number; bytes: Uint8Array }[]>();
  #scratch: Float32Array[] = [];
  #sequence = 0;
  #isClosed = false;

  constructor(
    group: SharedMemoryGroupHandle,
    readonly rank: number,
  ) {
    this.size = group.size;
    if (!Number.isInteger(rank) || rank < 0 || rank >= group.size) {
      throw new RangeError(`Rank ${rank} is not a rank of this group; ranks are 0 to ${group.size - 1}.`);
    }
    this.memory = FlatMemory.attach(group.memory, rank);
    this.#board = new GroupBoard(group.board, group.size, rank, group.timeoutMs, group.spins);
    this.#staging = group.staging;
    this.#mailboxes = group.mailboxes;
    this.#board.join();
  }

  /**
   * Zeroed flat memory of `length` f32 for each rank; the own array is at index `rank`. All-reduces over own arrays copy
   * nothing. Collective in that all ranks must make the same allocations in the same order; it waits for nobody.
   */
  allocateSymmetric(length: number): Float32Array[] {
    return this.memory.allocateEach(this.size, length);
  }

  allReduce(buffer: Buffer, op: CommunicatorReduceOp = 'sum'): void {
    const operation = this.#begin('all_reduce', buffer, op);
    this.#finish(operation, this.#allReduce(operation, buffer, op));
  }

  allReduceAsync(buffer: Buffer, op: CommunicatorReduceOp = 'sum'): Work {
    const operation = this.#begin('all_reduce', buffer, op);
    const work = new SharedWork(operation, this.#allReduce(operation, buffer, op), this.#board, (until) =>
      this.#progress(until),
    );
    this.#queue.push(work);
    this.#progress(work);
    return work;
  }

  broadcast(buffer: Buffer, root: number): void {
    this.#checkRank('Root', root);
    const operation = this.#begin('broadcast', buffer, 'none', root);
    this.#finish(operation, this.#broadcast(operation, bytesOf(buffer), root));
  }

  allGather(send: Buffer, receive: Buffer): void {
    if (receive.byteLength !== send.byteLength * this.size) {
      throw new RangeError(
        `allGather of ${send.byteLength} bytes over ${this.size} ranks needs ${send.byteLength * this.size} bytes to ` +
          `receive into, got ${receive.byteLength}.`,
      );
    }
    const operation = this.#begin('all_gather', send);
    this.#finish(operation, this.#allGather(operation, bytesOf(send), bytesOf(receive)));
  }

  barrier(): void {
    const operation = this.#begin('barrier');
    this.#finish(operation, this.#meet(operation));
  }

  /**
   * Every rank's `buffer`, all of them final, for algorithms that work on them side by side with barriers of their own.
   * Buffers outside the flat memory are copied in, and copied back by `release`. Collective.
   */
  share(buffer: Float32Array): SharedBuffers {
    if (this.size === 1) return { buffers: [buffer], release: () => undefined };
    const operation = this.#begin('share', buffer);
    this.#finish(operation, this.#meet(operation, this.#addressOf(buffer)));
    const addresses = this.#ranks((rank) => this.#board.addressOf(rank, operation.sequence));
    if (addresses.every((address) => address >= 0)) {
      const buffers = addresses.map((address) => this.memory.viewAt(address, buffer.length));
      return { buffers, release: () => undefined };
    }
    if ((this.#scratch[0]?.length ?? -1) < buffer.length) {
      // Powers of two, because flat memory is never given back.
      this.#scratch = this.allocateSymmetric(2 ** Math.ceil(Math.log2(Math.max(buffer.length, 1024))));
    }
    const buffers = this.#scratch.map((scratch) => scratch.subarray(0, buffer.length));
    const own = buffers[this.rank] as Float32Array;
    own.set(buffer);
    this.barrier();
    return {
      buffers,
      release: () => buffer.set(own),
    };
  }

  /** Returns when the message is with the receiver, or on its way (up to 64 KiB). */
  send(buffer: Buffer, destination: number, tag = 0): void {
    const operation = this.#message('send', buffer, destination);
    const box = new Mailbox(this.#mailboxes, this.size, this.rank, destination);
    box.put(bytesOf(buffer), tag, (word, value) => this.#board.waitForWord(word, value, operation));
  }

  /** Messages of one sender and tag arrive in the order in which they were sent. */
  receive(buffer: Buffer, source: number, tag = 0): void {
    const operation = this.#message('receive', buffer, source);
    const message = this.#takeMessage(source, tag, operation);
    if (message.length !== buffer.byteLength) {
      throw new CommunicatorError(
        `Rank ${source} sent ${message.length} bytes with tag ${tag}, rank ${this.rank} expected ${buffer.byteLength}.\n` +
          'help: both sides must agree on the size of a message.',
        source,
      );
    }
    bytesOf(buffer).set(message);
  }

  abort(reason: string): void {
    this.#board.abort(`Rank ${this.rank} aborted: ${reason}`, this.rank);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#board.leave();
  }

  #begin(name: OperationName, buffer?: Buffer, reduceOp: Operation['reduceOp'] = 'none', peer = -1): Operation {
    this.#throwIfClosed(name);
    this.#sequence++;
    const operation: Operation = {
      name,
      sequence: this.#sequence,
      bytes: buffer?.byteLength ?? 0,
      type: buffer ? elementType(buffer) : 'none',
      reduceOp,
      peer,
      allocated: this.memory.allocatedBytes,
    };
    this.#board.throwIfAborted(operation);
    return operation;
  }

  /** Runs a collective to its end, after those that were started before it. */
  #finish(operation: Operation, steps: Steps): void {
    this.#queue.at(-1)?.wait();
    for (const target of steps) this.#board.wait(target, operation);
  }

  /** Advances what was started, in order, as far as that is possible without waiting, but not beyond `until`. */
  #progress(until: SharedWork): void {
    for (;;) {
      const work = this.#queue[0];
      if (!work?.advance()) return;
      this.#queue.shift();
      if (work === until) return;
    }
  }

  /** The first barrier of every collective, after which all ranks know that they mean the same. */
  *#meet(operation: Operation, address = -1): Steps {
    if (this.size === 1) return;
    this.#board.announce(operation, address);
    yield this.#board.arrive();
    this.#board.checkAgreement(operation);
  }

  *#allReduce(operation: Operation, buffer: Buffer, op: CommunicatorReduceOp): Steps {
    if (this.size === 1) return;
    const parts = cut(buffer, STAGING_BYTES);
    const first = parts[0] as Buffer;
    const isSmall = buffer.byteLength <= SMALL_BYTES;
    const address = isSmall || op !== 'sum' || !(buffer instanceof Float32Array) ? -1 : this.#addressOf(buffer);
    if (address < 0) this.#stage(first);
    yield* this.#meet(operation, address);
    if (isSmall) {
      this.#combine(
        buffer,
        this.#ranks((rank) => this.#staged(buffer, rank)),
        op,
      );
      return;
    }
    const addresses = this.#ranks((rank) => this.#board.addressOf(rank, operation.sequence));
    if (addresses.every((other) => other >= 0)) {
      this.#sumSlice(addresses, buffer.length);
      yield this.#board.arrive();
      return;
    }
    if (addresses.some((other) => other >= 0)) {
      // Some buffers are in flat memory and some are not: nobody has staged for the part that comes next but some.
      this.#stage(first);
      yield this.#board.arrive();
    }
    for (const [i, part] of parts.entries()) {
      const { offset, length } = slice(part.length, this.rank, this.size);
      const cutOut = (area: Buffer) => area.subarray(offset, offset + length) as Buffer;
      const result = cutOut(this.#resultArea(part, this.#board.barriers));
      this.#combine(
        result,
        this.#ranks((rank) => cutOut(this.#staged(part, rank))),
        op,
      );
      const next = parts[i + 1];
      if (next) this.#stage(next);
      yield this.#board.arrive();
      part.set(this.#resultArea(part, this.#board.barriers - 1) as never);
    }
  }

  *#broadcast(operation: Operation, bytes: Uint8Array, root: number): Steps {
    if (this.size === 1) return;
    for (const [i, part] of cut(bytes, STAGING_BYTES).entries()) {
      if (this.rank === root) this.#stage(part);
      if (i === 0) yield* this.#meet(operation);
      else yield this.#board.arrive();
      if (this.rank !== root) (part as Uint8Array).set(this.#staged(part, root) as Uint8Array);
    }
  }

  *#allGather(operation: Operation, send: Uint8Array, receive: Uint8Array): Steps {
    if (this.size === 1) {
      receive.set(send);
      return;
    }
    let offset = 0;
    for (const [i, part] of cut(send, STAGING_BYTES).entries()) {
      this.#stage(part);
      if (i === 0) yield* this.#meet(operation);
      else yield this.#board.arrive();
      for (let rank = 0; rank < this.size; rank++) {
        receive.set(this.#staged(part, rank) as Uint8Array, rank * send.length + offset);
      }
      offset += part.length;
    }
  }

  #sumSlice(addresses: readonly number[], elements: number): void {
    const { offset, length } = slice(elements, this.rank, this.size);
    const at = offset * Float32Array.BYTES_PER_ELEMENT;
    this.memory.kernels.sumToAll(addresses.map((address) => this.memory.viewAt(address + at, length)));
  }

  #combine(target: Buffer, sources: readonly Buffer[], op: CommunicatorReduceOp): void {
    const { kernels } = this.memory;
    const isSum = op === 'sum' && target instanceof Float32Array;
    if (isSum && kernels.accepts([target])) kernels.sum(target, sources as Float32Array[]);
    else combine(target, sources, op);
  }

  #stage(part: Buffer): void {
    this.#area(part, this.rank, this.#board.barriers).set(part as never);
  }

  /** What `rank` staged before the last barrier, as elements like those of `part`. */
  #staged(part: Buffer, rank: number): Buffer {
    return this.#area(part, rank, this.#board.barriers - 1);
  }

  #resultArea(part: Buffer, barriers: number): Buffer {
    return this.#area(part, this.size, barriers);
  }

  #area(part: Buffer, index: number, barriers: number): Buffer {
    const address = this.#staging + ((barriers & 1) * (this.size + 1) + index) * STAGING_BYTES;
    if (part instanceof Float32Array) return this.memory.viewAt(address, part.length);
    const View = VIEWS[elementType(part)];
    return new View(this.memory.memory.buffer, address, part.length);
  }

  #addressOf(buffer: Buffer): number {
    return this.memory.contains(buffer) ? buffer.byteOffset : -1;
  }

  #message(name: 'send' | 'receive', buffer: Buffer, peer: number): Operation {
    this.#throwIfClosed(name);
    this.#checkRank(name === 'send' ? 'Destination' : 'Source', peer);
    if (peer === this.rank) throw new RangeError(`Rank ${peer} cannot ${name} a message to or from itself.`);
    const operation: Operation = {
      name,
      sequence: 0,
      bytes: buffer.byteLength,
      type: elementType(buffer),
      reduceOp: 'none',
      peer,
      allocated: 0,
    };
    this.#board.throwIfAborted(operation);
    return operation;
  }

  #takeMessage(source: number, tag: number, operation: Operation): Uint8Array {
    const unclaimed = this.#unclaimed.get(source) ?? [];
    this.#unclaimed.set(source, unclaimed);
    const known = unclaimed.findIndex((message) => message.tag === tag);
    if (known >= 0) return (unclaimed.splice(known, 1)[0] as { bytes: Uint8Array }).bytes;
    const box = new Mailbox(this.#mailboxes, this.size, source, this.rank);
    for (;;) {
      const message = box.take((word, value) => this.#board.waitForWord(word, value, operation));
      if (message.tag === tag) return message.bytes;
      unclaimed.push(message);
    }
  }

  #throwIfClosed(name: string): void {
    if (!this.#isClosed) return;
    throw new CommunicatorError(`${name} on a communicator that was closed (rank ${this.rank}).`, this.rank);
  }

  #checkRank(what: string, rank: number): void {
    if (Number.isInteger(rank) && rank >= 0 && rank < this.size) return;
    throw new RangeError(`${what} ${rank} is not a rank of this group; ranks are 0 to ${this.size - 1}.`);
  }

  #ranks<T>(map: (rank: number) => T): T[] {
    return Array.from({ length: this.size }, (_, rank) => map(rank));
  }
}

/** In a worker thread: becomes rank `rank` of the group. Each rank joins once. */
export function joinSharedMemoryGroup(group: SharedMemoryGroupHandle, rank: number): SharedMemoryCommunicator {
  return new SharedMemoryCommunicator(group, rank);
}

/** A collective that was started. Collectives take their steps in the order in which they were issued. */
class SharedWork implements Work {
  #target: number | null = null;
  #since = 0;
  #state: 'running' | 'done' | 'failed' = 'running';
  #error: unknown;

  constructor(
    private readonly operation: Operation,
    private readonly steps: Steps,
    private readonly board: GroupBoard,
    private readonly progress: (until: SharedWork) => void,
  ) {}

  test(): boolean {
    if (this.#state === 'running') this.progress(this);
    if (this.#state === 'failed') throw this.#error;
    return this.#state === 'done';
  }

  wait(): void {
    for (;;) {
      // Read first: an arrival between the test and the sleep then ends the sleep.
      const { arrivals } = this.board;
      if (this.test()) return;
      this.board.sleepAfter(arrivals);
    }
  }

  /** Goes on as far as the other ranks have come. @returns whether it is over, well or not. */
  advance(): boolean {
    try {
      for (;;) {
        if (this.#target !== null && !this.board.isComplete(this.#target)) {
          this.board.throwIfHopeless(this.operation, this.#since);
          return false;
        }
        const { done, value } = this.steps.next();
        if (done) {
          this.#state = 'done';
          return true;
        }
        this.#target = value as number;
        this.#since = performance.now();
      }
    } catch (error) {
      this.#state = 'failed';
      this.#error = error;
      return true;
    }
  }
}

function bytesOf(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** Consecutive parts of at most `bytes` bytes; one empty part for an empty buffer. */
function cut<B extends Buffer>(buffer: B, bytes: number): B[] {
  const length = bytes / buffer.BYTES_PER_ELEMENT;
  const count = Math.max(1, Math.ceil(buffer.length / length));
  return Array.from({ length: count }, (_, i) => buffer.subarray(i * length, (i + 1) * length) as B);
}

/** Rank `rank`'s 1/n of `total` elements. */
function slice(total: number, rank: number, size: number): { offset: number; length: number } {
  const offset = Math.floor((total * rank) / size);
  return { offset, length: Math.floor((total * (rank + 1)) / size) - offset };
}
