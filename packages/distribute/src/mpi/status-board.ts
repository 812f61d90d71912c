/**
 * What every rank is doing, as this process knows it: one row per rank in memory shared by the process's threads.
 *
 * It moves nothing between processes (the watch thread does) and decides nothing (the communicator does). The own row is
 * written by whoever runs collectives, the others' rows by the watch thread.
 */

/** Collective operations, by the number under which they travel. */
export const OPERATIONS = [
  'none',
  'all_reduce',
  'broadcast',
  'all_gather',
  'barrier',
  'send',
  'receive',
  'start',
] as const;
export type OperationName = (typeof OPERATIONS)[number];

/** Life of a rank as it says itself. */
export const RANK_STATES = ['computing', 'waiting', 'closed'] as const;
export type RankState = (typeof RANK_STATES)[number];

/** What the operating system says of a rank's process. Always 'unknown' for ranks on other hosts. */
export const PROCESS_STATES = ['unknown', 'running', 'stopped', 'gone', 'unreachable'] as const;
export type ProcessState = (typeof PROCESS_STATES)[number];

/** Life of the group in this process. */
export const Phase = { starting: 0, running: 1, closing: 2, closed: 3, finalized: 4 } as const;

const PHASE = 0;
const ABORTED = 1;
const ABORT_RANK = 2;
const WAKE = 3;
const DELIVERED = 4;
const TEXT_LENGTH = 6;
const HEADER_WORDS = 16;
const TEXT_BYTES = 2048;
const ROW = 8;
const Column = {
  sequence: 0,
  operation: 1,
  bytes: 2,
  step: 3,
  state: 4,
  heard: 5,
  processState: 6,
  gone: 7,
} as const;
type Column = (typeof Column)[keyof typeof Column];

/** One rank's row. */
export interface RankStatus {
  /** Collectives begun. */
  readonly sequence: number;
  /** The last one begun. */
  readonly operation: OperationName;
  readonly bytes: number;
  /** As set by `setStep`; −1 before. */
  readonly step: number;
  readonly state: RankState;
  /** Milliseconds (monotonic, of this process) when the rank was last heard of. */
  readonly heard: number;
  readonly process: ProcessState;
  /** Milliseconds when its process was found to be gone; 0 = it was not. */
  readonly gone: number;
}

/** Milliseconds of a clock that all threads of the process share. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

/** See the file's head. `buffer` crosses threads; every thread makes its own StatusBoard over it. */
export class StatusBoard {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #text: Uint8Array<SharedArrayBuffer>;
  readonly #rows: Float64Array<SharedArrayBuffer>;

