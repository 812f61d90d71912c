/**
 * What must be known of a step's finished sums before any of them is applied: the factor that cuts gradients to a global norm, and a
 * factor for each variable (LARS).
 *
 * Norms are sums of squares in f64 over blocks of every variable that begin where it begins, added up in their order: the same bits for
 * every number of packs, of replicas and of threads. Replicas that share memory take turns at the blocks.
 */
import type { FlatKernels } from '../simd/kernels.js';
import type { FlatOptimizer, VariableNorms } from './optimizers/optimizer.js';
import type { Clip, FlatSegment } from './reducer.js';

/** Elements of a block: 256 KiB. */
const BLOCK = 65_536;

interface Block {
  readonly segment: number;
  readonly weights: Float32Array;
  readonly gradient: Float32Array;
  readonly weightDecay: number;
}

export interface UpdateFactorsOptions {
  readonly segments: readonly FlatSegment[];
  readonly weights: Float32Array;
  /** Where the finished sums lie. */
  readonly sum: Float32Array;
  readonly optimizer: FlatOptimizer;
  readonly clip: Clip | undefined;
  readonly kernels: FlatKernels;
  /** The replicas that see these arrays. */
  readonly group: { readonly rank: number; readonly size: number; barrier(): void };
  /** Memory that they share. Every thread must make the same allocations in the same order. */
  readonly allocateDoubles: (length: number) => Float64Array;
}

/** See the file's head. */
export class UpdateFactors {
  /** Whether sums have to be finished before the first is applied. */
  readonly needsSums: boolean;
  readonly #blocks: readonly Block[] = [];
  /** Of each block: gradient for clipping, weights, gradient as the optimizer sees it. */
  readonly #squares: readonly Float64Array[] = [];
  readonly #bound: number | null;

  constructor(private readonly options: UpdateFactorsOptions) {
    const { segments, weights, sum, clip, optimizer, allocateDoubles } = options;
    this.#bound = clip && 'globalNorm' in clip ? clip.globalNorm : null;
    this.needsSums = this.#bound !== null || optimizer.factors !== undefined;
    if (!this.needsSums) return;
    this.#blocks = segments.flatMap(({ offset, length, weightDecay = 0 }, segment) =>
      Array.from({ length: Math.ceil(length / BLOCK) }, (_, i) => {
        const [from, to] = [offset + i * BLOCK, offset + Math.min((i + 1) * BLOCK, length)];
        return { segment, weights: weights.subarray(from, to), gradient: sum.subarray(from, to), weightDecay };
      }),
    );
    this.#squares = [0, 1, 2].map(() => allocateDoubles(this.#blocks.length));
  }

  /**
   * After the sums are finished everywhere; nobody may change one before it returns. Collective in the group, if sums are needed.
   * @returns the scale with clipping in it, and the variables' factors; null if they have none.
   */
  of(gradientScale: number): { gradientScale: number; factors: Float64Array | null } {
    const scale = gradientScale * (this.#bound === null ? 1 : this.#clipFactor(gradientScale, this.#bound));
    const { factors } = this.options.optimizer;
    return { gradientScale: scale, factors: factors ? factors(this.#norms(scale)) : null };
  }

  #clipFactor(gradientScale: number, bound: number): number {
    const { kernels } = this.options;
    const [squares] = this.#squares as [Float64Array];
    this.#measure((block, i) => {
      squares[i] = kernels.sumSquares(block.gradient);
    });
    const norm = Math.sqrt(squares.reduce((sum, square) => sum + square, 0)) * gradientScale;
    return norm > bound ? bound / norm : 1;
  }

  #norms(gradientScale: number): VariableNorms[] {
    const { kernels, segments } = this.options;
    const [, weights, gradients] = this.#squares as [Float64Array, Float64Array, Float64Array];
    this.#measure((block, i) => {
      weights[i] = kernels.sumSquares(block.weights);
      gradients[i] = kernels.sumSquaresDecayed(block.gradient, block.weights, gradientScale, block.weightDecay);
    });
    const sums = segments.map(({ name = '' }) => ({ name, weight: 0, gradient: 0 }));
    for (const [i, { segment }] of this.#blocks.entries()) {
      const sum = sums[segment] as (typeof sums)[0];
      sum.weight += weights[i] as number;
      sum.gradient += gradients[i] as number;
    }
    return sums.map(({ name, weight, gradient }) => ({
      name,
      weight: Math.sqrt(weight),
      gradient: Math.sqrt(gradient),
    }));
  }

  #measure(measure: (block: Block, index: number) => void): void {
    const { rank, size } = this.options.group;
    for (let i = rank; i < this.#blocks.length; i += size) measure(this.#blocks[i] as Block, i);
    this.options.group.barrier();
  }
}

/** Of value clipping, in units of the sum; null without it. */
export function clipBound(clip: Clip | undefined, gradientScale: number): number | null {
  return clip && 'value' in clip ? clip.value / gradientScale : null;
}
