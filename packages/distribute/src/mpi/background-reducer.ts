/**
 * All-reduces that go on by themselves: hands them to a communication thread, which it starts, and says how they stand.
 *
 * One thread of a process uses it, the one that issues collectives. Buffers have to be shared memory. It waits for nothing:
 * whoever waits also looks at the other ranks (MpiCommunicator), and ends the wait when one of them is lost.
 */
import { MessageChannel, receiveMessageOnPort, type Worker } from 'node:worker_threads';
import { type Buffer, CommunicatorError } from '../communicator/communicator.js';
import { type AllReduceJob, mostUnderWay } from './all-reduce/start.js';
import {
  BEATS,
  type CommunicationData,
  type Failure,
  FIRST_SLOT,
  HAS_ENDED,
  IS_AWAITED,
  ORDERS,
  type Order,
  SlotState,
} from './communication-protocol.js';
import type { MpiGroupHandle } from './group-handle.js';
import { startThread } from './start-thread.js';

const SLOTS = 1024;
/** Silence between two looks counts as no more: a process that was stopped has seen nothing, and so has its thread. */
const LOOK_MS = 100;

/** See the file's head. */
export class BackgroundReducer {
  readonly #words = new Int32Array(new SharedArrayBuffer(4 * (FIRST_SLOT + SLOTS)));
  readonly #free: number[];
  readonly #port;
  readonly #thread: Worker;
  readonly #failures = new Map<number, string>();
  readonly #silenceMs: number;
  #beats = 0;
  #silentMs = 0;
  #lastLook = 0;

  constructor({ rank, size, collectives, board, silenceMs }: MpiGroupHandle) {
    this.#silenceMs = silenceMs;
    const slots = Math.min(SLOTS, mostUnderWay(size));
    this.#free = Array.from({ length: slots }, (_, i) => slots - 1 - i);
    const channel = new MessageChannel();
    const data: CommunicationData = { rank, size, comm: collectives, board, words: this.#words, port: channel.port2 };
    this.#port = channel.port1;
    this.#port.unref();
    this.#thread = startThread('communication-thread', 'mpi communication', data, [channel.port2]);
  }

  /** @returns the slot to ask about; −1 if too many are under way. */
  start(buffer: Buffer, job: AllReduceJob, tag: number): number {
    const slot = this.#free.pop();
    if (slot === undefined) return -1;
    Atomics.store(this.#words, FIRST_SLOT + slot, SlotState.underWay);
    this.#port.postMessage({ slot, buffer, tag, ...job } satisfies Order);
    Atomics.add(this.#words, ORDERS, 1);
    Atomics.notify(this.#words, ORDERS);
    return slot;
  }

  /** True once: the slot is free then. @throws CommunicatorError if the all-reduce failed, or the thread is gone. */
  isDone(slot: number): boolean {
    const state = Atomics.load(this.#words, FIRST_SLOT + slot);
    if (state === SlotState.underWay) {
      this.#checkThread();
      return false;
    }
    if (state === SlotState.failed) throw new CommunicatorError(this.#failureOf(slot));
    this.#free.push(slot);
    return true;
  }

  /** Around a wait for one of them: the thread looks more often then. */
  setAwaited(isAwaited: boolean): void {
    Atomics.store(this.#words, IS_AWAITED, isAwaited ? 1 : 0);
    if (!isAwaited) return;
    Atomics.add(this.#words, ORDERS, 1);
    Atomics.notify(this.#words, ORDERS);
  }

  /** Ends the thread. What is under way stays where it is. */
  close(): void {
    void this.#thread.terminate();
  }

  #checkThread(): void {
    if (Atomics.load(this.#words, HAS_ENDED) === 1) {
      throw new CommunicatorError(`The communication thread ended: ${this.#failureOf(-1)}`);
    }
    const now = performance.now();
    const beats = Atomics.load(this.#words, BEATS);
    this.#silentMs = beats === this.#beats ? this.#silentMs + Math.min(LOOK_MS, now - this.#lastLook) : 0;
    this.#lastLook = now;
    this.#beats = beats;
    if (this.#silentMs <= this.#silenceMs) return;
    const what = beats === 0 ? 'did not start' : 'stopped';
    throw new CommunicatorError(
      `The communication thread ${what}: nothing was heard of it for ${Math.round(this.#silentMs / 1000)} s.\n` +
        'help: look for an error of a worker thread above, and for memory that ran out.',
    );
  }

  #failureOf(slot: number): string {
    for (let found = receiveMessageOnPort(this.#port); found; found = receiveMessageOnPort(this.#port)) {
      const { slot: failed, text } = found.message as Failure;
      this.#failures.set(failed, text);
    }
    return this.#failures.get(slot) ?? 'The communication thread failed.';
  }
}