  constructor(readonly buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer, 0, HEADER_WORDS);
    this.#text = new Uint8Array(buffer, 4 * HEADER_WORDS, TEXT_BYTES);
    this.#rows = new Float64Array(buffer, 4 * HEADER_WORDS + TEXT_BYTES);
  }

  static create(size: number): StatusBoard {
    const board = new StatusBoard(new SharedArrayBuffer(4 * HEADER_WORDS + TEXT_BYTES + 8 * ROW * size));
    const now = monotonicMs();
    for (let rank = 0; rank < size; rank++) {
      board.#rows[rank * ROW + Column.step] = -1;
      board.#rows[rank * ROW + Column.heard] = now;
    }
    return board;
  }

  status(rank: number): RankStatus {
    const at = (column: Column) => this.#rows[rank * ROW + column] as number;
    return {
      sequence: at(Column.sequence),
      operation: OPERATIONS[at(Column.operation)] ?? 'none',
      bytes: at(Column.bytes),
      step: at(Column.step),
      state: RANK_STATES[at(Column.state)] ?? 'computing',
      heard: at(Column.heard),
      process: PROCESS_STATES[at(Column.processState)] ?? 'unknown',
      gone: at(Column.gone),
    };
  }

  /** A rank begins a collective. */
  begin(rank: number, sequence: number, operation: OperationName, bytes: number): void {
    const row = rank * ROW;
    this.#rows[row + Column.sequence] = sequence;
    this.#rows[row + Column.operation] = OPERATIONS.indexOf(operation);
    this.#rows[row + Column.bytes] = bytes;
  }

  setState(rank: number, state: RankState): void {
    this.#rows[rank * ROW + Column.state] = RANK_STATES.indexOf(state);
  }

  setStep(rank: number, step: number): void {
    this.#rows[rank * ROW + Column.step] = step;
  }

  /** The first five columns: what travels. */
  copyRow(rank: number, target: Float64Array): void {
    for (let column = 0; column < Column.heard; column++) target[column] = this.#rows[rank * ROW + column] as number;
  }

  /** Takes over what a rank said of itself. */
  hear(rank: number, row: Float64Array): void {
    for (let column = 0; column < Column.heard; column++) this.#rows[rank * ROW + column] = row[column] as number;
    this.#rows[rank * ROW + Column.heard] = monotonicMs();
  }

  /** All ranks count as heard of now: at the start of the watch. */
  hearAll(size: number): void {
    const now = monotonicMs();
    for (let rank = 0; rank < size; rank++) this.#rows[rank * ROW + Column.heard] = now;
  }

  setProcess(rank: number, state: ProcessState): void {
    const row = rank * ROW;
    if ((state === 'gone' || state === 'unreachable') && this.#rows[row + Column.gone] === 0) {
      this.#rows[row + Column.gone] = monotonicMs();
    }
    this.#rows[row + Column.processState] = PROCESS_STATES.indexOf(state);
  }

  get phase(): number {
    return Atomics.load(this.#words, PHASE);
  }

  set phase(phase: number) {
    Atomics.store(this.#words, PHASE, phase);
    Atomics.notify(this.#words, PHASE);
    this.wake();
  }

  /** Blocks until the phase is at least `phase`. False after `ms`. */
  waitForPhase(phase: number, ms: number): boolean {
    const end = monotonicMs() + ms;
    for (;;) {
      const now = this.phase;
      if (now >= phase) return true;
      const left = end - monotonicMs();
      if (left <= 0) return false;
      Atomics.wait(this.#words, PHASE, now, left);
    }
  }

  get isAborted(): boolean {
    return Atomics.load(this.#words, ABORTED) === 2;
  }

  /** Why, and which rank is at fault (−1: unknown). Only while {@link isAborted}. */
  get abortReason(): { text: string; rank: number } {
    const length = Atomics.load(this.#words, TEXT_LENGTH);
    return { text: Buffer.from(this.#text.slice(0, length)).toString(), rank: Atomics.load(this.#words, ABORT_RANK) };
  }

  /**
   * Aborts the group; the first reason stays.
   * @param isForOthers false when the reason came from another rank, which tells everybody itself.
   */
  abort(text: string, rank: number, isForOthers = true): void {
    if (Atomics.compareExchange(this.#words, ABORTED, 0, 1) !== 0) return;
    const bytes = Buffer.from(text).subarray(0, TEXT_BYTES);
    this.#text.set(bytes);
    Atomics.store(this.#words, TEXT_LENGTH, bytes.length);
    Atomics.store(this.#words, ABORT_RANK, rank);
    Atomics.store(this.#words, DELIVERED, isForOthers ? 0 : 1);
    Atomics.store(this.#words, ABORTED, 2);
    this.wake();
  }

  get isDelivered(): boolean {
    return Atomics.load(this.#words, DELIVERED) === 1;
  }

  setDelivered(): void {
    Atomics.store(this.#words, DELIVERED, 1);
    Atomics.notify(this.#words, DELIVERED);
  }

  /** Blocks until the other ranks were told of the abort, `ms` at most. */
  waitForDelivery(ms: number): void {
    if (!this.isDelivered) Atomics.wait(this.#words, DELIVERED, 0, ms);
  }

  /** Wakes the watch thread. */
  wake(): void {
    Atomics.add(this.#words, WAKE, 1);
    Atomics.notify(this.#words, WAKE);
  }

  /** The watch thread's nap: `ms`, or until woken. */
  nap(ms: number): void {
    Atomics.wait(this.#words, WAKE, Atomics.load(this.#words, WAKE), ms);
  }
}
