/**
 * GroupBoard: a few shared words in which the ranks of a process see where everybody is, wait for each other, and abort.
 *
 * It moves no data and knows no operation's meaning. Every wait spins briefly, then sleeps in slices, and ends: by arrival,
 * by abort, when a rank that is waited for has left, or by time-out. Ordering rests on Atomics: what a rank wrote before it
 * arrived is visible to whoever saw it arrive.
 */
import { CommunicatorError } from './communicator.js';
import {
  capitalize,
  describeInFull,
  describeOperation,
  ELEMENT_TYPES,
  isSameOperation,
  listRanks,
  OPERATION_NAMES,
  type Operation,
  REDUCE_OPS,
} from './operation.js';

/** Arrivals of all ranks at all barriers so far (wraps around). */
const ARRIVALS = 0;
/** 0, or 1 while the reason is being written, or 2. */
const ABORTED = 16;
const ABORT_RANK = 17;
const TEXT_LENGTH = 18;
const HEADER_WORDS = 32;
/** Words of a rank: two cache lines, so that ranks do not slow each other down. */
const ROW_WORDS = 32;
const STATE = 0;
/** Barriers at which the rank has arrived. */
const ARRIVED = 1;
const TEXT_BYTES = 2048;
/** Two operations per rank, taken in turns: a rank cannot be two barriers ahead of one that still reads. */
const OPERATION_DOUBLES = 8;

const State = { absent: 0, computing: 1, waiting: 2, left: 3 } as const;
type StateName = keyof typeof State;

/** Longest sleep before a waiting rank looks around: for an abort that it missed, for ranks that left. */
const SLICE_MS = 20;
/** How long a waiting rank spins before it sleeps; waking a sleeper takes about as long. */
const SPIN_MS = 0.1;

const NO_OPERATION: Operation = {
  name: 'none',
  sequence: 0,
  bytes: 0,
  type: 'none',
  reduceOp: 'none',
  peer: -1,
  allocated: 0,
};

/** See the file's head. One object per thread over the same buffer. */
export class GroupBoard {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #operations: Float64Array<SharedArrayBuffer>;
  readonly #text: Uint8Array<SharedArrayBuffer>;
  readonly #spinMs: number;
  #barriers = 0;

