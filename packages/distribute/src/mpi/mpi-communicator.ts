/**
 * MpiCommunicator: the Communicator between processes, on Open MPI.
 *
 * It issues non-blocking calls only and polls them, so every wait can look around: at an abort, at ranks whose process is
 * gone, stopped or silent (status-board.ts, kept by the watch thread), at the time. An asynchronous all-reduce moves on
 * whenever somebody calls `test()` or waits for anything on this communicator; one that was started with `background: true`
 * moves on by itself (background-reducer.ts). One thread of a process uses a communicator at a time.
 */
import {
  type Buffer,
  type Communicator,
  CommunicatorError,
  type CommunicatorReduceOp,
  type Work,
} from '../communicator/communicator.js';
import { defaultLog } from '../log.js';
import { elementType } from './all-reduce/all-reduce.js';
import { type RunState, Runs } from './all-reduce/runs.js';
import { type AllReduceJob, type MpiAlgorithm, mostUnderWay, startAllReduce } from './all-reduce/start.js';
import { BackgroundReducer } from './background-reducer.js';
import { describeRank } from './identity.js';
import { describeCulprit, findLoss, inSeconds, isLost, isStill, isThrough, SILENT_MS } from './loss.js';
import { MpiGroup, type MpiGroupHandle, type MpiOptions } from './mpi-group.js';
import { addressOf, type ElementType, OpenMpi, type Request } from './native/open-mpi.js';
import { Scratch } from './native/scratch.js';
import { describeOperation, describeWhere, type Operation } from './operation.js';
import { monotonicMs, OPERATIONS, type OperationName, type RankStatus, StatusBoard } from './status-board.js';

/** What only this communicator can do in an all-reduce. */
export interface MpiAllReduceOptions {
  /** 'bf16': float32 sums with bfloat16 on the wire, in rank order whatever the algorithm. Default 'f32'. */
  readonly wire?: 'f32' | 'bf16';
  /** Overrides the group's. */
  readonly algorithm?: MpiAlgorithm;
  /**
   * Carried on by a thread of its own, while this one computes. For buffers in shared memory; others, and the algorithm
   * 'open_mpi', move on as without. Default false.
   */
  readonly background?: boolean;
}

/** Spins so often before it sleeps: about 50 µs. */
const SPINS = 100;
const SHORTEST_NAP_MS = 0.02;
const LONGEST_NAP_MS = 0.5;
/** How often a waiting rank looks at the others. */
const LOOK_MS = 20;
/** What ranks say of themselves may be a few signs of life old; a disagreement that lasts so long is one. */
const SETTLED_MS = 2_000;
const DELIVERY_MS = 500;
const FIRST_TAG = 16;
const TAGS = 2 ** 14;
const LARGEST_COUNT = 2 ** 30;
/** Tags of the collectives that are not all-reduces. */
const DEBUG_TAG = 2;

/** See the file's head. */
export class MpiCommunicator implements Communicator {
  readonly name = 'mpi';
  readonly rank: number;
  readonly size: number;
  readonly #mpi = new OpenMpi();
  readonly #board: StatusBoard;
  readonly #scratch = new Scratch();
  readonly #napWord = new Int32Array(new SharedArrayBuffer(4));
  /** Asynchronous all-reduces that this thread carries on. */
  readonly #runs = new Runs(this.#mpi);
  #background: BackgroundReducer | null = null;
  readonly #log: (line: string) => void;
  #sequence = 0;
  #isClosed = false;
  #ownGroup: MpiGroup | null = null;

  /**
   * Joins the job and returns its communicator; `close` leaves the job.
   * @throws MpiNotFoundError; CommunicatorError
   */
  static open(options: MpiOptions = {}): MpiCommunicator {
    const group = MpiGroup.open(options);
    const communicator = new MpiCommunicator(group.handle, options.log);
    communicator.#ownGroup = group;
    return communicator;
  }

  /** @param group From {@link MpiGroup}, possibly of another thread of this process. */
  constructor(
    readonly group: MpiGroupHandle,
    log?: (line: string) => void,
  ) {
    this.rank = group.rank;
    this.size = group.size;
    this.#board = new StatusBoard(group.board);
    // A later communicator of the same process goes on counting, so that ranks can still be compared.
    this.#sequence = this.#board.status(this.rank).sequence;
    this.#log = log ?? defaultLog;
  }

