/**
 * SEAM: an optimizer in the flat path. It is plain data (an OptimizerConfig, which crosses threads and processes) and, made of it, how one
 * piece of flat memory is updated. It knows no replicas, no packs and no variables but by their names; whoever applies gradients (the
 * reducers, a parameter server) asks nothing about its kind.
 *
 * A new one is a file beside this one, its loop in simd/updates/ and assembly/updates/ if it needs one of its own, a member of the
 * union in create.ts and a line there: the compiler names every place that does not know it.
 */
import { describe } from '../../describe.js';
import type { FlatKernels } from '../../simd/kernels.js';

/** Part of the flat arrays with one weight decay and one factor, as views made once. All have one length. */
export interface Piece {
  readonly weights: Float32Array;
  /** In the order of {@link FlatOptimizer.slots}. */
  readonly slots: readonly Float32Array[];
  /** Of all replicas, in their order; or the finished sum alone. */
  readonly gradients: readonly Float32Array[];
  /** decay·w is added to the gradient (AdamW: rate·decay·w is taken off the weight). */
  readonly weightDecay: number;
  /** The learning rate is multiplied by it: LARS' trust ratio; 1 otherwise. */
  readonly factor: number;
}

/** What is the same for every piece of a step. */
export interface StepNumbers {
  readonly learningRate: number;
  /** The summed gradient is multiplied by it: 1 ÷ (replicas · loss scale) for a mean. */
  readonly gradientScale: number;
  /** Updates made so far, this one included: 1 for the first. */
  readonly count: number;
}

/** Of one variable, before the update: what a factor depends on. */
export interface VariableNorms {
  readonly name: string;
  /** ‖w‖₂ */
  readonly weight: number;
  /** ‖g‖₂ of the mean gradient, the trainer's weight decay included and the optimizer's own not. */
  readonly gradient: number;
}

/** See the file's head. */
export interface FlatOptimizer {
  /** Arrays that it keeps beside the weights, laid out as they are. Their names are those of a checkpoint. */
  readonly slots: readonly string[];
  /** Whether its state depends on the number of updates, which then belongs into a checkpoint. */
  readonly counts: boolean;
  /**
   * Weight decay of the optimizer's own for a variable, which joins {@link Piece.weightDecay} and no norm. Absent: none.
   * @param name the variable's
   */
  ownDecay?(name: string): number;
  /**
   * A factor on the learning rate for each variable, from norms of finished sums. Absent: gradients may be applied in the pass that
   * sums them.
   */
  factors?(norms: readonly VariableNorms[]): Float64Array;
  /** Sum, mean, decay, update of one piece, in place. @returns whether every summed gradient was finite. */
  apply(kernels: FlatKernels, piece: Piece, step: StepNumbers): boolean;
}

/** @throws RangeError naming the optimizer, the number and what it must be. */
export function checkNumber(
  optimizer: string,
  name: string,
  value: unknown,
  isGood: (value: number) => boolean,
  what: string,
): void {
  if (typeof value === 'number' && Number.isFinite(value) && isGood(value)) return;
  throw new RangeError(`${optimizer}: ${name} must be ${what}, got ${describe(value)}.`);
}

/** @throws TypeError for what is neither true nor false. */
export function checkSwitch(optimizer: string, name: string, value: unknown): void {
  if (typeof value !== 'boolean')
    throw new TypeError(`${optimizer}: ${name} must be true or false, got ${describe(value)}.`);
}

/** For decay rates of running means: 0 ≤ value < 1. */
export const isRate = (value: number): boolean => value >= 0 && value < 1;
export const RATE = 'a number from 0 to below 1';
export const isNotNegative = (value: number): boolean => value >= 0;
export const NOT_NEGATIVE = 'a number that is not negative';
