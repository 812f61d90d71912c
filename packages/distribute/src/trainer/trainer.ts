/**
 * SEAM: a trainer, the fast path of a step. Weights, optimizer slots and gradients are flat arrays in shared memory; `context.trainer()`
 * makes one under every strategy, and whoever uses it need not know which strategy it is. FlatTrainer is the one implementation.
 */
import type * as tf from '@tensorflow/tfjs-core';
import type { Loss, StepInput } from './local-step.js';
import type { LossScaleOption, LossScaleState } from './loss-scale.js';
import type { OptimizerConfig } from './optimizers/create.js';
import type { Clip, GroupStatus } from './reducer.js';

/** A learning rate, or how it follows from the number of updates made so far: 0 in the first step. The same on all replicas. */
export type LearningRate = number | ((step: number) => number);

export interface TrainerOptions {
  /** Which update, with its constants: `{ kind: 'momentum', momentum: 0.9 }`, for instance. See trainer/optimizers/. */
  readonly optimizer: OptimizerConfig;
  /** Adds rate·w to the gradient of the variables that `applies` accepts: the gradient of rate·Σw²/2. */
  readonly weightDecay?: { rate: number; applies(variable: tf.Variable): boolean };
  /**
   * The loss is multiplied by it before backward, gradients are divided by it in the update. 'dynamic' finds the factor, and
   * skips steps whose gradients are not finite. Default 1.
   */
  readonly lossScale?: LossScaleOption;
  /**
   * Leave weights and slots as they were in a step whose summed gradients are not all finite, also with a fixed loss scale: a pass over the
   * gradients more, because nothing may be applied before all is known. A loss that is not finite is enough to leave them without it.
   * Default false.
   */
  readonly skipNonFinite?: boolean;
  /** Limits gradients. With parameter servers: the mean over one worker's replicas. Default: none. */
  readonly clip?: Clip;
  /**
   * Calls of `step` whose gradients are added up here before they are averaged and applied; what is applied is their mean. Only the last
   * of so many calls communicates and changes weights. Default 1.
   */
  readonly accumulateSteps?: number;
}

/** One variable's place in the flat buffers. */
export interface TrainerSegment {
  readonly name: string;
  /** First element. */
  readonly offset: number;
  /** Elements. */
  readonly length: number;
  readonly shape: readonly number[];
}

/** See {@link Trainer.watchGradients}. */
export type GradientWatch = (segment: TrainerSegment, gradient: Float32Array) => void;

/** Wall time of a step's parts, in milliseconds. */
export interface StepPhases {
  readonly forward: number;
  /** Backward, with the copying of gradients and whatever was reduced meanwhile. */
  readonly backward: number;
  /** Waiting for other replicas, workers or servers, and for packs not reduced yet. */
  readonly reduce: number;
  readonly update: number;
}

export interface StepResult {
  /**
   * Mean over the replicas in step of their losses, without weight decay: the same number on all. With `accumulateSteps` the mean of
   * the losses that were added up; in a call that only adds up, which nobody is told of, this replica's own.
   */
  readonly loss: number;
  /** This replica's loss. */
  readonly localLoss: number;
  /**
   * Whether the loss and every summed gradient were finite numbers: the same answer on all. Weights stay as they were if the loss was
   * not; if a gradient alone was not, they do so with `skipNonFinite` or a dynamic loss scale, which cost a pass over the gradients
   * in every step, and where norms of gradients are taken anyway (LARS, clipping by global norm).
   */
  readonly finite: boolean;
  /** Whether a dynamic loss scale left weights alone and was halved for it: not an error. The same answer on all. */
  readonly skipped: boolean;
  /** Whether gradients were applied, or sent to the servers that apply them: false in skipped steps and while gradients add up. */
  readonly updated: boolean;
  /** Factor by which this step's loss was multiplied. */
  readonly lossScale: number;
  readonly phases: StepPhases;
}

/** See the file's head. */
export interface Trainer {
  /**
   * All weights, in variable order, and what counts: variables are views of it, or copies where the backend's tensors are copies. Shared
   * by the replicas of this process; write to it only between steps, on one replica of each process, and call `push` then.
   */
  readonly weights: Float32Array;
  /** Optimizer state by name, each laid out as the weights: 'momentum', or nothing for SGD. */
  readonly slots: Readonly<Record<string, Float32Array>>;
  readonly segments: readonly TrainerSegment[];
  /** False where workers train on without each other (parameter servers). */
  readonly isInStep: boolean;
  /**
   * One step: `loss` and its gradients here, their mean over the replicas in step, the update. Collective. Await it before the next:
   * a device whose memory is not this process' is read without holding it up. Elsewhere the step is over when it returns: the promise has
   * the result's members, too, and errors are thrown, so that a loop without `await` is right there.
   *
   * @param loss The mean over this replica's batch, a scalar; must use the trainer's variables.
   * @param inputs The batch, if `loss` takes it as arguments: then the step is recorded where the backend can (see {@link Loss}).
   * @throws (or rejects with) TypeError, RangeError for what no step can be made of; Error while a step is under way; Error, the same on all
   * replicas, if they produced gradients of different variables, or have different learning rates, inputs or weights, naming who has what: no weight has changed then;
   * WorkerLostError if another process is lost.
   */
  step(loss: Loss, learningRate: LearningRate, inputs?: readonly StepInput[]): Promise<StepResult>;
  /**
   * Numbers that belong into a checkpoint beside the arrays: `updates` made so far, which Adam's correction and schedules depend on, and
   * of a dynamic loss scale `lossScale` and `goodSteps`; of packs that were chosen (`numPacks: 'auto'`) `numPacks`, 0 for those by size, and
   * `numPacksWorkers`, the number of workers that they were chosen for. The same on all replicas in step.
   */
  readonly scalars: Readonly<Record<string, number>>;
  /**
   * Goes on where another trainer's `scalars` left off; on every replica, before {@link push}. What is not named stays as it is.
   * @throws RangeError for what they cannot have been.
   */
  restore(scalars: Readonly<Record<string, number>>): void;
  /** Of `scalars`, the dynamic loss scale; null if it is fixed. */
  readonly lossScaleState: LossScaleState | null;
  /** {@link restore} of the loss scale alone. Without effect if it is fixed. */
  restoreLossScale(state: LossScaleState): void;
  /**
   * From now on each gradient of this replica is shown as soon as it is final, before it is summed: multiplied by the loss scale, of this
   * call alone where several add up, and valid until `watch` returns. For looking at them; null ends it.
   */
  watchGradients(watch: GradientWatch | null): void;
  /** rate · Σw²/2 over the variables that decay: what weight decay adds to the loss. In f64, for logs. */
  weightDecayLoss(): number;
  /** Before weights are saved: throws unless all processes have the same, naming the first variable that differs. Collective. */
  checkMirrored(): void;
  /** Chief: weights and slots become what counts, where that lies elsewhere (parameter servers). Collective within a process. */
  pull(): void;
  /**
   * Weights that one replica of this process has written become everybody's in it. Chief: weights and slots here become what counts, the
   * other way round than {@link pull}. Collective within a process.
   */
  push(): void;
  /**
   * Before the last save: the chief waits for those that are not in step. Collective within a process.
   * @param stop Asks them to stop at their next step.
   * @returns what they came to; null where all are in step, and on others than the chief.
   */
  leave(stop: boolean): GroupStatus | null;
}
