/**
 * What every rank is doing, as this process knows it: one row per rank in memory shared by the process's threads.
 *
 * It moves nothing between processes (the watch thread does) and decides nothing (the communicator does). The own row is
 * written by whoever runs collectives, the others' rows by the watch thread: one writer at a time, any number of readers.
 *
 * What a rank says of itself is read as it was said, never half of one and half of the next: a rank that is believed to wait
 * in one collective under the name of another would be taken for one that disagrees. So it is kept twice. A writer fills the
 * copy that is not shown and then shows it; a reader that was overtaken reads again. A writer that ends in between leaves
 * what was shown.
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

/**
 * Life of a rank as it says itself. 'closed' waits for the others to be through as well and listens to them; 'leaving' knows that
 * all are, and enters MPI_Finalize as soon as all know; 'left' has gone without it, and nothing is to be sent to it any more.
 */
export const RANK_STATES = ['computing', 'waiting', 'closed', 'leaving', 'left'] as const;
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
const LOOKS = 5;
const TEXT_LENGTH = 6;
const HEADER_WORDS = 16;
const TEXT_BYTES = 2048;
/** What a rank says of itself, and what travels. */
const Said = { sequence: 0, operation: 1, bytes: 2, step: 3, state: 4 } as const;
const SAID = 5;
/** Both copies, then what this process found out by itself, then the number of the copy that is shown, counted up for ever. */
const Column = { heard: 2 * SAID, processState: 2 * SAID + 1, gone: 2 * SAID + 2, shown: 2 * SAID + 3 } as const;
const ROW = 2 * SAID + 4;

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
  /** The same memory, for the numbers of the copies. */
  readonly #rowWords: Int32Array<SharedArrayBuffer>;

  constructor(readonly buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer, 0, HEADER_WORDS);
    this.#text = new Uint8Array(buffer, 4 * HEADER_WORDS, TEXT_BYTES);
    this.#rows = new Float64Array(buffer, 4 * HEADER_WORDS + TEXT_BYTES);
    this.#rowWords = new Int32Array(buffer, 4 * HEADER_WORDS + TEXT_BYTES);
  }

  static create(size: number): StatusBoard {
    const board = new StatusBoard(new SharedArrayBuffer(4 * HEADER_WORDS + TEXT_BYTES + 8 * ROW * size));
    const now = monotonicMs();
    for (let rank = 0; rank < size; rank++) {
      board.setStep(rank, -1);
      board.#rows[rank * ROW + Column.heard] = now;
    }
    return board;
  }

  status(rank: number): RankStatus {
    const said = new Float64Array(SAID);
    this.copyRow(rank, said);
    const found = (column: number) => this.#rows[rank * ROW + column] as number;
    return {
      sequence: said[Said.sequence] as number,
      operation: OPERATIONS[said[Said.operation] as number] ?? 'none',
      bytes: said[Said.bytes] as number,
      step: said[Said.step] as number,
      state: RANK_STATES[said[Said.state] as number] ?? 'computing',
      heard: found(Column.heard),
      process: PROCESS_STATES[found(Column.processState)] ?? 'unknown',
      gone: found(Column.gone),
    };
  }

  /** A rank begins a collective. */
  begin(rank: number, sequence: number, operation: OperationName, bytes: number): void {
    this.#say(rank, (row, at) => {
      row[at + Said.sequence] = sequence;
      row[at + Said.operation] = OPERATIONS.indexOf(operation);
      row[at + Said.bytes] = bytes;
    });
  }

  setState(rank: number, state: RankState): void {
    this.#say(rank, (row, at) => {
      row[at + Said.state] = RANK_STATES.indexOf(state);
    });
  }

  setStep(rank: number, step: number): void {
    this.#say(rank, (row, at) => {
      row[at + Said.step] = step;
    });
  }

  /** What the rank says of itself, five numbers: what travels. */
  copyRow(rank: number, target: Float64Array): void {
    for (;;) {
      const shown = this.#shown(rank);
      const from = this.#copy(rank, shown);
      for (let column = 0; column < SAID; column++) target[column] = this.#rows[from + column] as number;
      if (this.#shown(rank) === shown) return;
    }
  }

  /** Takes over what a rank said of itself. */
  hear(rank: number, said: Float64Array): void {
    this.#say(rank, (row, at) => {
      for (let column = 0; column < SAID; column++) row[at + column] = said[column] as number;
    });
    this.#rows[rank * ROW + Column.heard] = monotonicMs();
  }

  #shown(rank: number): number {
    return Atomics.load(this.#rowWords, 2 * (rank * ROW + Column.shown));
  }

  /** Where a copy begins. */
  #copy(rank: number, number: number): number {
    return rank * ROW + (number & 1) * SAID;
  }

  /** Changes the copy that is not shown, which begins as the one that is, and shows it. */
  #say(rank: number, change: (row: Float64Array, at: number) => void): void {
    const shown = this.#shown(rank);
    const [from, to] = [this.#copy(rank, shown), this.#copy(rank, shown + 1)];
    this.#rows.copyWithin(to, from, from + SAID);
    change(this.#rows, to);
    Atomics.store(this.#rowWords, 2 * (rank * ROW + Column.shown), shown + 1);
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

  /** How often the watch thread has looked around, counted up for ever: stands still when that thread is held up. */
  get looks(): number {
    return Atomics.load(this.#words, LOOKS);
  }

  countLook(): void {
    Atomics.add(this.#words, LOOKS, 1);
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
