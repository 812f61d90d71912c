/** A run on clusters of several sizes: for each the best number of packs, and what it comes to. */
import {
  ALGORITHMS,
  type Algorithm,
  choosePacks,
  type Network,
  type PackCut,
  type PackOption,
  type SimulatedStep,
  type StepProfile,
} from '@lockstep/distribute/step-model';

export interface PlanOptions {
  readonly profile: StepProfile;
  /** Images of each worker's step. */
  readonly batchSize: number;
  readonly network: Network;
  readonly workers: readonly number[];
  readonly algorithms?: readonly Algorithm[];
  /** Ways of cutting gradients; default: all that are worth a try. */
  readonly cuts?: readonly PackCut[];
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
  /** The best; null: the strategy's own, by size, which is best without --num_packs. */
  readonly numPacks: number | null;
  readonly imagesPerSecond: number;
  /** Images per second, divided by those of so many workers without a network. */
  readonly efficiency: number;
  readonly limit: 'compute' | 'latency' | 'bandwidth' | 'stragglers';
  readonly hours: number | null;
  readonly cost: number | null;
}

/** Steps that differ by less are equally long. */
const TIE = 1e-3;
/** So much of a step, lost to one thing, is what limits it. */
const LIMITING = 0.05;

/** A row for each number of workers: the fastest algorithm, wire and number of packs. */
export function plan(options: PlanOptions): PlanRow[] {
  const { profile, batchSize, workers, images, pricePerHour } = options;
  const alone = best(options, 1).step.stepMs;
  return workers.map((count) => {
    const { step, cut, algorithm, wire } = best(options, count);
    const numPacks = cut === 'by_size' ? null : cut;
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

interface Choice extends PackOption {
  readonly algorithm: Algorithm;
  readonly wire: 'f32' | 'bf16';
}

function best(options: PlanOptions, workers: number): Choice {
  const { profile, network, algorithms = ALGORITHMS, wires = ['f32'], cuts } = options;
  const choices = wires.flatMap((wire) =>
    algorithms.map((algorithm) => {
      const cluster = { workers, replicas: profile.replicas, network, algorithm, wire };
      return { ...(choosePacks(profile, cluster, cuts)[0] as PackOption), algorithm, wire };
    }),
  );
  // Of equal ones the first counts.
  return choices.reduce((least, one) => (one.step.stepMs < least.step.stepMs * (1 - TIE) ? one : least));
}

function limitOf({ stepMs, latencyMs, bandwidthMs, stragglerMs }: SimulatedStep): PlanRow['limit'] {
  const losses = { latency: latencyMs, bandwidth: bandwidthMs, stragglers: stragglerMs } as const;
  const [name, loss] = Object.entries(losses).toSorted((a, b) => b[1] - a[1])[0] as [keyof typeof losses, number];
  return loss > LIMITING * stepMs ? name : 'compute';
}
