/**
 * FlatTrainer: the one implementation of {@link Trainer}, under every strategy.
 *
 * All replicas of a process read ONE copy of the weights: each replica's variables are views of it, or copies where the backend's
 * tensors are copies. A gradient goes to its place in the replica's flat buffer as soon as backward has it and is freed there and
 * then; when it has landed its reducer is told, and does what the strategy does: sum packs that are full, send them on, apply them.
 * Weights are bit-identical on all replicas in step because there is one copy in a process and one order of summing between them.
 *
 * It trains with the optimizers of optimizers/. Any other one goes through `context.optimizer()`.
 */
import type * as tf from '@tensorflow/tfjs-core';
import type { Communicator } from '../communicator/communicator.js';
import { gatherValues } from '../communicator/gather.js';
import { type HostAccess, hostAccess } from '../devices/host-access.js';
import { checkSameVariables } from '../mirror/mirror.js';
import type { FlatMemory } from '../simd/flat-memory.js';
import { plainKernels } from '../simd/plain-kernels.js';
import { activeTrace } from '../trace/trace.js';
import { checkLearningRate, checkStep, checkTrainer } from './check-trainer.js';
import { FlatVariables, layOut } from './flat-variables.js';
import { LocalStepRunner, type Loss, type StepInput } from './local-step.js';
import { LossScale, type LossScaleState } from './loss-scale.js';
import { flatOptimizer } from './optimizers/create.js';
import type { FlatLayout, GroupStatus, Reducer } from './reducer.js';
import { StepReports } from './step-reports.js';
import type { GradientWatch, LearningRate, StepResult, Trainer, TrainerOptions, TrainerSegment } from './trainer.js';

/** What a trainer needs of its replica. */
export interface FlatTrainerParts {
  /** The replicas in step. */
  readonly communicator: Communicator;
  /** Those of this process, which share `memory`. */
  readonly local: { readonly rank: number; readonly size: number };
  readonly memory: FlatMemory;
  /** See {@link Trainer.isInStep}. */
  readonly isInStep: boolean;
  makeReducer(layout: FlatLayout): Reducer;
  /** Counts a step. */
  beginStep(): void;
  /** Where whether to stop is told with a step's exchange: whether this replica was asked to, and what was agreed on. */
  readonly stop?: { asked(): boolean; learn(stop: boolean): void } | undefined;
  /** Says a line once for all replicas. */
  warn(line: string): void;
}

/** A step whose gradients have been computed. */
interface BegunStep {
  readonly began: number;
  readonly rate: number;
  readonly lossScale: number;
  readonly inputs: readonly StepInput[] | undefined;
}

/** See the file's head. */
export class FlatTrainer implements Trainer {
  readonly weights: Float32Array;
  readonly slots: Readonly<Record<string, Float32Array>>;
  readonly segments: readonly TrainerSegment[];
  readonly isInStep: boolean;
  readonly #access: HostAccess;
  readonly #variables: FlatVariables;
  readonly #segmentOf: ReadonlyMap<tf.Variable, number>;
  readonly #decayRate: number;
  readonly #decayed: readonly TrainerSegment[];
  /** This replica's gradients, variable by variable. */
  readonly #gradients: readonly Float32Array[];
  /** Where each gradient lies before it is added to those of the calls before; of no use if nothing is added up. */
  readonly #scratch: readonly Float32Array[];
  readonly #reducer: Reducer;
  readonly #reports: StepReports;
  readonly #lossScale: LossScale;
  readonly #skipNonFinite: boolean;
  readonly #local: LocalStepRunner;
  readonly #accumulate: number;
  /** Calls whose gradients have been added up since the last update, and their losses. */
  #added = 0;
  #addedLoss = 0;
  /** 1 for each variable that has a gradient: in this call, and in any of those that are added up. */
  readonly #made: Uint8Array;
  readonly #produced: Uint8Array;
  #watch: GradientWatch | null = null;
  #hasToldMissing = false;
  #isUnderWay = false;

