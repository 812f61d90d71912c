/**
 * In how many packs gradients travel best: every way of cutting them is simulated, and the fastest counts. `lockstep plan` asks before there
 * is a cluster, `--num_packs=auto` when a run has made some steps.
 */
import { taperedBounds } from '../cross-device-ops/pack-bounds.js';
import { type Cluster, type SimulatedStep, type StepProfile, simulateStep } from './simulate.js';

/** How gradients are cut: into so many equal parts, or by size (see cross-device-ops/pack-bounds.ts). */
export type PackCut = number | 'by_size';

/** A cut and what a step comes to with it. */
export interface PackOption {
  readonly cut: PackCut;
  /** Packs that it makes. */
  readonly numPacks: number;
  readonly step: SimulatedStep;
}

/** Equal parts that are tried: each number half as many again as the one before. */
export const NUM_PACKS: readonly number[] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/** Of steps that are equally long but for this, fewer packs are better: each costs processor time, which the model does not count. */
const TIE = 0.01;
const F32_BYTES = 4;

/**
 * All that is tried, the best first.
 * @param profile gradients in the order in which they are final, the last variables' first
 * @param cuts what is tried; 'by_size' counts where it makes several packs
 */
export function choosePacks(
  profile: StepProfile,
  cluster: Cluster,
  cuts: readonly PackCut[] = [...NUM_PACKS, 'by_size'],
): PackOption[] {
  const bytes = profile.gradients.reduce((sum, one) => sum + one.bytes, 0);
  const bounds = taperedBounds(Math.round(bytes / F32_BYTES));
  const tapered = bounds
    .slice(1)
    .map((end, i) => F32_BYTES * (end - (bounds[i] as number)))
    .reverse();
  const options = cuts.flatMap((cut) => {
    const sizes = cut === 'by_size' ? tapered : Array<number>(cut).fill(bytes / cut);
    // One pack is one pack.
    if (cut === 'by_size' && sizes.length === 1) return [];
    return [{ cut, numPacks: sizes.length, step: simulateStep(profile, sizes, cluster) }];
  });
  const fastest = Math.min(...options.map(({ step }) => step.stepMs));
  const isTie = (option: PackOption) => option.step.stepMs <= fastest * (1 + TIE);
  const inOrder = (a: PackOption, b: PackOption) =>
    isTie(a) && isTie(b) ? a.numPacks - b.numPacks : a.step.stepMs - b.step.stepMs;
  return options.toSorted(inOrder);
}
