/**
 * Where flat memory is cut for an update: at the ends of runs with one weight decay, and of every variable where the optimizer has a
 * factor for each; and the update of what was cut. What reducers cut further, for cores and packs, changes no bit.
 */
import type { FlatKernels } from '../simd/kernels.js';
import type { FlatOptimizer, Piece, StepNumbers } from './optimizers/optimizer.js';
import type { FlatLayout, FlatSegment } from './reducer.js';

/** Part of the flat arrays that is updated with the same numbers. */
export interface Run {
  readonly start: number;
  readonly end: number;
  readonly weightDecay: number;
  /** Index of its segment, the first of several; −1 between segments. */
  readonly segment: number;
}

/** A piece, as views made once. */
export interface CutPiece {
  /** With the gradients of all replicas. */
  readonly summing: Piece;
  /** With the finished sum, in the first replica's array. */
  readonly summed: Piece;
  readonly segment: number;
}

/** The whole length in runs; between segments nothing decays. The optimizer's own weight decay is in them. */
export function cutRuns(segments: readonly FlatSegment[], total: number, optimizer: FlatOptimizer): Run[] {
  const runs: Run[] = [];
  const append = (end: number, weightDecay: number, segment: number) => {
    const last = runs.at(-1);
    const start = last?.end ?? 0;
    if (end <= start) return;
    if (last?.weightDecay === weightDecay && !optimizer.factors) runs[runs.length - 1] = { ...last, end };
    else runs.push({ start, end, weightDecay, segment });
  };
  const ordered = segments.map((segment, index) => ({ ...segment, index })).sort((a, b) => a.offset - b.offset);
  for (const { name = '', offset, length, weightDecay = 0, index } of ordered) {
    append(offset, 0, -1);
    append(offset + length, weightDecay + (optimizer.ownDecay?.(name) ?? 0), index);
  }
  append(total, 0, -1);
  return runs;
}

/** The pieces between two elements. */
export function cutPieces(
  runs: readonly Run[],
  from: number,
  to: number,
  { weights, slots, gradients }: Pick<FlatLayout, 'weights' | 'gradients'> & { slots: readonly Float32Array[] },
): CutPiece[] {
  return runs
    .filter(({ start, end }) => start < to && end > from)
    .map(({ start, end, weightDecay, segment }) => {
      const cut = (array: Float32Array) => array.subarray(Math.max(from, start), Math.min(to, end));
      const summing = {
        weights: cut(weights),
        slots: slots.map(cut),
        gradients: gradients.map(cut),
        weightDecay,
        factor: 1,
      };
      return { summing, summed: { ...summing, gradients: summing.gradients.slice(0, 1) }, segment };
    });
}

/**
 * Updates all pieces; every one that applies gradients does it so.
 * @param factors Of each segment, on the learning rate; null: none.
 * @param isSummed Whether the sums are finished; else they are taken in the same pass.
 * @returns whether every summed gradient was finite.
 */
export function updatePieces(
  optimizer: FlatOptimizer,
  kernels: FlatKernels,
  pieces: readonly CutPiece[],
  step: StepNumbers,
  factors: Float64Array | null,
  isSummed = true,
): boolean {
  let finite = true;
  for (const { summed, summing, segment } of pieces) {
    const piece = withFactor(isSummed ? summed : summing, factors, segment);
    finite = optimizer.apply(kernels, piece, step) && finite;
  }
  return finite;
}

/** Cuts finished sums off at ±bound. @returns whether they were finite: infinity would be cut off unseen. */
export function clipSum(kernels: FlatKernels, sum: Float32Array, bound: number): boolean {
  const finite = kernels.allFinite(sum);
  kernels.clip(sum, sum, bound);
  return finite;
}

/** The piece with its variable's factor. */
function withFactor(piece: Piece, factors: Float64Array | null, segment: number): Piece {
  return factors === null || segment < 0 ? piece : { ...piece, factor: factors[segment] as number };
}
