/*
 * Learning-rate schedules of the official ResNet: the step schedule with optional warm-up (upstream's
 * resnet_run_loop.learning_rate_with_decay) and the polynomial one that goes with LARS. Both are pure functions of the
 * global step; the optimizer is elsewhere.
 */

/** Learning rate at a global step (0 is the first step). */
export type LearningRateSchedule = (globalStep: number) => number;

/** What learningRateWithDecay needs. */
export interface DecayOptions {
  /** Global batch over all workers: flag batch_size times number of workers. */
  batchSize: number;
  /** The batch for which baseLr was found; the rate grows in proportion to batchSize / batchDenom. */
  batchDenom: number;
  /** Training images of the data set. */
  numImages: number;
  /** Epochs at which the rate changes, ascending. */
  boundaryEpochs: readonly number[];
  /** Factors on the initial rate: one before the first boundary and one after each. */
  decayRates: readonly number[];
  /** Default 0.1. */
  baseLr?: number;
  /** Grow linearly from 0 over the first five epochs; default false. */
  warmup?: boolean;
}

const WARMUP_EPOCHS = 5;

/** Constants of a data set's recipe: schedule, momentum and weight decay. */
export interface TrainingRecipe extends Omit<DecayOptions, 'batchSize'> {
  momentum: number;
  /** Used in place of the flag weight_decay where not null. */
  weightDecay: number | null;
}

/** CIFAR-10: every trainable variable is decayed, batch norm's too. */
export const CIFAR10_RECIPE = {
  batchDenom: 128,
  numImages: 50_000,
  boundaryEpochs: [91, 136, 182],
  decayRates: [1, 0.1, 0.01, 0.001],
  baseLr: 0.1,
  warmup: false,
  momentum: 0.9,
  weightDecay: 2e-4,
} as const satisfies TrainingRecipe;

/** ImageNet: batch norm's variables are not decayed; the coefficient is the flag's. */
export const IMAGENET_RECIPE = {
  batchDenom: 256,
  numImages: 1_281_167,
  boundaryEpochs: [30, 60, 80, 90],
  decayRates: [1, 0.1, 0.01, 0.001, 1e-4],
  baseLr: 0.128,
  warmup: true,
  momentum: 0.9,
  weightDecay: null,
} as const satisfies TrainingRecipe;

/** ImageNet with --fine_tune: no warm-up and a smaller rate. */
export const IMAGENET_FINE_TUNE_RECIPE = {
  ...IMAGENET_RECIPE,
  baseLr: 0.1,
  warmup: false,
} as const satisfies TrainingRecipe;

/**
 * A piecewise constant function with TensorFlow's rule: at a boundary itself the earlier value still holds.
 *
 * @throws RangeError unless there is exactly one value more than boundaries.
 */
export function piecewiseConstant(boundaries: readonly number[], values: readonly number[]): LearningRateSchedule {
  if (values.length !== boundaries.length + 1) {
    throw new RangeError(
      `A piecewise constant schedule with ${boundaries.length} boundaries has ${values.length} values. Give one value more than boundaries.`,
    );
  }
  return (step) => {
    const index = boundaries.findIndex((boundary) => step <= boundary);
    return values[index === -1 ? boundaries.length : index]!;
  };
}

/** The steps at which learningRateWithDecay changes: boundaries, and how many steps the warm-up takes (0: none). */
export function decaySteps(options: DecayOptions): { boundaries: number[]; warmupSteps: number } {
  requirePositive('batchSize', options.batchSize);
  requirePositive('batchDenom', options.batchDenom);
  requirePositive('numImages', options.numImages);
  const batchesPerEpoch = options.numImages / options.batchSize;
  return {
    boundaries: options.boundaryEpochs.map((epoch) => Math.trunc(batchesPerEpoch * epoch)),
    warmupSteps: options.warmup ? Math.trunc(batchesPerEpoch * WARMUP_EPOCHS) : 0,
  };
}

/**
 * The step schedule: baseLr · batchSize / batchDenom, multiplied by a decay rate after each boundary; with warm-up the
 * rate first grows in proportion to the step, from exactly 0.
 *
 * @throws RangeError for a batch, denominator or image count that is not positive, or a wrong number of rates.
 */
export function learningRateWithDecay(options: DecayOptions): LearningRateSchedule {
  const { baseLr = 0.1, batchSize, batchDenom, decayRates } = options;
  const { boundaries, warmupSteps } = decaySteps(options);
  const initial = (baseLr * batchSize) / batchDenom;
  const decayed = piecewiseConstant(
    boundaries,
    decayRates.map((rate) => initial * rate),
  );
  return (step) => (step < warmupSteps ? (initial * step) / warmupSteps : decayed(step));
}

const LARS_EPOCHS = 90;
const LARS_END_RATE = 1e-4;
const LARS_POWER = 2;

/** Peak rate and warm-up epochs of the LARS schedule by batch size. */
export function larsPeak(batchSize: number): { peak: number; warmupEpochs: number } {
  if (batchSize < 8192) return { peak: 5, warmupEpochs: 5 };
  if (batchSize < 16384) return { peak: 10, warmupEpochs: 5 };
  if (batchSize < 32768) return { peak: 25, warmupEpochs: 5 };
  return { peak: 32, warmupEpochs: 14 };
}

/**
 * The schedule that --enable_lars puts in place of the step schedule: linear warm-up to a peak that depends on the
 * batch, then quadratic decay to 1e-4 at epoch 90.
 *
 * @param options.flagBatchSize the flag batch_size, not multiplied by the workers (upstream's rule); chooses the peak.
 * @param options.batchSize global batch over all workers; gives the steps per epoch. Default: flagBatchSize.
 * @param options.numImages training images.
 */
export function larsSchedule(options: {
  flagBatchSize: number;
  batchSize?: number;
  numImages: number;
}): LearningRateSchedule {
  const { flagBatchSize, batchSize = flagBatchSize, numImages } = options;
  requirePositive('flagBatchSize', flagBatchSize);
  requirePositive('batchSize', batchSize);
  requirePositive('numImages', numImages);
  const { peak, warmupEpochs } = larsPeak(flagBatchSize);
  const batchesPerEpoch = numImages / batchSize;
  const warmupSteps = Math.trunc(warmupEpochs * batchesPerEpoch);
  const decayLength = LARS_EPOCHS * batchesPerEpoch - warmupSteps + 1;
  return (step) => {
    // With less than one warm-up step there is nothing to grow over: 0 / 0 otherwise.
    if (step <= warmupSteps && warmupSteps > 0) return (peak * step) / warmupSteps;
    const decayStep = Math.min(Math.max(1, step - warmupSteps), decayLength);
    return (peak - LARS_END_RATE) * (1 - decayStep / decayLength) ** LARS_POWER + LARS_END_RATE;
  };
}

function requirePositive(name: string, value: number): void {
  if (!(value > 0 && Number.isFinite(value))) {
    throw new RangeError(`${name} is ${value} in a learning-rate schedule. Give a positive number.`);
  }
}
