/**
 * A few shared integers per group of replicas: who is where, and whether to stop.
 *
 * It moves no data and never blocks. The main thread reads it to say who is where when a group has to be stopped, and
 * writes one thing: the request to stop.
 */

/** Life of a replica. */
export const ReplicaState = { starting: 0, running: 1, finished: 2, failed: 3 } as const;
export type ReplicaStateName = keyof typeof ReplicaState;

const STOP_REQUESTED = 0;
const STOP_DECISION = 1;
const HEADER = 2;
/** Integers of one replica; a cache line apart, so that counting does not slow the neighbours. */
const STRIDE = 16;
const STATE = 0;
const STEPS = 1;
const COLLECTIVES = 2;
const WAITING = 3;

/** Where a replica is. */
export interface ReplicaProgress {
  readonly state: ReplicaStateName;
  /** Optimizer steps begun. */
  readonly steps: number;
  /** Collective operations begun. */
  readonly collectives: number;
  /** True inside a collective operation. */
  readonly isWaiting: boolean;
}

/** See the file's head. `buffer` crosses threads; every thread makes its own ControlBlock over it. */
export class ControlBlock {
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(readonly buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  static create(replicas: number): ControlBlock {
    return new ControlBlock(new SharedArrayBuffer(4 * (HEADER + STRIDE * (replicas + 1))));
  }

  /** Asks all replicas to stop at the next step at which they ask. */
  requestStop(): void {
    Atomics.store(this.#words, STOP_REQUESTED, 1);
  }

  /**
   * The answer to a replica's `call`-th question whether to stop (calls count from 1), the same on every replica.
   *
   * Whoever asks first decides for that call, and stopping is for ever. The decision word holds twice the last call decided, modulo
   * 2³², and 1 more if that was to stop. No replica waits for another.
   */
  shouldStop(call: number): boolean {
    const own = Math.imul(call, 2);
    for (;;) {
      const found = Atomics.load(this.#words, STOP_DECISION);
      const [decided, isStop] = [found & ~1, (found & 1) === 1];
      const ahead = (own - decided) | 0;
      if (isStop) return ahead >= 0;
      if (ahead <= 0) return false;
      const stop = Atomics.load(this.#words, STOP_REQUESTED) === 1;
      if (Atomics.compareExchange(this.#words, STOP_DECISION, found, stop ? own | 1 : own) === found) return stop;
    }
  }

  setState(replica: number, state: ReplicaStateName): void {
    Atomics.store(this.#words, HEADER + STRIDE * replica + STATE, ReplicaState[state]);
  }

  /** Counts a step that a replica begins. */
  beginStep(replica: number): void {
    Atomics.add(this.#words, HEADER + STRIDE * replica + STEPS, 1);
  }

  /** Counts a collective operation that a replica begins; {@link endCollective} follows when it is through. */
  beginCollective(replica: number): void {
    Atomics.add(this.#words, HEADER + STRIDE * replica + COLLECTIVES, 1);
    Atomics.store(this.#words, HEADER + STRIDE * replica + WAITING, 1);
  }

  endCollective(replica: number): void {
    Atomics.store(this.#words, HEADER + STRIDE * replica + WAITING, 0);
  }

  progress(replica: number): ReplicaProgress {
    const at = HEADER + STRIDE * replica;
    const names = Object.keys(ReplicaState) as ReplicaStateName[];
    return {
      state: names[Atomics.load(this.#words, at + STATE)] as ReplicaStateName,
      steps: Atomics.load(this.#words, at + STEPS),
      collectives: Atomics.load(this.#words, at + COLLECTIVES),
      isWaiting: Atomics.load(this.#words, at + WAITING) === 1,
    };
  }

  /** 'replica 0 finished after 9 steps; replica 1 is waiting in step 10'. */
  describe(replicas: number): string {
    return Array.from({ length: replicas }, (_, replica) => {
      const { state, steps, isWaiting } = this.progress(replica);
      if (state === 'finished' || state === 'failed')
        return `replica ${replica} ${state} after ${plural(steps, 'step')}`;
      if (state === 'starting') return `replica ${replica} is starting`;
      return `replica ${replica} is ${isWaiting ? 'waiting' : 'computing'} in step ${steps}`;
    }).join('; ');
  }
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
