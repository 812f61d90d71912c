/**
 * A step of many workers, simulated: every worker computes, packs leave in their order as soon as their gradients are final, one after the
 * other through the network, and are applied as they arrive. Workers are in step, so the slowest counts: how much slower than the
 * median it is, is the mean of the largest of so many draws from the spread that was measured.
 */
import { type Algorithm, allReduceMs, type Network } from './collectives.js';

/** What a step on one worker is made of, in milliseconds from its beginning. */
export interface StepProfile {
  /** From the step's beginning to the end of backward: the median of the slowest replica. */
  readonly computeMs: number;
  /** Each gradient in the order in which it becomes final. */
  readonly gradients: readonly { readonly bytes: number; readonly atMs: number }[];
  /** Of all weights. */
  readonly updateMs: number;
  /** Each step's time of computing, divided by their median: of one replica. */
  readonly spread: readonly number[];
  /** Replicas of the worker. */
  readonly replicas: number;
}

export interface Cluster {
  readonly workers: number;
  /** Of each worker. */
  readonly replicas: number;
  readonly network: Network;
  readonly algorithm: Algorithm;
  readonly wire: 'f32' | 'bf16';
}

/** Where a step's time goes, in milliseconds: the parts add up to the step. */
export interface SimulatedStep {
  readonly stepMs: number;
  /** Computing, of the median worker. */
  readonly computeMs: number;
  /** What the slowest worker adds to that. */
  readonly stragglerMs: number;
  /** Latency and bandwidth, as far as computing does not hide them. */
  readonly latencyMs: number;
  readonly bandwidthMs: number;
  /** The update, as far as packs on their way do not hide it. */
  readonly updateMs: number;
}

/** Bytes of the reports that close a step. */
const REPORT_BYTES = 64;

/** @param packs so many equal ones, or the bytes of each in the order in which they leave, which add up to the gradients' */
export function simulateStep(profile: StepProfile, packs: number | readonly number[], cluster: Cluster): SimulatedStep {
  const { workers, replicas } = cluster;
  const slowest = slowestOf(profile.spread, workers * replicas) / slowestOf(profile.spread, profile.replicas);
  const computeMs = profile.computeMs;
  const scaled = {
    ...profile,
    computeMs: computeMs * slowest,
    gradients: profile.gradients.map(({ bytes, atMs }) => ({ bytes, atMs: atMs * slowest })),
  };
  const stepMs = run(scaled, packs, cluster);
  const noLatency = run(scaled, packs, { ...cluster, network: { ...cluster.network, latencyMs: 0 } });
  const noNetwork = run(scaled, packs, {
    ...cluster,
    network: { latencyMs: 0, bytesPerMs: Number.POSITIVE_INFINITY },
  });
  return {
    stepMs,
    computeMs,
    stragglerMs: computeMs * (slowest - 1),
    latencyMs: stepMs - noLatency,
    bandwidthMs: noLatency - noNetwork,
    updateMs: noNetwork - computeMs * slowest,
  };
}

function run(
  profile: StepProfile,
  sizes: number | readonly number[],
  { workers, network, algorithm, wire }: Cluster,
): number {
  const packs = packsOf(profile, sizes);
  const total = packs.reduce((sum, { bytes }) => sum + bytes, 0) || 1;
  // A report follows the last pack's start, and is there before anything is applied.
  let free = 0;
  let applied = profile.computeMs + allReduceMs('rank_order', workers, REPORT_BYTES, network) / 2;
  for (const { bytes, readyMs } of packs) {
    free = Math.max(free, readyMs) + allReduceMs(algorithm, workers, wire === 'bf16' ? bytes / 2 : bytes, network);
    applied = Math.max(applied, free) + (profile.updateMs * bytes) / total;
  }
  return applied;
}

/**
 * Packs in the order in which they leave: the gradients, in the order in which they are final, cut into equal parts or as `sizes` says; a
 * pack is ready with its last gradient.
 */
export function packsOf(
  { gradients, computeMs }: Pick<StepProfile, 'gradients' | 'computeMs'>,
  sizes: number | readonly number[],
): { readonly bytes: number; readonly readyMs: number }[] {
  const total = gradients.reduce((sum, { bytes }) => sum + bytes, 0);
  if (total === 0) return [];
  const bytesOf = typeof sizes === 'number' ? Array<number>(sizes).fill(total / sizes) : sizes;
  let [next, filled, readyMs, end] = [0, 0, 0, 0];
  return bytesOf.map((own) => {
    end += own;
    // Half a byte: where parts end is no exact number.
    while (next < gradients.length && filled < end - 0.5) {
      const { bytes, atMs } = gradients[next++] as { bytes: number; atMs: number };
      filled += bytes;
      readyMs = Math.max(readyMs, atMs);
    }
    return { bytes: own, readyMs: Math.min(readyMs, computeMs) };
  });
}

/** The mean of the largest of `count` draws from the measured values: each value counts with its chance to be that. */
export function slowestOf(values: readonly number[], count: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const size = sorted.length;
  if (size === 0) return 1;
  return sorted.reduce((sum, value, i) => sum + value * (((i + 1) / size) ** count - (i / size) ** count), 0);
}
