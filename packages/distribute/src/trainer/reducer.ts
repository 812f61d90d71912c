/**
 * SEAM: what becomes of a step's gradients once they lie in this replica's buffer. A reducer sums them over replicas and applies them,
 * here or elsewhere. It computes none, and knows no tensor. There are three: of replicas that share memory (flat-reducer.ts), between
 * processes (workers/), and with parameter servers (parameter-server/).
 */
import type { OptimizerConfig } from './optimizers/create.js';

/** A variable's place in the flat arrays. */
export interface FlatSegment {
  readonly name?: string;
  readonly offset: number;
  readonly length: number;
  /** weightDecay·w is added to the gradient. Default 0. */
  readonly weightDecay?: number;
}

/** Of the gradient averaged over replicas, before weight decay joins it; what is cut is the same on all of them. */
export type Clip =
  /** Every element to ±value. */
  | { readonly value: number }
  /** All gradients together to this length, as tf.clip_by_global_norm: g·bound ÷ max(‖g‖₂, bound). */
  | { readonly globalNorm: number };

/** What a trainer has laid out, and every reducer works on. */
export interface FlatLayout {
  /** In any order, not overlapping. */
  readonly segments: readonly FlatSegment[];
  readonly weights: Float32Array;
  /** The optimizer's, by name. */
  readonly slots: Readonly<Record<string, Float32Array>>;
  /** One array per replica of this process, in replica order. */
  readonly gradients: readonly Float32Array[];
  readonly optimizer: OptimizerConfig;
  readonly clip?: Clip;
}

export interface ReducerUpdate {
  readonly learningRate: number;
  /** The summed gradient is multiplied by it: 1 ÷ (replicas · loss scale) for a mean. */
  readonly gradientScale: number;
  /** Leave weights and slots alone if any summed gradient is not finite. Costs a pass more. */
  readonly skipNonFinite: boolean;
  /** False: the step's gradients are summed and looked at, and count for nothing. */
  readonly apply: boolean;
}

/** The same on all replicas in step, but for the time. */
export interface FinishResult {
  /** Whether every summed gradient was a finite number. */
  readonly finite: boolean;
  /** Whether weights were updated, or a server was told to. */
  readonly updated: boolean;
  /** Milliseconds of updating; the rest of `finish` is waiting and summing. */
  readonly updateMs: number;
}

/** What the chief learns of workers that are not in step. */
export interface GroupStatus {
  /** Other workers that have not ended. */
  readonly active: number;
  readonly lost: number;
  /** Made by all together. */
  readonly updates: number;
  /** How old gradients were when they were applied, in updates: on average, and at most. */
  readonly mean: number;
  readonly max: number;
}

/** See the file's head. In each step: begin, markReady for every segment, meet, then finish or abandon. */
export interface Reducer {
  /** Updates made so far, as far as it is known here. */
  readonly count: number;
  /** Numbers that belong into a checkpoint: `updates`, which is `count`, and what else there is to go on alike. */
  readonly scalars: Readonly<Record<string, number>>;
  /** Goes on where another reducer's `scalars` left off, on every replica; what is not named stays as it is. Whole numbers. */
  restore(scalars: Readonly<Record<string, number>>): void;
  /** Once: replica 0's weights, which the first replica of every process has filled in, become everybody's. Collective. */
  share(): void;
  begin(): void;
  /** The gradient of `segments[index]` is final in this replica's array for this step. Never waits. */
  markReady(index: number): void;
  /** Everybody's numbers (loss, gradients made, wish to stop), replica 0's first; good until the next call. Collective. */
  meet(report: ArrayLike<number>): Float64Array;
  /** After {@link meet}: this step's gradients count for nothing, and the next step may begin. Collective. */
  abandon(): void;
  /** After {@link meet}: on return weights and slots are new on every replica, unless they lie elsewhere. Collective. */
  finish(update: ReducerUpdate): FinishResult;
  /** As the trainer's pull, push and leave; on return from push this process' replicas see what one of them has written. */
  pull(): void;
  push(): void;
  leave(stop: boolean): GroupStatus | null;
}
