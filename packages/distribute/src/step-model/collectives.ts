/**
 * How long a sum over workers takes, by the model of Thakur, Rabenseifner and Gropp ("Optimization of Collective Communication Operations
 * in MPICH", 2005): a message of S bytes takes α + S/β, every worker sends and receives at once, and adding up is free.
 *
 *     ring              2(n−1)·α + 2(n−1)/n · S/β       as many messages as there are workers, of a part each
 *     rank_order        2·α      + 2(n−1)/n · S/β       every worker gets its part from all at once, adds in rank order, and sends it to all
 *     recursive_doubling  ⌈log₂ n⌉ · (α + S/β)          what Open MPI takes for short messages
 */

/** A network between any two workers. */
export interface Network {
  /** α, in milliseconds. */
  readonly latencyMs: number;
  /** β, in bytes a millisecond; infinite is allowed. */
  readonly bytesPerMs: number;
}

export const ALGORITHMS = ['rank_order', 'ring', 'open_mpi'] as const;
export type Algorithm = (typeof ALGORITHMS)[number];

/** Open MPI's own choice changes here, in bytes (coll/tuned, fixed decisions). */
const SHORT_BYTES = 10_000;

/** Milliseconds of one all-reduce of `bytes` between `workers`; 0 for one. */
export function allReduceMs(algorithm: Algorithm, workers: number, bytes: number, network: Network): number {
  if (workers === 1 || bytes === 0) return 0;
  const { latencyMs, bytesPerMs } = network;
  const parts = (2 * (workers - 1) * bytes) / workers / bytesPerMs;
  switch (algorithm) {
    case 'rank_order':
      return 2 * latencyMs + parts;
    case 'ring':
      return 2 * (workers - 1) * latencyMs + parts;
    case 'open_mpi':
      return bytes <= SHORT_BYTES
        ? Math.ceil(Math.log2(workers)) * (latencyMs + bytes / bytesPerMs)
        : 2 * (workers - 1) * latencyMs + parts;
  }
}

/**
 * α and β of measured all-reduces by least squares on the time in proportion, so that short messages count as much as long ones: every
 * measurement is one algorithm's, between the same workers. Times that do not grow with the bytes make β infinite.
 * @throws RangeError for fewer than two sizes
 */
export function fitNetwork(
  algorithm: Exclude<Algorithm, 'open_mpi'>,
  workers: number,
  measured: readonly { readonly bytes: number; readonly ms: number }[],
): Network {
  if (new Set(measured.map(({ bytes }) => bytes)).size < 2) {
    throw new RangeError('A latency and a bandwidth need all-reduces of two sizes at least.');
  }
  // time = a·α + b·(1/β): each row divided by the time, so that the right-hand side is 1.
  const messages = algorithm === 'ring' ? 2 * (workers - 1) : 2;
  let [aa, ab, bb, a1, b1] = [0, 0, 0, 0, 0];
  for (const { bytes, ms } of measured) {
    const a = messages / ms;
    const b = (2 * (workers - 1) * bytes) / workers / ms;
    aa += a * a;
    ab += a * b;
    bb += b * b;
    a1 += a;
    b1 += b;
  }
  const determinant = aa * bb - ab * ab;
  const latencyMs = (a1 * bb - b1 * ab) / determinant;
  const inverse = (aa * b1 - ab * a1) / determinant;
  // Neither can be negative: at such a bound the other one is fitted alone.
  if (latencyMs < 0) return { latencyMs: 0, bytesPerMs: bb / b1 };
  if (inverse <= 0) return { latencyMs: a1 / aa, bytesPerMs: Number.POSITIVE_INFINITY };
  return { latencyMs, bytesPerMs: 1 / inverse };
}