  /** For messages: the optimizer step that the next operations belong to. */
  setStep(step: number): void {
    this.#board.setStep(this.rank, step);
  }

  allReduce(buffer: Buffer, op: CommunicatorReduceOp = 'sum', options: MpiAllReduceOptions = {}): void {
    this.allReduceAsync(buffer, op, options).wait();
  }

  allReduceAsync(buffer: Buffer, op: CommunicatorReduceOp = 'sum', options: MpiAllReduceOptions = {}): Work {
    const algorithm = options.algorithm ?? this.group.algorithm;
    const wire = options.wire ?? 'f32';
    if (wire === 'bf16' && (op !== 'sum' || !(buffer instanceof Float32Array))) {
      throw new TypeError(`bf16 on the wire is for sums of Float32Array, got ${op} of ${buffer.constructor.name}.`);
    }
    const operation = this.#begin('all_reduce', buffer.byteLength, [
      OPERATIONS.length + ['sum', 'max', 'min'].indexOf(op),
      TYPE_NUMBERS.indexOf(elementType(buffer)),
      wire === 'bf16' ? 1 : 0,
      ALGORITHMS.indexOf(algorithm),
    ]);
    if (this.size === 1 || buffer.length === 0) {
      this.#end();
      return FINISHED;
    }
    const job: AllReduceJob = { op, wire, algorithm };
    const tag = FIRST_TAG + 2 * (operation.sequence % TAGS);
    // Open MPI's own collectives must be issued in one order, hence by one thread.
    const isShared = buffer.buffer instanceof SharedArrayBuffer && algorithm !== 'open_mpi';
    if (options.background && isShared) {
      this.#background ??= new BackgroundReducer(this.group);
      const slot = this.#background.start(buffer, job, tag);
      if (slot >= 0) return this.#workInBackground(this.#background, slot, operation);
    }
    const { rank, size } = this;
    // Earlier ones go first: they are the ones that the other ranks have begun as well.
    if (this.#runs.size >= mostUnderWay(size)) {
      this.#wait(operation, () => {
        this.#runs.advance();
        return this.#runs.size < mostUnderWay(size);
      });
    }
    const context = { mpi: this.#mpi, comm: this.group.collectives, rank, size, scratch: this.#scratch, tag };
    return this.#work(this.#runs.add(startAllReduce(context, buffer, job)), operation);
  }

  /** Moves the asynchronous operations of this thread on, without blocking. True if none is under way. */
  progress(): boolean {
    this.#throwIfAborted();
    this.#runs.advance();
    return this.#runs.size === 0;
  }

  broadcast(buffer: Buffer, root: number): void {
    this.#checkRank('root', root);
    const operation = this.#begin('broadcast', buffer.byteLength, [root]);
    const bytes = bytesOf(buffer);
    const { types } = this.#mpi;
    for (let start = 0; start < bytes.length && this.size > 1; start += LARGEST_COUNT) {
      const part = bytes.subarray(start, start + LARGEST_COUNT);
      this.#finish(
        operation,
        this.#mpi.ibcast(part, addressOf(part), part.length, types.byte, root, this.group.collectives),
      );
    }
    this.#end();
  }

  allGather(send: Buffer, receive: Buffer): void {
    if (receive.length !== this.size * send.length || receive.constructor !== send.constructor) {
      throw new RangeError(
        `allGather of ${send.constructor.name}[${send.length}] over ${this.size} ranks needs ` +
          `${send.constructor.name}[${this.size * send.length}] to receive into, got ${receive.constructor.name}[${receive.length}].`,
      );
    }
    const operation = this.#begin('all_gather', send.byteLength, [TYPE_NUMBERS.indexOf(elementType(send))]);
    if (this.size === 1) (receive as Float32Array).set(send as Float32Array);
    else if (send.length > 0) {
      const type = this.#mpi.types[elementType(send)];
      const request = this.#mpi.iallgather(
        receive,
        addressOf(send),
        addressOf(receive),
        send.length,
        type,
        this.group.collectives,
      );
      this.#finish(operation, request);
      // What MPI reads must live until here.
      void send.length;
    }
    this.#end();
  }

  barrier(): void {
    const operation = this.#begin('barrier', 0, []);
    if (this.size > 1) this.#finish(operation, this.#mpi.ibarrier(this.group.collectives));
    this.#end();
  }

  send(buffer: Buffer, destination: number, tag = 0): void {
    this.#checkRank('destination', destination);
    const operation = this.#meet('send', buffer, destination);
    const type = this.#mpi.types[elementType(buffer)];
    this.#finish(
      operation,
      this.#mpi.isend(buffer, addressOf(buffer), buffer.length, type, destination, tag, this.group.messages),
    );
    this.#end();
  }

  receive(buffer: Buffer, source: number, tag = 0): void {
    this.#checkRank('source', source);
    const operation = this.#meet('receive', buffer, source);
    const type = this.#mpi.types[elementType(buffer)];
    this.#finish(
      operation,
      this.#mpi.irecv(buffer, addressOf(buffer), buffer.length, type, source, tag, this.group.messages),
    );
    this.#end();
  }

  /** As {@link send}, started now. `buffer` must not be touched until `wait`. */
  sendAsync(buffer: Buffer, destination: number, tag = 0): Work {
    this.#checkRank('destination', destination);
    const operation = this.#meet('send', buffer, destination);
    const type = this.#mpi.types[elementType(buffer)];
    return this.#message(
      operation,
      this.#mpi.isend(buffer, addressOf(buffer), buffer.length, type, destination, tag, this.group.messages),
    );
  }

  /** As {@link receive}, started now. */
  receiveAsync(buffer: Buffer, source: number, tag = 0): Work {
    this.#checkRank('source', source);
    const operation = this.#meet('receive', buffer, source);
    const type = this.#mpi.types[elementType(buffer)];
    return this.#message(
      operation,
      this.#mpi.irecv(buffer, addressOf(buffer), buffer.length, type, source, tag, this.group.messages),
    );
  }

  /**
   * Blocks until `poll` is true, however long that takes, unless a rank is lost that is not tolerated.
   * @param text For messages: 'requests of the workers'.
   */
  waitUntil(poll: () => boolean, text: string): void {
    this.#throwIfClosed(text);
    this.#wait({ name: 'none', bytes: 0, sequence: 0, text }, poll);
  }

  /** Whether a rank's process is gone, cannot be reached, or has been silent for too long. */
  isLost(rank: number): boolean {
    return isLost(this.#board, this.group, rank);
  }

  /** 'rank 2 (host b, process 4711)' */
  describeRank(rank: number): string {
    return describeRank(rank, this.group.identities[rank]);
  }

  abort(reason: string): void {
    if (this.group.tolerated.includes(this.rank)) return;
    this.#board.abort(`aborted the group: ${reason}`, this.rank);
    this.#board.waitForDelivery(DELIVERY_MS);
  }

  /** Waits for all ranks, then leaves the job if this communicator opened it. After an abort it leaves at once. */
  close(): void {
    if (this.#isClosed) return;
    try {
      if (!this.#board.isAborted) this.barrier();
    } finally {
      this.#isClosed = true;
      this.#background?.close();
      this.#ownGroup?.close();
    }
  }

  /** A collective begins: numbered, shown on the board, and in debug mode compared with the other ranks. */
  #begin(name: OperationName, bytes: number, details: number[]): Operation {
    this.#throwIfClosed(name);
    this.#throwIfAborted();
    const operation = { name, bytes, sequence: ++this.#sequence };
    this.#board.begin(this.rank, operation.sequence, name, bytes);
    if (this.group.debug && this.size > 1) this.#compare(operation, details);
    return operation;
  }

  #meet(name: OperationName, buffer: Buffer, partner: number): Operation {
    this.#throwIfClosed(name);
    this.#throwIfAborted();
    return { name, bytes: buffer.byteLength, sequence: 0, partner };
  }

  /** An all-reduce that this thread carries on. */
  #work(state: RunState, operation: Operation): Work {
    const test = (): boolean => {
      if (!state.isDone && !state.failure) this.progress();
      if (state.failure) throw state.failure;
      return state.isDone;
    };
    return { test, wait: () => this.#wait(operation, test) };
  }

  /** An all-reduce that the communication thread carries on. */
  #workInBackground(background: BackgroundReducer, slot: number, operation: Operation): Work {
    let isDone = false;
    const test = (): boolean => {
      if (!isDone) {
        this.#throwIfAborted(operation);
        // Others of this thread may be what the other ranks wait for.
        this.#runs.advance();
        isDone = background.isDone(slot);
      }
      return isDone;
    };
    return {
      test,
      wait: () => this.#wait(operation, test),
    };
  }

  #message(operation: Operation, request: Request): Work {
    let isDone = false;
    const test = (): boolean => {
      if (!isDone) {
        this.#throwIfAborted(operation);
        isDone = this.#mpi.test(request);
      }
      return isDone;
    };
    return {
      test,
      wait: () => {
        if (!isDone) this.#wait(operation, test);
      },
    };
  }

  #end(): void {
    this.#board.setState(this.rank, 'computing');
  }

  #finish(operation: Operation, request: Request): void {
    this.#wait(operation, () => {
      this.#runs.advance();
      return this.#mpi.test(request);
    });
  }

  /** Polls until `poll` is true. @throws CommunicatorError when a rank is lost, on abort, and on time-out. */
  #wait(operation: Operation, poll: () => boolean): void {
    if (!this.#background) {
      this.#pollUntil(operation, poll);
      return;
    }
    // Whatever this thread waits for, it computes nothing meanwhile.
    this.#background.setAwaited(true);
    try {
      this.#pollUntil(operation, poll);
    } finally {
      this.#background.setAwaited(false);
    }
  }

  #pollUntil(operation: Operation, poll: () => boolean): void {
    let began = 0;
    let nextLook = 0;
    let nextWarning = 0;
    let nap = SHORTEST_NAP_MS;
    for (let spins = 0; ; spins++) {
      this.#throwIfAborted(operation, began);
      try {
        if (poll()) break;
      } catch (error) {
        throw this.#explain(error, operation, began);
      }
      if (spins < SPINS) continue;
      const now = monotonicMs();
      if (began === 0) {
        began = now;
        nextLook = now;
        nextWarning = now + this.group.warningMs;
        this.#board.setState(this.rank, 'waiting');
      }
      if (now >= nextLook) {
        nextLook = now + LOOK_MS;
        this.#look(operation, began, now);
        if (now >= nextWarning && operation.text === undefined) {
          nextWarning = now + this.group.warningMs;
          this.#log(
            `Rank ${this.rank} ${this.#where(operation, began, 'has been waiting')}. ${this.#whoIsBehind(operation, now)}`,
          );
        }
      }
      Atomics.wait(this.#napWord, 0, 0, nap);
      nap = Math.min(LONGEST_NAP_MS, nap * 1.1);
    }
    if (began > 0) this.#board.setState(this.rank, 'computing');
  }

  /** Looks at the other ranks. @throws CommunicatorError if one of them will not come. */
  #look(operation: Operation, began: number, now: number): void {
    const others = Array.from({ length: this.size }, (_, rank) => rank).filter(
      (rank) => rank !== this.rank && !isThrough(this.#board.status(rank)) && !this.group.tolerated.includes(rank),
    );
    const loss = findLoss(this.#board, this.group, others, now);
    if (loss) this.#lose(loss.rank, loss.text);
    else if (now - began > this.group.timeoutMs && operation.text === undefined) {
      const culprit = this.#behind(operation)[0] ?? -1;
      const text = `${culprit < 0 ? 'The operation did not end' : 'did not come'} within ${inSeconds(this.group.timeoutMs)} s`;
      this.#lose(culprit, `${text}. ${this.#whoIsBehind(operation, now)}`);
    } else {
      this.#lookForClosed(operation);
      if (now - began > SETTLED_MS) this.#lookForDisagreement(operation);
    }
    this.#throwIfAborted(operation, began);
  }

  /** A rank that has left will join no further collective. */
  #lookForClosed(operation: Operation): void {
    if (operation.sequence === 0 && operation.partner === undefined) return;
    if (operation.text !== undefined) return;
    for (let rank = 0; rank < this.size; rank++) {
      const status = this.#board.status(rank);
      const { sequence } = status;
      if (rank === this.rank || !isThrough(status)) continue;
      if (operation.sequence > sequence || operation.partner === rank) {
        this.#lose(rank, `has closed its communicator after collective ${sequence}`);
      }
    }
  }

  /** Two ranks that wait in the same collective for different things would wait for ever. */
  #lookForDisagreement(operation: Operation): void {
    if (operation.sequence === 0) return;
    const different = (rank: number) => {
      const { state, sequence, operation: name, bytes } = this.#board.status(rank);
      const isSame = name === operation.name && bytes === operation.bytes;
      return rank !== this.rank && state === 'waiting' && sequence === operation.sequence && !isSame;
    };
    const others = Array.from({ length: this.size }, (_, rank) => rank).filter(different);
    if (others.length === 0) return;
    const theirs = others.map((rank) => {
      const { operation: name, bytes, sequence } = this.#board.status(rank);
      return `${describeRank(rank, this.group.identities[rank])} issued ${describeOperation({ name, bytes, sequence })}`;
    });
    this.#lose(
      -1,
      `Ranks disagree on collective ${operation.sequence}: rank ${this.rank} issued ${describeOperation(operation)}, ` +
        `but ${theirs.join(', ')}`,
    );
  }

  /** Tells everybody, and gives the message time to leave before this process may end. */
  #lose(rank: number, text: string): void {
    this.#board.abort(text, rank);
    this.#board.waitForDelivery(DELIVERY_MS);
  }

  #throwIfAborted(operation?: Operation, began = 0): void {
    if (!this.#board.isAborted) return;
    const reason = this.#board.abortReason;
    const where = operation
      ? this.#where(operation, began, 'was waiting')
      : describeWhere(this.#board.status(this.rank));
    const help =
      reason.rank < 0
        ? 'all ranks must issue the same collectives in the same order; look for a branch that depends on the rank.'
        : 'the output of that rank may say why; the same command resumes from the last checkpoint.';
    throw new CommunicatorError(
      `${describeCulprit(reason, this.group)}. Rank ${this.rank} of ${this.size} ${where}.\nhelp: ${help}`,
      reason.rank >= 0 ? reason.rank : undefined,
    );
  }

  #throwIfClosed(name: string): void {
    if (this.#isClosed) throw new CommunicatorError(`${name} on a communicator that was closed (rank ${this.rank}).`);
  }

  #explain(error: unknown, operation: Operation, began: number): Error {
    if (!(error instanceof CommunicatorError) || this.#board.isAborted) return error as Error;
    this.abort(`${describeOperation(operation)}: ${error.message}`);
    return new CommunicatorError(
      `Rank ${this.rank} ${this.#where(operation, began, 'was waiting')}: ${error.message}`,
      this.rank,
    );
  }

  /** 'was waiting in all_reduce of 4,096 bytes (collective 12, step 5) for 0.4 s' */
  #where(operation: Operation, began: number, verb: string): string {
    const { step } = this.#board.status(this.rank);
    const waited = began > 0 ? ` for ${inSeconds(monotonicMs() - began)} s` : '';
    return `${verb} in ${describeOperation(operation, step)}${waited}`;
  }

  #behind(operation: Operation): number[] {
    const isBehind = (rank: number) => this.#board.status(rank).sequence < operation.sequence;
    if (operation.partner !== undefined) return operation.partner === this.rank ? [] : [operation.partner];
    // A rank whose process stands still may have issued a collective that it can no longer carry out: it comes first.
    const others = Array.from({ length: this.size }, (_, rank) => rank).filter((rank) => rank !== this.rank);
    const still = others.filter((rank) => isStill(this.#board, this.group, rank));
    return [...still, ...others.filter((rank) => !still.includes(rank) && isBehind(rank))];
  }

  #whoIsBehind(operation: Operation, now: number): string {
    const behind = this.#behind(operation);
    if (behind.length === 0) {
      const ahead = Array.from({ length: this.size }, (_, rank) => this.#describeStatus(rank, now));
      return `No rank is behind; the ranks may not agree on the operation: ${ahead.join('; ')}.`;
    }
    return `Behind: ${behind.map((rank) => this.#describeStatus(rank, now)).join('; ')}.`;
  }

  #describeStatus(rank: number, now: number): string {
    const status: RankStatus = this.#board.status(rank);
    const last = describeOperation(
      { name: status.operation, bytes: status.bytes, sequence: status.sequence },
      status.step,
    );
    const isSilent = rank !== this.rank && now - status.heard > SILENT_MS;
    const silence = isSilent ? `, silent for ${inSeconds(now - status.heard)} s` : '';
    const stopped = status.process === 'stopped' ? ', its process is stopped' : '';
    const doing = status.state === 'waiting' ? 'waiting in' : 'computing after';
    return `${describeRank(rank, this.group.identities[rank])} is ${doing} ${last}${silence}${stopped}`;
  }

  /** Debug mode: all ranks must be about to do the same. Costs one small exchange per collective. */
  #compare(operation: Operation, details: number[]): void {
    const mine = new Float64Array(new SharedArrayBuffer(8 * 8));
    mine.set([operation.sequence, OPERATIONS.indexOf(operation.name), operation.bytes, ...details]);
    const theirs = new Float64Array(new SharedArrayBuffer(8 * 8 * this.size));
    const { types } = this.#mpi;
    const requests: Request[] = [];
    const tag = DEBUG_TAG;
    for (let other = 0; other < this.size; other++) {
      if (other === this.rank) continue;
      const place = theirs.subarray(8 * other, 8 * other + 8);
      requests.push(this.#mpi.irecv(theirs, addressOf(place), 8, types.double, other, tag, this.group.collectives));
      requests.push(this.#mpi.isend(mine, addressOf(mine), 8, types.double, other, tag, this.group.collectives));
    }
    for (const request of requests) this.#finish(operation, request);
    const different: string[] = [];
    for (let other = 0; other < this.size; other++) {
      if (other === this.rank) continue;
      const row = theirs.subarray(8 * other, 8 * other + 8);
      if (mine.every((value, i) => value === row[i])) continue;
      const [sequence, name, bytes] = row as unknown as [number, number, number];
      const theirOperation = { sequence, name: OPERATIONS[name] ?? 'none', bytes };
      different.push(
        `${describeRank(other, this.group.identities[other])} issued ${describeOperation(theirOperation)}${describeDetails(row)}`,
      );
    }
    if (different.length === 0) return;
    // Every rank finds the difference by itself; the abort is for those that are not in a collective.
    this.#lose(
      -1,
      `Ranks disagree on collective ${operation.sequence}: rank ${this.rank} issued ` +
        `${describeOperation(operation)}${describeDetails(mine)}, but ${different.join(', ')}`,
    );
    this.#throwIfAborted(operation);
  }

  #checkRank(what: string, rank: number): void {
    if (Number.isInteger(rank) && rank >= 0 && rank < this.size) return;
    throw new RangeError(`${what} ${rank} is not a rank of this group; ranks are 0 to ${this.size - 1}.`);
  }
}

const ALGORITHMS: readonly MpiAlgorithm[] = ['auto', 'rank_order', 'ring', 'open_mpi'];
const TYPE_NUMBERS: readonly ElementType[] = ['float', 'double', 'int32', 'uint8', 'int64'];

const FINISHED: Work = { test: () => true, wait: () => undefined };

/** What the comparison adds: kind of sum, element type, wire, algorithm, root. */
function describeDetails(row: Float64Array): string {
  const [, name, , first, second, third, fourth] = row as unknown as number[];
  if (OPERATIONS[name as number] === 'broadcast') return ` from rank ${first}`;
  if (OPERATIONS[name as number] !== 'all_reduce') return '';
  const op = ['sum', 'max', 'min'][(first as number) - OPERATIONS.length];
  return ` (${op} of ${TYPE_NUMBERS[second as number]}, ${third === 1 ? 'bf16' : 'f32'} wire, ${ALGORITHMS[fourth as number]})`;
}

function bytesOf(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}
