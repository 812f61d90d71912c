/**
 * A step of many workers, simulated: every worker computes, packs leave in their order as soon as their gradients are final, one after the
 * other through the network, and are applied as they arrive. Workers are in step, so the slowest counts: how much slower than the
 * median it is, is the mean of the largest of so many draws from the spread that was measured.
 */
import { type Algorithm, allReduceMs, type Network } from './collectives.js';
import type { StepProfile } from './step-profile.js';

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

export function simulateStep(profile: StepProfile, numPacks: number, cluster: Cluster): SimulatedStep {
  const { workers, replicas } = cluster;
  const slowest = slowestOf(profile.spread, workers * replicas) / slowestOf(profile.spread, profile.replicas);
  const computeMs = profile.computeMs;
  const scaled = {
    ...profile,
    computeMs: computeMs * slowest,
    gradients: profile.gradients.map(({ bytes, atMs }) => ({ bytes, atMs: atMs * slowest })),
  };
  const stepMs = run(scaled, numPacks, cluster);
  const noLatency = run(scaled, numPacks, { ...cluster, network: { ...cluster.network, latencyMs: 0 } });
  const noNetwork = run(scaled, numPacks, {
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

function run(profile: StepProfile, numPacks: number, { workers, network, algorithm, wire }: Cluster): number {
  const packs = packsOf(profile, numPacks);
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
 * Packs in the order in which they leave: the gradients, in the order in which they are final, cut into `numPacks` equal parts; a pack is
 * ready with its last gradient.
 */
export function packsOf(
  { gradients, computeMs }: Pick<StepProfile, 'gradients' | 'computeMs'>,
  numPacks: number,
): { readonly bytes: number; readonly readyMs: number }[] {
  const total = gradients.reduce((sum, { bytes }) => sum + bytes, 0);
  let [next, filled, readyMs] = [0, 0, 0];
  return Array.from({ length: total > 0 ? numPacks : 0 }, (_, pack) => {
    // Half a byte: where parts end is no exact number.
    const end = (total * (pack + 1)) / numPacks - 0.5;
    while (next < gradients.length && filled < end) {
      const { bytes, atMs } = gradients[next++] as { bytes: number; atMs: number };
      filled += bytes;
      readyMs = Math.max(readyMs, atMs);
    }
    return { bytes: total / numPacks, readyMs: Math.min(readyMs, computeMs) };
  });
}

/** The mean of the largest of `count` draws from the measured values: each value counts with its chance to be that. */
export function slowestOf(values: readonly number[], count: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const size = sorted.length;
  if (size === 0) return 1;
  return sorted.reduce((sum, value, i) => sum + value * (((i + 1) / size) ** count - (i / size) ** count), 0);
}
