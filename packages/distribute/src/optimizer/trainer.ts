/**
 * Trainer: the fast path of a synchronous step. Weights, optimizer slots and gradients are flat buffers in shared memory.
 *
 * All replicas of a process read ONE copy of the weights: each replica's variables are views of it. A gradient goes to its
 * place in the replica's flat buffer as soon as backward has it and is freed there and then; a pack whose gradients are
 * final on all replicas is reduced; and one pass over the flat buffers sums, divides, decays and updates. Weights are
 * bit-identical on all replicas because there is one copy, and from run to run because the sum's order is fixed.
 *
 * It trains with the optimizers of trainer/optimizers/. Any other one goes through `context.optimizer()`.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { gatherValues } from '../communicator/gather.js';
import type { CrossDeviceOps } from '../cross-device-ops/cross-device-ops.js';
import { FlatReducer } from '../cross-device-ops/flat-reducer.js';
import { checkSameVariables } from '../mirror/mirror.js';
import type { ControlBlock } from '../replica/control-block.js';
import type { CountingCommunicator } from '../replica/counting-communicator.js';
import { copyValues, observe } from '../replica/tensor-values.js';
import { flatOptimizer, type OptimizerConfig } from '../trainer/optimizers/create.js';
import { checkStep, checkTrainer } from './check-trainer.js';
import { checkViews, fillWeights, layOut, viewWeights } from './flat-variables.js';
import { LocalStepRunner, type Loss, type StepInput } from './local-step.js';
import { LossScale, type LossScaleOption, type LossScaleState } from './loss-scale.js';
import { StepReports } from './step-reports.js';

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

/** Wall time of a step's parts, in milliseconds. */
export interface StepPhases {
  readonly forward: number;
  /** Backward, with the copying of gradients and whatever was reduced meanwhile. */
  readonly backward: number;
  /** Waiting for the other replicas and for packs not reduced yet. */
  readonly reduce: number;
  readonly update: number;
}

export interface StepResult {
  /** Mean over replicas of the replicas' losses, without weight decay: the same number on all. */
  readonly loss: number;
  /** This replica's loss. */
  readonly localLoss: number;
  /**
   * Whether the loss and every summed gradient were finite numbers: the same answer on all. In one process weights stay as
   * they were if the loss was not; if a gradient alone was not, they do so with a dynamic loss scale, which costs a pass over
   * the gradients in every step.
   */
  readonly finite: boolean;
  /** Whether a dynamic loss scale left weights alone and was halved for it: not an error. The same answer on all. */
  readonly skipped: boolean;
  /** Factor by which this step's loss was multiplied. */
  readonly lossScale: number;
  readonly phases: StepPhases;
}

/** What a trainer needs of its replica. */
export interface TrainerContext {
  readonly replica: number;
  readonly replicas: number;
  readonly communicator: CountingCommunicator;
  readonly crossDeviceOps: CrossDeviceOps;
  readonly control: ControlBlock;
}

/** See the file's head. */
export class Trainer {
  /** All weights, in variable order. Shared by the replicas of this process; write to it only between steps, on one replica. */
  readonly weights: Float32Array;
  /** Optimizer state by name, each laid out as the weights: 'momentum', or nothing for SGD. */
  readonly slots: Record<string, Float32Array>;
  readonly segments: readonly TrainerSegment[];
  readonly #variables: readonly tf.Variable[];
  readonly #segmentOf: ReadonlyMap<tf.Variable, number>;
  readonly #aliases: readonly object[];
  readonly #decayed: readonly TrainerSegment[];
  readonly #gradients: Float32Array;
  readonly #reducer: FlatReducer;
  readonly #produced: Uint8Array;
  readonly #reports: StepReports;
  readonly #lossScale: LossScale;
  readonly #local: LocalStepRunner;
  #updates = 0;