  /**
   * @param rank −1 for a thread that only watches or aborts.
   * @param spins Whether waiting ranks spin before they sleep: where every rank has a core. Default true.
   */
  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly size: number,
    private readonly rank: number,
    readonly timeoutMs: number,
    spins = true,
  ) {
    const words = HEADER_WORDS + ROW_WORDS * size;
    const doubles = 2 * OPERATION_DOUBLES * size;
    this.#words = new Int32Array(buffer, 0, words);
    this.#operations = new Float64Array(buffer, 4 * words, doubles);
    this.#text = new Uint8Array(buffer, 4 * words + 8 * doubles, TEXT_BYTES);
    // Spinning on a core that the awaited rank needs makes it later still.
    this.#spinMs = spins ? SPIN_MS : 0;
  }

  static bytesFor(size: number): number {
    return 4 * (HEADER_WORDS + ROW_WORDS * size) + 8 * 2 * OPERATION_DOUBLES * size + TEXT_BYTES;
  }

  /** @throws CommunicatorError if somebody is this rank already. */
  join(): void {
    const state = Atomics.compareExchange(this.#words, this.#row(this.rank) + STATE, State.absent, State.computing);
    if (state === State.absent) return;
    throw new CommunicatorError(
      `Rank ${this.rank} has joined the group before.\nhelp: each rank joins once, from one thread.`,
      this.rank,
    );
  }

  leave(): void {
    this.#setState('left');
    Atomics.notify(this.#words, ARRIVALS);
  }

  /** Barriers at which this rank has arrived. */
  get barriers(): number {
    return this.#barriers;
  }

  /** Tells the others what this rank is about to do, and where its buffer is (−1: nowhere that they reach). */
  announce(operation: Operation, address: number): void {
    const at = this.#operationAt(this.rank, operation.sequence);
    this.#operations[at] = operation.sequence;
    this.#operations[at + 1] = OPERATION_NAMES.indexOf(operation.name);
    this.#operations[at + 2] = operation.bytes;
    this.#operations[at + 3] = ELEMENT_TYPES.indexOf(operation.type);
    this.#operations[at + 4] = REDUCE_OPS.indexOf(operation.reduceOp);
    this.#operations[at + 5] = operation.peer;
    this.#operations[at + 6] = operation.allocated;
    this.#operations[at + 7] = address;
  }

  /** Where `rank`'s buffer is, after the barrier that follows its announcement. */
  addressOf(rank: number, sequence: number): number {
    return this.#operations[this.#operationAt(rank, sequence) + 7] as number;
  }

  /**
   * After the first barrier of an operation: whether all ranks announced the same.
   * @throws CommunicatorError naming who issued what, on every rank alike.
   */
  checkAgreement(operation: Operation): void {
    const issued = this.#ranks().map((rank) => this.#operationOf(rank, operation.sequence));
    if (issued.every((other) => isSameOperation(operation, other))) return;
    const groups = new Map<string, number[]>();
    for (const [rank, other] of issued.entries()) {
      const text = describeInFull(other);
      groups.set(text, [...(groups.get(text) ?? []), rank]);
    }
    const who = [...groups].map(([text, ranks]) => `${listRanks(ranks)} issued ${text}`).join('; ');
    this.abort(
      `Ranks disagree on collective ${operation.sequence}: ${who}.\n` +
        'help: all ranks must issue the same collectives and allocations in the same order; look for a branch that ' +
        'depends on the rank.',
      -1,
    );
    this.throwIfAborted(operation);
  }

  /** Arrives at the next barrier, without waiting. @returns what {@link isComplete} and {@link wait} take. */
  arrive(): number {
    this.#barriers++;
    Atomics.store(this.#words, this.#row(this.rank) + ARRIVED, this.#barriers);
    const target = Math.imul(this.#barriers, this.size);
    if (((Atomics.add(this.#words, ARRIVALS, 1) + 1) | 0) === target) Atomics.notify(this.#words, ARRIVALS);
    return target;
  }

  /** Whether all ranks have arrived at that barrier. */
  isComplete(target: number): boolean {
    return ((Atomics.load(this.#words, ARRIVALS) - target) | 0) >= 0;
  }

  /** Returns when all ranks have arrived at that barrier. */
  wait(target: number, operation: Operation): void {
    if (this.isComplete(target)) return;
    this.#setState('waiting');
    const began = performance.now();
    for (;;) {
      const { arrivals } = this;
      if (this.isComplete(target)) break;
      if (this.#spinAfter(arrivals)) continue;
      this.throwIfHopeless(operation, began);
      Atomics.wait(this.#words, ARRIVALS, arrivals, SLICE_MS);
    }
    this.#setState('computing');
  }

  /** Changes whenever a rank arrives. */
  get arrivals(): number {
    return Atomics.load(this.#words, ARRIVALS);
  }

  /** Returns soon after a barrier is complete that was not when `arrivals` was read; within 20 ms in any case. */
  sleepAfter(arrivals: number): void {
    if (!this.#spinAfter(arrivals)) Atomics.wait(this.#words, ARRIVALS, arrivals, SLICE_MS);
  }

  /** Spins a while. @returns whether a rank arrived meanwhile. */
  #spinAfter(arrivals: number): boolean {
    if (this.#spinMs === 0) return false;
    const began = performance.now();
    do {
      for (let i = 0; i < 100; i++) if (this.arrivals !== arrivals) return true;
    } while (performance.now() - began < this.#spinMs);
    return false;
  }

  /**
   * Waits until `word[0]` of other shared memory is `value`, for a message to or from `operation.peer`.
   * @throws CommunicatorError as {@link wait}.
   */
  waitForWord(word: Int32Array<SharedArrayBuffer>, value: number, operation: Operation): void {
    const began = performance.now();
    this.#setState('waiting');
    for (;;) {
      const found = Atomics.load(word, 0);
      if (found === value) break;
      this.throwIfHopeless(operation, began, () => Atomics.load(word, 0) === value);
      Atomics.wait(word, 0, found, SLICE_MS);
    }
    this.#setState('computing');
  }

  /**
   * @param hasCome Whether what is waited for has come after all; for messages, whose arrival the board does not know.
   * @throws CommunicatorError after an abort, if a rank that is waited for has left, or is late by the time-out.
   */
  throwIfHopeless(operation: Operation, began: number, hasCome: () => boolean = () => false): void {
    this.throwIfAborted(operation);
    // Who has left is read first, what they did second: a rank arrives or delivers its message and leaves right after, so in
    // the other order it could be found both absent and gone.
    const peers = operation.name === 'send' || operation.name === 'receive' ? [operation.peer] : this.#ranks();
    const gone = peers.filter((rank) => this.#state(rank) === 'left');
    const isLate = performance.now() - began > this.timeoutMs;
    if (gone.length === 0 && !isLate) return;
    const missing = this.#missing(operation);
    if (missing.length === 0 || hasCome()) return;
    const left = gone.filter((rank) => missing.includes(rank));
    if (left.length === 0 && !isLate) return;
    const culprits = left.length > 0 ? left : missing;
    const where = culprits.map((rank) => `rank ${rank} ${this.#describe(rank)}`).join('; ');
    this.abort(
      left.length > 0
        ? `${capitalize(listRanks(left))} left the group while rank ${this.rank} waits in ${describeOperation(operation)}: ${where}.\n` +
            'help: all ranks must issue the same collectives the same number of times before they close.'
        : `${capitalize(listRanks(missing))} did not arrive in ${describeOperation(operation)} within ` +
            `${this.timeoutMs / 1000} s of rank ${this.rank}: ${where}.\n` +
            'help: look for an error or an endless loop there; raise the time-out if it only computes for longer.',
      culprits[0] ?? -1,
    );
    this.throwIfAborted(operation);
  }

  /** Makes everybody's current and next call throw. The first reason stands. @param rank At fault; −1 if unknown. */
  abort(reason: string, rank: number): void {
    if (Atomics.compareExchange(this.#words, ABORTED, 0, 1) !== 0) return;
    const bytes = new TextEncoder().encode(reason).subarray(0, TEXT_BYTES);
    this.#text.set(bytes);
    Atomics.store(this.#words, TEXT_LENGTH, bytes.length);
    Atomics.store(this.#words, ABORT_RANK, rank);
    Atomics.store(this.#words, ABORTED, 2);
    Atomics.notify(this.#words, ARRIVALS);
  }

  throwIfAborted(operation?: Operation): void {
    if (Atomics.load(this.#words, ABORTED) === 0) return;
    // The reason takes microseconds to write, unless its writer was terminated meanwhile.
    for (let i = 0; i < 100 && Atomics.load(this.#words, ABORTED) === 1; i++) Atomics.wait(this.#words, ABORTED, 1, 1);
    const text = new TextDecoder().decode(this.#text.slice(0, Atomics.load(this.#words, TEXT_LENGTH)));
    const rank = Atomics.load(this.#words, ABORT_RANK);
    const [reason, ...help] = (text || 'The group was aborted.').split('\nhelp: ');
    const where = operation ? ` (Rank ${this.rank} was in ${describeOperation(operation)}.)` : '';
    throw new CommunicatorError(
      [`${reason}${where}`, ...help].join('\nhelp: '),
      Atomics.load(this.#words, ABORTED) === 2 && rank >= 0 ? rank : undefined,
    );
  }

  #missing(operation: Operation): number[] {
    if (operation.name === 'send' || operation.name === 'receive') return [operation.peer];
    return this.#ranks().filter(
      (rank) => ((Atomics.load(this.#words, this.#row(rank) + ARRIVED) - this.#barriers) | 0) < 0,
    );
  }

  /** 'has not joined', 'is computing after barrier (collective 3)', … */
  #describe(rank: number): string {
    const state = this.#state(rank);
    if (state === 'absent') return 'has not joined the group';
    const last = describeOperation(this.#lastOperation(rank));
    if (state === 'left') return `left after ${last}`;
    return state === 'waiting' ? `is waiting in ${last}` : `is computing after ${last}`;
  }

  #lastOperation(rank: number): Operation {
    const [even, odd] = [this.#operationOf(rank, 0), this.#operationOf(rank, 1)];
    return even.sequence > odd.sequence ? even : odd;
  }

  #operationOf(rank: number, sequence: number): Operation {
    const at = this.#operationAt(rank, sequence);
    const [number = 0, name = 0, bytes = 0, type = 0, reduceOp = 0, peer = 0, allocated = 0] =
      this.#operations.subarray(at, at + OPERATION_DOUBLES);
    if (number === 0) return NO_OPERATION;
    return {
      name: OPERATION_NAMES[name] ?? 'none',
      sequence: number,
      bytes,
      type: ELEMENT_TYPES[type] ?? 'none',
      reduceOp: REDUCE_OPS[reduceOp] ?? 'none',
      peer,
      allocated,
    };
  }

  #operationAt(rank: number, sequence: number): number {
    return OPERATION_DOUBLES * (2 * rank + (sequence & 1));
  }

  #row(rank: number): number {
    return HEADER_WORDS + ROW_WORDS * rank;
  }

  #state(rank: number): StateName {
    const value = Atomics.load(this.#words, this.#row(rank) + STATE);
    return (Object.keys(State) as StateName[])[value] as StateName;
  }

  #setState(state: StateName): void {
    Atomics.store(this.#words, this.#row(this.rank) + STATE, State[state]);
  }

  #ranks(): number[] {
    return Array.from({ length: this.size }, (_, rank) => rank);
  }
}
