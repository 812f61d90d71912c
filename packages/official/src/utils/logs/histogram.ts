/**
 * Histograms as TensorFlow makes them (core/lib/histogram/histogram.cc): buckets whose limits grow by a tenth, from 1e-12 to 1e20, the
 * same below zero, and the largest float as the last limit.
 */

/** tensorflow.HistogramProto. A bucket counts the values from the limit before (included) to its own. */
export interface Histogram {
  readonly min: number;
  readonly max: number;
  readonly num: number;
  readonly sum: number;
  readonly sumSquares: number;
  readonly limits: readonly number[];
  readonly counts: readonly number[];
}

const SMALLEST = 1e-12;
const LARGEST = 1e20;
const GROWTH = 1.1;

/** Limits above zero, in order. */
const POSITIVE: readonly number[] = limitsAboveZero();
const LIMITS: Float64Array = Float64Array.from([
  -Number.MAX_VALUE,
  ...POSITIVE.toReversed().map((limit) => -limit),
  0,
  ...POSITIVE,
  Number.MAX_VALUE,
]);

function limitsAboveZero(): number[] {
  const limits: number[] = [];
  for (let limit = SMALLEST; limit < LARGEST; limit *= GROWTH) limits.push(limit);
  return limits;
}

/**
 * Of values that are finite; others are left out. Runs of empty buckets are one.
 * @param scale values are multiplied by it
 */
export function histogramOf(values: Iterable<number>, scale = 1): Histogram {
  const counts = new Float64Array(LIMITS.length);
  let [min, max, num, sum, sumSquares] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0, 0];
  for (const unscaled of values) {
    const value = unscaled * scale;
    if (!Number.isFinite(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
    num++;
    sum += value;
    sumSquares += value * value;
    const bucket = bucketOf(value);
    counts[bucket] = (counts[bucket] as number) + 1;
  }
  const none = num === 0;
  return { ...{ min: none ? 0 : min, max: none ? 0 : max, num, sum, sumSquares }, ...compressed(counts) };
}

/** The first bucket whose limit is above the value. */
function bucketOf(value: number): number {
  let [low, high] = [0, LIMITS.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((LIMITS[middle] as number) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** As Histogram::EncodeToProto: of neighbouring empty buckets the last limit stays. */
function compressed(counts: Float64Array): Pick<Histogram, 'limits' | 'counts'> {
  const kept: { limit: number; count: number }[] = [];
  for (let i = 0; i < counts.length; i++) {
    const count = counts[i] as number;
    // Two empty ones side by side: the second one reaches as far.
    if (count === 0 && kept.at(-1)?.count === 0) kept.pop();
    kept.push({ limit: LIMITS[i] as number, count });
  }
  return { limits: kept.map(({ limit }) => limit), counts: kept.map(({ count }) => count) };
}