  constructor(
    variables: readonly tf.Variable[],
    options: TrainerOptions,
    private readonly parts: FlatTrainerParts,
  ) {
    checkTrainer(variables, options);
    const { optimizer, weightDecay, clip, accumulateSteps = 1, skipNonFinite = false } = options;
    const { communicator, local, memory } = parts;
    this.isInStep = parts.isInStep;
    this.#accumulate = accumulateSteps;
    this.#lossScale = new LossScale(options.lossScale);
    this.#skipNonFinite = skipNonFinite || this.#lossScale.isDynamic;
    if (this.#lossScale.isDynamic && !this.isInStep) {
      throw new Error(
        'With parameter servers the loss scale cannot be dynamic: workers are not in step, so there is no step to skip.\n' +
          'help: give a number, or use another strategy.',
      );
    }
    const gather = <T>(value: T) => gatherValues(communicator, value);
    checkSameVariables(variables, { communicator, replicas: communicator.size, gather });
    this.#access = hostAccess();
    this.#local = new LocalStepRunner(
      [...variables],
      (variable, gradient) => this.#take(variable, gradient),
      this.#access,
    );
    this.#segmentOf = new Map(variables.map((variable, i) => [variable, i]));
    this.segments = layOut(variables);
    this.#made = new Uint8Array(variables.length);
    this.#produced = new Uint8Array(variables.length);
    const rates = variables.map((variable) => (weightDecay?.applies(variable) ? weightDecay.rate : 0));
    this.#decayRate = weightDecay?.rate ?? 0;
    this.#decayed = this.segments.filter((_, i) => rates[i] !== 0);
    // Every thread of the process makes the same allocations in the same order: see FlatMemory.
    const elements = this.segments.reduce((total, { length }) => total + length, 0);
    this.weights = memory.allocate(elements);
    this.slots = Object.fromEntries(flatOptimizer(optimizer).slots.map((name) => [name, memory.allocate(elements)]));
    const gradients = memory.allocateEach(local.size, elements);
    const own = gradients[local.rank] as Float32Array;
    this.#gradients = this.segments.map(({ offset, length }) => own.subarray(offset, offset + length));
    const longest = accumulateSteps > 1 ? Math.max(...this.segments.map(({ length }) => length)) : 0;
    const scratch = memory.allocateEach(local.size, longest)[local.rank] as Float32Array;
    // Where a gradient need not have landed before the next one is read, each has a place of its own, known to this thread alone.
    this.#scratch = this.segments.map(({ length }) =>
      this.#access.aliases || longest === 0 ? scratch.subarray(0, length) : new Float32Array(length),
    );
    this.#reducer = parts.makeReducer({
      segments: this.segments.map(({ name, offset, length }, i) => ({
        ...{ name, offset, length },
        weightDecay: rates[i] as number,
      })),
      weights: this.weights,
      slots: this.slots,
      gradients,
      optimizer,
      ...(clip && { clip }),
    });
    this.#reports = new StepReports({
      segments: this.segments,
      gather,
      ...(communicator.size > local.size && { copies: copiesOf(this.weights, local) }),
    });
    this.#variables = new FlatVariables([...variables], this.segments, this.weights);
    // Replica 0's values become everybody's.
    if (local.rank === 0) this.#variables.fill();
    this.#reducer.share();
    this.#variables.bind();
  }

  step(
    loss: Loss,
    learningRate: LearningRate,
    inputs?: readonly StepInput[],
  ): Promise<StepResult> & Partial<StepResult> {
    if (this.#isUnderWay) {
      throw new Error(
        'trainer.step() was called while a step of this trainer is under way.\nhelp: await trainer.step(…) before the next one.',
      );
    }
    this.#isUnderWay = true;
    const end = () => {
      this.#isUnderWay = false;
    };
    let reading: void | Promise<void> | null = null;
    try {
      const step = this.#compute(loss, learningRate, inputs);
      reading = this.#access.settled();
      if (reading) return reading.then(() => this.#complete(step)).finally(end);
      // It is over, so whoever does not wait for it misses nothing.
      const result = this.#complete(step);
      return Object.assign(Promise.resolve(result), result);
    } catch (error) {
      // What is under way must not land in another step.
      reading = this.#access.settled();
      if (!reading) throw error;
      const fail = () => {
        throw error;
      };
      return reading.then(fail, fail).finally(end);
    } finally {
      if (!reading) end();
    }
  }

  /** Loss and gradients here, which may not have landed yet when it returns. */
  #compute(loss: Loss, learningRate: LearningRate, inputs: readonly StepInput[] | undefined): BegunStep {
    checkStep(loss, learningRate, inputs);
    this.#variables.check(REMEDY);
    const began = performance.now();
    this.parts.beginStep();
    if (this.#added === 0) {
      this.#reducer.begin();
      // Others may have changed the weights since.
      if (!this.isInStep) this.#variables.update();
    }
    const rate = this.#rateOf(learningRate);
    this.#made.fill(0);
    const lossScale = this.#lossScale.value;
    this.#local.run(loss, lossScale, inputs);
    return { began, rate, lossScale, inputs };
  }

  /** All gradients have landed: exchange and update. */
  #complete({ began, rate, lossScale, inputs }: BegunStep): StepResult {
    const local = this.#local;
    this.#completeGradients();
    const backwardDone = performance.now();
    activeTrace()?.passes(local.begin, local.forwardDone, backwardDone);
    const phasesUntil = (end: number, updateMs: number) => ({
      forward: local.forwardDone - local.begin,
      backward: backwardDone - local.forwardDone,
      reduce: local.begin - began + (end - backwardDone - updateMs),
      update: updateMs,
    });
    if (this.#added + 1 < this.#accumulate) {
      this.#added++;
      this.#addedLoss += local.loss;
      // Nobody was asked; the answer comes with the exchange of the last call.
      this.parts.stop?.learn(false);
      const finite = Number.isFinite(local.loss);
      const phases = phasesUntil(performance.now(), 0);
      return { loss: local.loss, localLoss: local.loss, finite, skipped: false, updated: false, lossScale, phases };
    }
    const own = {
      loss: (this.#addedLoss + local.loss) / this.#accumulate,
      stop: this.parts.stop?.asked() ?? false,
      produced: this.#produced,
      ...{ learningRate: rate, lossScale, inputs },
    };
    this.#added = 0;
    this.#addedLoss = 0;
    // Waits for all to be through with backward. Read before weights change.
    const reports = this.#reducer.meet(this.#reports.write(own));
    const met = performance.now();
    activeTrace()?.add('reduce', 'step', backwardDone, undefined, met);
    const { lossSum, stop } = this.#reports.read(reports, () => this.#reducer.abandon());
    this.parts.stop?.learn(stop);
    this.#tellMissing();
    const { size } = this.parts.communicator;
    const { finite, updated, updateMs } = this.#reducer.finish({
      learningRate: rate,
      gradientScale: 1 / (size * lossScale * this.#accumulate),
      skipNonFinite: this.#skipNonFinite,
      // All replicas know the loss by now, before anything has changed: a step without one changes nothing.
      apply: Number.isFinite(lossSum),
    });
    if (updated && this.isInStep) this.#variables.update();
    activeTrace()?.add('update', 'step', met);
    this.#produced.fill(0);
    const isMadeUpFor = this.#lossScale.settle(finite);
    return {
      loss: lossSum / size,
      localLoss: local.loss,
      finite: finite && Number.isFinite(lossSum),
      skipped: !finite && isMadeUpFor,
      updated,
      lossScale,
      phases: phasesUntil(performance.now(), updateMs),
    };
  }

  get scalars(): Readonly<Record<string, number>> {
    const { state } = this.#lossScale;
    return {
      ...this.#reducer.scalars,
      ...(state && { lossScale: state.value, goodSteps: state.goodSteps }),
    };
  }

  restore({ lossScale, goodSteps, ...others }: Readonly<Record<string, number>>): void {
    for (const [name, value] of Object.entries(others)) {
      if (Number.isSafeInteger(value) && value >= 0) continue;
      throw new RangeError(`${name} of a trainer's scalars must be a whole number, got ${value}.`);
    }
    this.#reducer.restore(others);
    if (lossScale !== undefined) this.#lossScale.restore({ value: lossScale, goodSteps: goodSteps ?? 0 });
  }

  get lossScaleState(): LossScaleState | null {
    return this.#lossScale.state;
  }

  restoreLossScale(state: LossScaleState): void {
    this.#lossScale.restore(state);
  }

  watchGradients(watch: GradientWatch | null): void {
    this.#watch = watch;
  }

  weightDecayLoss(): number {
    const { kernels } = this.parts.memory;
    let sum = 0;
    for (const { offset, length } of this.#decayed) {
      sum += kernels.sumSquares(this.weights.subarray(offset, offset + length));
    }
    return (this.#decayRate * sum) / 2;
  }

  checkMirrored(): void {
    this.#reports.check('now');
  }

  pull(): void {
    this.#reducer.pull();
    if (!this.isInStep) this.#variables.update();
  }

  push(): void {
    this.#reducer.push();
    this.#variables.update();
  }

  leave(stop: boolean): GroupStatus | null {
    return this.#reducer.leave(stop);
  }

  #rateOf(learningRate: LearningRate): number {
    if (typeof learningRate !== 'function') return learningRate;
    const rate = learningRate(this.#reducer.count);
    checkLearningRate(rate);
    return rate;
  }

  /** In replays of a recorded step the gradient is copied again, to the same place, and lands again. */
  #take(variable: tf.Variable, gradient: tf.Tensor): void {
    const index = this.#segmentOf.get(variable) as number;
    const target = this.#accumulate === 1 ? this.#gradients[index] : this.#scratch[index];
    this.#access.read(gradient, target as Float32Array, () => {
      this.#watch?.(this.segments[index] as TrainerSegment, target as Float32Array);
      if (this.#accumulate > 1) this.#add(index);
      this.#made[index] = 1;
      activeTrace()?.mark(variable.name, (target as Float32Array).byteLength);
      if (this.#added + 1 === this.#accumulate) this.#reducer.markReady(index);
    });
  }

  #add(index: number): void {
    const target = this.#gradients[index] as Float32Array;
    const gradient = this.#scratch[index] as Float32Array;
    const { kernels: own } = this.parts.memory;
    const kernels = own.accepts([gradient]) ? own : plainKernels;
    if (this.#added === 0) target.set(gradient);
    else kernels.sum(target, [target, gradient]);
  }

  /** A variable that the loss does not reach has a zero gradient; weight decay and momentum still act on it. */
  #completeGradients(): void {
    for (let index = 0; index < this.#made.length; index++) {
      if (this.#made[index] === 1) {
        this.#produced[index] = 1;
        continue;
      }
      if (this.#added === 0) (this.#gradients[index] as Float32Array).fill(0);
      if (this.#added + 1 === this.#accumulate) this.#reducer.markReady(index);
    }
  }

  #tellMissing(): void {
    if (this.#hasToldMissing || !this.#produced.includes(0)) return;
    this.#hasToldMissing = true;
    const names = this.segments.filter((_, i) => this.#produced[i] === 0).map(({ name }) => `'${name}'`);
    this.parts.warn(
      `The loss does not reach variable${names.length > 1 ? 's' : ''} ${names.slice(0, 3).join(', ')}` +
        `${names.length > 3 ? ` and ${names.length - 3} more` : ''}: its gradient counts as zero, and weight decay and momentum ` +
        'still move it.\nhelp: leave out of context.trainer() what is not to be trained. This is said once.',
    );
  }
}

const REMEDY =
  'write new values to trainer.weights, between steps and on one replica of each process, and call trainer.push(); or assign ' +
  'before making the trainer.';

/** All weights of the process, and this replica's part of them, which it compares with those of other processes. */
function copiesOf(weights: Float32Array, { rank, size }: { rank: number; size: number }) {
  const from = Math.floor((weights.length * rank) / size);
  const to = Math.floor((weights.length * (rank + 1)) / size);
  return { weights, part: weights.subarray(from, to), replicasPerCopy: size };
}
