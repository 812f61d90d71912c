/**
 * The official recipe is made for 182 epochs of CIFAR-10. These fit two of its constants to a shorter run, so that what the network
 * has learned by the end is also what evaluation sees: where the learning rate falls, and how far back batch norm's averages reach.
 */
import { CIFAR10_RECIPE } from '@lockstep/official/resnet/lr-schedule';

/** What the official averages reach back: 1 / (1 − 0.997) steps. */
const OFFICIAL_SPAN = 1000 / 3;
/** Fewer batches than this make averages that are noisy, where a run has so many to spare. */
const QUIET_SPAN = 10;

/** The official boundaries, at 91 and 136 of 182 epochs, at the same parts of another number of epochs. */
export function scaledBoundaries(trainEpochs: number): number[] {
  const { boundaryEpochs } = CIFAR10_RECIPE;
  const official = boundaryEpochs.at(-1) as number;
  return boundaryEpochs.slice(0, -1).map((epoch) => Math.round((10 * trainEpochs * epoch) / official) / 10);
}

/**
 * Batch norm's decay for a run of so many steps: its averages reach back over a hundredth of them, but over ten batches if these are
 * no more than a tenth of the run, and never further than the official ones, whose weights move much less from step to step.
 * @returns in thousandths, 0 (the last batch alone) to 0.997.
 */
export function fittedDecay(steps: number): number {
  const span = Math.min(OFFICIAL_SPAN, Math.max(1, steps / 100, Math.min(QUIET_SPAN, steps / 10)));
  return Math.round(1000 * (1 - 1 / span)) / 1000;
}

/** How many steps averages of such a decay reach back. */
export function spanOf(decay: number): number {
  return Math.round(1 / (1 - decay));
}
