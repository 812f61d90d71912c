/** A run on clusters of several sizes: for each the best number of packs, and what it comes to. */
import { ALGORITHMS, type Algorithm, type Network } from './collectives.js';
import { type SimulatedStep, simulateStep } from './simulate.js';
import type { StepProfile } from './step-profile.js';

export interface PlanOptions {
  readonly profile: StepProfile;
  /** Images of each worker's step. */
  readonly batchSize: number;
  readonly network: Network;
  readonly workers: readonly number[];
  readonly algorithms?: readonly Algorithm[];
  readonly wires?: readonly ('f32' | 'bf16')[];
  /** Of the whole run; null: none is asked for. */
  readonly images: number | null;
  /** Of one worker; null: costs are not asked for. */
  readonly pricePerHour: number | null;
}

export interface PlanRow extends SimulatedStep {
  readonly workers: number;
  readonly replicas: number;
  readonly algorithm: Algorithm;
  readonly wire: 'f32' | 'bf16';
  readonly numPacks: number;
  readonly imagesPerSecond: number;
  /** Images per second, divided by those of so many workers without a network. */
  readonly efficiency: number;
  readonly limit: 'compute' | 'latency' | 'bandwidth' | 'stragglers';
  readonly hours: number | null;
  readonly cost: number | null;
}

/** Numbers of packs that are tried: each half as many again as the one before. */
export const PACKS: readonly number[] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/** Of steps that are equally long but for this, fewer packs are better: each costs something that no model knows. */
const TIE = 1e-3;
/** So much of a step, lost to one thing, is what limits it. */
const LIMITING = 0.05;

/** A row for each number of workers: the fastest algorithm, wire and number of packs. */
export function plan(options: PlanOptions): PlanRow[] {
  const { profile, batchSize, workers, images, pricePerHour } = options;
  const alone = best(options, 1).step.stepMs;
  return workers.map((count) => {
    const { step, numPacks, algorithm, wire } = best(options, count);
    const perSecond = (1000 * count * batchSize) / step.stepMs;
    const hours = images === null ? null : images / perSecond / 3600;
    return {
      ...{ workers: count, replicas: profile.replicas, algorithm, wire, numPacks },
      ...step,
      imagesPerSecond: perSecond,
      efficiency: alone / step.stepMs,
      limit: limitOf(step),
      hours,
      cost: hours === null || pricePerHour === null ? null : hours * pricePerHour * count,
    };
  });
}

interface Choice {
  readonly step: SimulatedStep;
  readonly numPacks: number;
  readonly algorithm: Algorithm;
  readonly wire: 'f32' | 'bf16';
}

function best(options: PlanOptions, workers: number): Choice {
  const { profile, network, algorithms = ALGORITHMS, wires = ['f32'] } = options;
  let found: Choice | null = null;
  for (const wire of wires) {
    for (const algorithm of algorithms) {
      for (const numPacks of PACKS) {
        const step = simulateStep(profile, numPacks, {
          ...{ workers, replicas: profile.replicas, network, algorithm, wire },
        });
        if (found === null || step.stepMs < found.step.stepMs * (1 - TIE)) found = { step, numPacks, algorithm, wire };
      }
    }
  }
  return found as Choice;
}

function limitOf({ stepMs, latencyMs, bandwidthMs, stragglerMs }: SimulatedStep): PlanRow['limit'] {
  const losses = { latency: latencyMs, bandwidth: bandwidthMs, stragglers: stragglerMs } as const;
  const [name, loss] = Object.entries(losses).toSorted((a, b) => b[1] - a[1])[0] as [keyof typeof losses, number];
  return loss > LIMITING * stepMs ? name : 'compute';
}
