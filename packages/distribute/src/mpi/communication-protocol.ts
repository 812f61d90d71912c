/** What BackgroundReducer and its communication thread tell each other. No logic. */
import type { MessagePort } from 'node:worker_threads';
import type { Buffer } from '../communicator/communicator.js';
import type { AllReduceJob } from './all-reduce/start.js';
import type { Address } from './native/open-mpi.js';

/** What the thread is born with. */
export interface CommunicationData {
  readonly rank: number;
  readonly size: number;
  readonly comm: Address;
  readonly board: SharedArrayBuffer;
  /** Orders given, for waking up, and three more words (below); then one word per slot, see {@link SlotState}. */
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly port: MessagePort;
}

/** An all-reduce to carry out. */
export interface Order extends AllReduceJob {
  readonly slot: number;
  /** A view of shared memory. */
  readonly buffer: Buffer;
  readonly tag: number;
}

/** Why an all-reduce failed. Sent before its slot says so. */
export interface Failure {
  /** −1: all of them, because the thread has ended. */
  readonly slot: number;
  readonly text: string;
}

export const SlotState = { free: 0, underWay: 1, done: 2, failed: 3 } as const;
export const ORDERS = 0;
/** 1 while the thread that gave the orders waits for one: then latency counts, else the core that the two may share. */
export const IS_AWAITED = 1;
/** 1 when the thread has ended by an error, which it has sent before. */
export const HAS_ENDED = 2;
/** Counts up while the thread lives, at least a few times a second. */
export const BEATS = 3;
export const FIRST_SLOT = 4;
