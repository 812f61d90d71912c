/** What `bench all_reduce` measures and how bandwidths follow from it: the definitions of nccl-tests. */
import { fitNetwork } from '@lockstep/distribute/step-model';
import { summarize } from './statistics.js';

/** One size of one algorithm. */
export interface AllReduceResult {
  readonly algorithm: string;
  /** Float32 elements of each rank's buffer. */
  readonly elements: number;
  readonly bytes: number;
  readonly ranks: number;
  readonly iterations: number;
  /** Median over iterations, the slowest rank's time in each. */
  readonly ms: number;
  /** Bytes of the buffer ÷ time (10⁹ bytes per second). */
  readonly algbw_gb_s: number;
  /** algbw · 2(n−1)/n: what a ring sends per rank, so that figures compare between numbers of ranks. */
  readonly busbw_gb_s: number;
}

/** @param samples Milliseconds of each iteration, for each rank. */
export function allReduceResult(
  algorithm: string,
  elements: number,
  samples: readonly (readonly number[])[],
): AllReduceResult {
  const ranks = samples.length;
  const slowest = (samples[0] ?? []).map((_, i) => Math.max(...samples.map((rank) => rank[i] as number)));
  const { median: ms } = summarize(slowest);
  const bytes = elements * Float32Array.BYTES_PER_ELEMENT;
  const algbw = ms > 0 ? bytes / 1e6 / ms : 0;
  return {
    algorithm,
    elements,
    bytes,
    ranks,
    iterations: slowest.length,
    ms,
    algbw_gb_s: algbw,
    busbw_gb_s: (algbw * 2 * (ranks - 1)) / ranks,
  };
}

/** Sizes of the table: 1 KB to 256 MB, each four times the one before. */
export const TABLE_ELEMENTS: readonly number[] = Array.from({ length: 10 }, (_, i) => 256 * 4 ** i);

/** Enough iterations to see through the noise, in a time that a table can wait for. */
export function iterationsFor(elements: number): number {
  return Math.min(200, Math.max(7, Math.round(2 ** 25 / Math.max(elements, 1))));
}

/**
 * Value `i` of `rank`'s buffer in the check before the timing: whole numbers, so that any order gives the exact sum,
 * i mod 61 · n(n+1)/2.
 */
export function checkValue(rank: number, i: number): number {
  return (i % 61) * (rank + 1);
}

/** @throws Error naming the first element that is not the sum over `ranks` of {@link checkValue}. */
export function checkSum(buffer: Float32Array, ranks: number, algorithm: string): void {
  const factor = (ranks * (ranks + 1)) / 2;
  const wrong = buffer.findIndex((value, i) => value !== (i % 61) * factor);
  if (wrong < 0) return;
  throw new Error(
    `${algorithm} is wrong: element ${wrong} of ${buffer.length} is ${buffer[wrong]}, not ${(wrong % 61) * factor}.`,
  );
}

/** Algorithms between processes that step-model/ has a formula of. */
export const FITTED = ['rank_order', 'ring'] as const;
type FittedAlgorithm = (typeof FITTED)[number];
/** What each algorithm's all-reduces say of the network; none where its times do not grow with the bytes. */
export type NetworkFit = Readonly<
  Partial<Record<FittedAlgorithm, { readonly latency_us: number; readonly bandwidth_gbit: number }>>
>;

/** The all-reduces of one algorithm that a network can be fitted to; none if there are not two sizes. */
function rowsToFit(results: readonly AllReduceResult[], name: FittedAlgorithm): readonly AllReduceResult[] {
  const rows = results.filter(({ algorithm, bytes }) => algorithm === name && bytes > 0);
  return rows.length > 1 ? rows : [];
}

export function fitOf(results: readonly AllReduceResult[], ranks: number): NetworkFit {
  const fits = FITTED.map((name) => [name, rowsToFit(results, name)] as const)
    .filter(([, rows]) => rows.length > 0)
    .map(([name, rows]) => [name, fitNetwork(name, ranks, rows)] as const)
    // JSON has no infinity, and no network has.
    .filter(([, { bytesPerMs }]) => Number.isFinite(bytesPerMs))
    .map(([name, { latencyMs, bytesPerMs }]) => [
      name,
      { latency_us: 1000 * latencyMs, bandwidth_gbit: (bytesPerMs * 1000 * 8) / 1e9 },
    ]);
  return Object.fromEntries(fits);
}

/** Algorithms that were measured for a fit, and that it does not have. */
export function notFitted(results: readonly AllReduceResult[], fit: NetworkFit): string[] {
  return FITTED.filter((name) => rowsToFit(results, name).length > 0 && !fit[name]);
}