  constructor(
    variables: readonly tf.Variable[],
    private readonly options: TrainerOptions,
    private readonly context: TrainerContext,
  ) {
    checkTrainer(variables, options);
    this.#lossScale = new LossScale(options.lossScale);
    checkSameVariables(variables, {
      communicator: context.communicator,
      replicas: context.replicas,
      gather: (value) => gatherValues(context.communicator, value),
    });
    this.#variables = [...variables];
    this.#local = new LocalStepRunner(variables, (variable, gradient) => this.#take(variable, gradient));
    this.#segmentOf = new Map(variables.map((variable, i) => [variable, i]));
    this.segments = layOut(variables);
    const elements = this.segments.reduce((total, segment) => total + segment.length, 0);
    const { memory } = context.communicator.inner;
    this.weights = memory.allocate(elements);
    this.slots = {};
    for (const name of flatOptimizer(options.optimizer).slots) this.slots[name] = memory.allocate(elements);
    const gradients = memory.allocateEach(context.replicas, elements);
    this.#gradients = gradients[context.replica] as Float32Array;
    this.#aliases = this.#adopt();
    this.#produced = new Uint8Array(variables.length);
    const gather = <T>(value: T) => gatherValues(context.communicator, value);
    this.#reports = new StepReports({ segments: this.segments, gather });

    const { weightDecay } = options;
    const decays = variables.map((variable) => weightDecay?.applies(variable) ?? false);
    this.#decayed = this.segments.filter((_, i) => decays[i]);
    this.#reducer = new FlatReducer({
      communicator: context.communicator.inner,
      memory,
      crossDeviceOps: context.crossDeviceOps,
      segments: this.segments.map(({ name, offset, length }, i) => ({
        name,
        offset,
        length,
        weightDecay: decays[i] && weightDecay ? weightDecay.rate : 0,
      })),
      weights: this.weights,
      slots: this.slots,
      gradients,
      optimizer: options.optimizer,
    });
  }

  /**
   * One synchronous step: `loss` and its gradients here, their mean over replicas, the update. Collective.
   *
   * @param loss The mean over this replica's batch, a scalar; must use the trainer's variables.
   * @param inputs The batch, if `loss` takes it as arguments: then the step is recorded where the backend can (see {@link Loss}).
   * @throws TypeError, RangeError for what no step can be made of; Error, the same on all replicas, if they produced gradients of
   * different variables, or gave different learning rates or inputs, naming who has what. No weight has changed then.
   */
  step(loss: Loss, learningRate: number, inputs?: readonly StepInput[]): StepResult {
    checkStep(loss, learningRate, inputs);
    this.#checkAliases();
    this.context.control.beginStep(this.context.replica);
    this.#produced.fill(0);
    const lossScale = this.#lossScale.value;
    const { loss: localLoss, begin, forwardDone } = this.#local.run(loss, lossScale, inputs);
    for (const [segment, produced] of this.#produced.entries()) if (produced === 0) this.#zero(segment);
    const backwardDone = performance.now();
    const own = { loss: localLoss, produced: this.#produced, learningRate, lossScale, inputs };
    return this.context.communicator.counted(() => {
      // Waits for all to be through with backward. Read before weights change.
      const { lossSum } = this.#reports.read(this.#reducer.meet(this.#reports.write(own)), () =>
        this.#reducer.abandonStep(),
      );
      const met = performance.now();
      const loss = lossSum / this.context.replicas;
      // All replicas know the loss by now, before anything has changed: a step without one changes nothing, at no cost.
      const update = { learningRate, count: this.#updates + 1, lossScale, skipNonFinite: this.#lossScale.isDynamic };
      const { finite, updated, reduceMs, updateMs } = Number.isFinite(loss)
        ? this.#reducer.finishWithUpdate(update)
        : this.#reducer.finish();
      if (updated) this.#updates++;
      const isMadeUpFor = this.#lossScale.settle(finite);
      return {
        loss,
        localLoss,
        finite: finite && Number.isFinite(loss),
        skipped: !finite && isMadeUpFor,
        lossScale,
        phases: {
          forward: forwardDone - begin,
          backward: backwardDone - forwardDone,
          reduce: met - backwardDone + reduceMs,
          update: updateMs,
        },
      };
    });
  }

  /** What a dynamic loss scale has found so far, for a checkpoint; null if it is fixed. The same on all replicas. */
  get lossScaleState(): LossScaleState | null {
    return this.#lossScale.state;
  }

  /**
   * The loss scale goes on where another run's left off; call it on every replica. Without effect if it is fixed.
   * @throws RangeError for a state that no scale can have had.
   */
  restoreLossScale(state: LossScaleState): void {
    this.#lossScale.restore(state);
  }

  /** Without effect: here is one copy of the weights. */
  checkMirrored(): void {}

  /** rate · Σw²/2 over the variables that decay: what weight decay adds to the loss. Plain f64 sum, for logs. */
  weightDecayLoss(): number {
    let sum = 0;
    for (const { offset, length } of this.#decayed) {
      for (let i = offset; i < offset + length; i++) sum += (this.weights[i] as number) ** 2;
    }
    return ((this.options.weightDecay?.rate ?? 0) * sum) / 2;
  }

  #take(variable: tf.Variable, gradient: tf.Tensor): void {
    const index = this.#segmentOf.get(variable) as number;
    const { offset, length } = this.segments[index] as TrainerSegment;
    copyValues(gradient, this.#gradients.subarray(offset, offset + length));
    observe([], () => {
      this.#produced[index] = 1;
      this.#reducer.markReady(index);
    });
  }

  /** A variable that the loss does not reach has a zero gradient; weight decay and momentum still act on it. */
  #zero(index: number): void {
    const { offset, length } = this.segments[index] as TrainerSegment;
    this.#gradients.fill(0, offset, offset + length);
    this.#reducer.markReady(index);
  }

  /** Replica 0's values become everybody's, and every variable a view of the flat weights. */
  #adopt(): object[] {
    if (this.context.replica === 0) {
      fillWeights(this.#variables, this.segments, this.weights);
    }
    this.context.communicator.barrier();
    return viewWeights(this.#variables, this.segments, this.weights);
  }

  #checkAliases(): void {
    checkViews(
      this.#variables,
      this.#aliases,
      'write new values to trainer.weights, between steps and on one replica; or assign before making the trainer.',
    );
  }
}
