/**
 * What workers and parameter servers say to each other, over MPI's point-to-point messages.
 *
 * A request is a header of eight f64, for some kinds followed by data; so is a reply. A worker has one request under way with
 * each server (a push needs no reply, so the next request may follow at once); MPI keeps the order between two ranks, so a
 * worker's pull sees its own last push applied.
 */

import type { OptimizerConfig } from '../trainer/optimizers/create.js';

/** First number of a request's header. */
export const Kind = {
  /** Chief: [kind, bytes of the specification] + the specification as text (plain-values.ts). */
  specify: 1,
  /** Any worker: [kind]; reply [version, stop, finite, updates counted] + weights. Held back until the chief has written. */
  pull: 2,
  /** Any worker: [kind, version that was pulled, learning rate, gradient scale] + gradients. No reply. */
  push: 3,
  /** Chief: [kind]; reply [updates counted] + weights and slots. */
  read: 4,
  /** Chief: [kind, updates counted] + weights and slots; reply. */
  write: 5,
  /** Chief: [kind, stop]; reply [version, workers that go on, workers lost, updates, staleness summed, largest]. */
  status: 6,
  /** Other workers: [kind]; reply when the chief has ended the job. */
  done: 7,
  /** Chief: [kind]; reply; then the server ends. */
  end: 8,
} as const;

export const HEADER = 8;

export const Tag = { request: 1, requestData: 2, reply: 3, replyData: 4 } as const;

/** What a server must know of its part of the model. */
export interface ShardSpecification {
  /** Whole variables, so that an optimizer may take their norms. */
  readonly segments: readonly { readonly name: string; readonly length: number; readonly weightDecay: number }[];
  readonly optimizer: OptimizerConfig;
}

/** How old gradients were when they were applied: updates by others since their weights were pulled. */
export interface Staleness {
  readonly updates: number;
  readonly mean: number;
  readonly max: number;
}

/** Memory that native code may write to: it never moves. */
export function sharedFloats(length: number): Float32Array<SharedArrayBuffer> {
  return new Float32Array(new SharedArrayBuffer(4 * length));
}

export function sharedHeader(): Float64Array<SharedArrayBuffer> {
  return new Float64Array(new SharedArrayBuffer(8 * HEADER));
}
