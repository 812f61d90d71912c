/**
 * What every replica of the official ResNet runs, in a thread of its own: the model, the training steps, evaluation,
 * checkpoints. Every strategy runs it, `off` and `one_device` too, so that the main thread stays free for the screen and for
 * Ctrl-C. All replicas execute the same sequence of collectives.
 */
import { observe, type ReplicaContext, type Trainer, type TrainerSegment } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-layers';
import type { Batch, DataSet, InputSource } from '../data/data-set.js';
import { openPipeline } from '../data/input-pipeline.js';
import { type ExampleRange, evaluationRanges, type ScheduleOptions } from '../data/schedule.js';
import { SyntheticInput } from '../data/synthetic.js';
import {
  type Checkpoint,
  CheckpointError,
  type CheckpointManager,
  readCheckpoint,
} from '../utils/checkpoint/checkpoint-manager.js';
import type { StoredTensor } from '../utils/checkpoint/safetensors.js';
import type { EvaluationResult, StepReport } from '../utils/logs/run-observer.js';
import { type CleanPlan, carryOutClean } from '../utils/misc/clean-model-dir.js';
import { FrozenWeights } from './frozen-weights.js';
import { sparseSoftmaxCrossEntropy } from './fused-ops.js';
import { type DecayOptions, learningRateWithDecay } from './lr-schedule.js';
import { measureStatistics } from './measure-statistics.js';
import { type Epochs, TrainCalls } from './replica/position.js';
import { Model, type ResNetPlan, upstreamName } from './resnet-model.js';
import { type Position, positionOf, RUN_FORMAT, runCheckpoints, variableValues } from './run-checkpoint.js';

/** Everything a run needs, as plain data: it crosses threads. */
export interface ReplicaArguments {
  readonly plan: ResNetPlan;
  readonly seed: number;
  readonly modelDir: string;
  /** The chief's, with --clean: checkpoints that are there count for nothing, and go as soon as the replicas are ready. */
  readonly clean: CleanPlan | null;
  /** Global. */
  readonly batchSize: number;
  readonly epochs: Epochs;
  readonly maxTrainSteps: number | null;
  readonly recipe: DecayOptions;
  /** Where a worker that is not in step with the chief goes on; the chief looks into its checkpoint. */
  readonly position: Position | null;
  readonly momentum: number;
  readonly weightDecay: number;
  /** Variables whose name contains this text do not decay; null: all do. */
  readonly decayExcept: string | null;
  readonly lossScale: number | 'dynamic';
  /** Null: nothing to train on, or one batch of made-up images instead of files. */
  readonly train: DataSet | null;
  readonly validation: DataSet | null;
  /** Train the dense layer alone. */
  readonly fineTune: boolean;
  /** Checkpoint (or folder of one) that all but the dense layer begins with; null: none. */
  readonly pretrained: string | null;
  readonly randomFlip: boolean;
  readonly batchNormDecay: number;
  readonly inputThreads: number;
  readonly inputAhead: number;
  readonly stopThreshold: number | null;
  readonly saveSeconds: number | null;
  readonly saveSteps: number | null;
  readonly keepCheckpointMax: number;
  readonly dtype: 'f32' | 'bf16' | 'bf16_emulated';
  /** Report every step (hooks want them), not only a few a second. */
  readonly reportEveryStep: boolean;
}

/** What replica 0 tells the main thread. */
export type ReplicaMessage =
  | { readonly kind: 'log'; readonly line: string /** The Model Garden's own. */; readonly detail?: boolean }
  | { readonly kind: 'call begins' | 'call ends'; readonly globalStep: number }
  | ({ readonly kind: 'step' } & StepReport)
  | { readonly kind: 'evaluation'; readonly result: EvaluationResult }
  | { readonly kind: 'checkpoint'; readonly path: string; readonly globalStep: number };

export interface ReplicaResult {
  readonly evaluation: EvaluationResult | null;
  readonly globalStep: number;
  readonly checkpoint: string | null;
  readonly interrupted: boolean;
  /** SHA-free fingerprint of the weights: equal on all replicas, and from run to run with one seed. */
  readonly waitMs: number;
  /** Resident memory of the process in bytes, sampled at the first report and at the end. */
  readonly residentBytes: readonly number[];
}

/** Per-example losses are added as integers of this unit: the sum does not depend on the order, so not on the replicas. */
const LOSS_UNIT = 2 ** -20;
/** Evaluated at once: so many pixels, and not fewer than 16 images of any size. */
const PIECE_PIXELS = 65_536;
const SMALLEST_PIECE = 16;
const REPORT_INTERVAL_MS = 200;
/** Batches that moving statistics are measured on, where they cannot follow the weights. */
const STATISTICS_BATCHES = 16;

export default async function replica(context: ReplicaContext, args: ReplicaArguments): Promise<ReplicaResult> {
  const run = new Run(context, args);
  try {
    return await run.run();
  } finally {
    run.dispose();
  }
}

/** One replica's run. */
class Run {
  readonly #model: Model;
  readonly #trainer: Trainer;
  /** What --fine_tune leaves alone; nothing otherwise. */
  readonly #frozen: FrozenWeights;
  #frozenDecayLoss = 0;
  readonly #checkpoints: CheckpointManager;
  /** Images of the last step that were recognized; and of the train call, with how many there were. */
  #correct = 0;
  #callCorrect = 0;
  #callImages = 0;
  readonly #learningRate: (step: number) => number;
  #globalStep = 0;
  #calls: TrainCalls;
  /** Where in them: train call, the epochs before it, and step within it. */
  #cycle = 0;
  #epochsBefore = 0;
  #stepInCycle = 0;
  #lastSave = performance.now();
  #lastReport = 0;
  #lastCheckpoint: string | null = null;
  #waitMs = 0;
  #resident: number[] = [];

  constructor(
    private readonly context: ReplicaContext,
    private readonly args: ReplicaArguments,
  ) {
    this.#calls = new TrainCalls(args.epochs);
    applyPrecision(args.dtype);
    this.#model = new Model(args.plan, args.seed, { batchNormDecay: args.batchNormDecay });
    const { weightDecay, decayExcept, momentum, lossScale } = args;
    // As upstream: the gradients of variables with `dense` in their name are the only ones that are applied.
    const isTrained = ({ name }: tf.Variable) => !args.fineTune || name.includes('dense');
    this.#frozen = new FrozenWeights(this.#model.variables.filter((variable) => !isTrained(variable)));
    this.#trainer = context.trainer(this.#model.variables.filter(isTrained), {
      optimizer: { kind: 'momentum', momentum },
      weightDecay: { rate: weightDecay, applies: ({ name }) => decayExcept === null || !name.includes(decayExcept) },
      lossScale,
    });
    this.#checkpoints = runCheckpoints(args.modelDir, {
      maxToKeep: args.keepCheckpointMax,
      warn: (line) => this.#log(line),
    });
    this.#learningRate = learningRateWithDecay(args.recipe);
  }

  get #isChief(): boolean {
    return this.context.replicaIdInSyncGroup === 0 && this.context.inputPipelineId === 0;
  }

  async run(): Promise<ReplicaResult> {
    this.#restore();
    if (this.#isChief) {
      // Now nothing is left that could be wrong about the command.
      const { clean } = this.args;
      if (clean) carryOutClean(clean, { info: (line) => this.#log(line), warning: (line) => this.#log(line) });
    }
    const calls = this.#calls;
    let evaluation: EvaluationResult | null = null;
    let interrupted = false;
    for (; this.#cycle < calls.length; this.#cycle++, this.#stepInCycle = 0) {
      const epochs = calls.of(this.#cycle);
      this.#log(`Starting cycle: ${this.#cycle}/${calls.length}`, true);
      if (epochs > 0) {
        const ended = await this.#train(epochs);
        interrupted = ended === 'interrupted';
        if (ended !== 'complete' || this.#cycle + 1 === calls.length) this.#awaitOthers(interrupted);
        // What is saved is where the next run goes on: behind this call if it is complete, else (told to stop, or
        // max_train_steps reached) within it.
        if (ended === 'complete') {
          this.#epochsBefore += epochs;
          this.#stepInCycle = 0;
        }
        await this.#measureStatistics();
        this.#save();
        if (interrupted) break;
      }
      // Workers that are not in step leave evaluation to the chief, and do not wait for it.
      if (!this.#trainer.isInStep && this.context.inputPipelineId > 0) {
        if (this.#isPastLastStep()) break;
        continue;
      }
      this.#log('Starting to evaluate.', true);
      if (epochs === 0) this.#refuseNonFinite();
      const evaluated = await this.#evaluate();
      if (evaluated === null) {
        interrupted = true;
        break;
      }
      evaluation = evaluated;
      if (!Number.isFinite(evaluated.loss)) this.#tellNonFinite(evaluated, epochs === 0);
      this.#tell({ kind: 'evaluation', result: evaluation });
      if (this.context.shouldStop()) {
        interrupted = true;
        break;
      }
      const { stopThreshold } = this.args;
      if (stopThreshold !== null && evaluation.accuracy >= stopThreshold) {
        this.#log(`Stop threshold of ${stopThreshold} was passed with metric value ${evaluation.accuracy}.`);
        this.#awaitOthers(true);
        break;
      }
      if (this.#isPastLastStep()) break;
    }
    this.#resident.push(process.memoryUsage.rss());
    return {
      evaluation,
      globalStep: this.#globalStep,
      checkpoint: this.#lastCheckpoint,
      interrupted,
      waitMs: this.#waitMs,
      residentBytes: this.#resident,
    };
  }

  dispose(): void {
    this.#model.dispose();
  }

  /** Weights that are no numbers evaluate to something all the same: ReLU and comparisons make numbers of NaN. */
  #refuseNonFinite(): void {
    const { statisticSegments, statistics } = this.#model;
    for (const { segments, values } of [...this.#weights(), { segments: statisticSegments, values: statistics }]) {
      for (const { name, offset, length } of segments) {
        const odd = values.subarray(offset, offset + length).find((value) => !Number.isFinite(value));
        if (odd === undefined) continue;
        throw new CheckpointError(
          `${this.#lastCheckpoint ?? this.args.pretrained ?? 'This run'} has ${odd} in ${upstreamName(name)}: there is nothing to evaluate.\n` +
            'help: an earlier checkpoint, if there is one, is taken as soon as this one has another name.',
        );
      }
    }
  }

  #tellNonFinite({ loss, globalStep }: EvaluationResult, isAll: boolean): void {
    const what = `The loss of the evaluation at step ${globalStep} is ${loss}`;
    if (isAll) {
      throw new Error(`${what}: the weights are finite, and too large for it.\nhelp: evaluate an earlier checkpoint.`);
    }
    this.#log(`warning: ${what}.`);
  }

  #log(line: string, detail = false): void {
    this.#tell({ kind: 'log', line, detail });
  }

  /** The chief's replica speaks for all. */
  #tell(message: ReplicaMessage): void {
    if (this.#isChief) this.context.report(message);
  }

  /** Parameter servers: what the chief saves last holds everybody's work. @param stop They end now, not when they are through. */
  #awaitOthers(stop: boolean): void {
    const status = this.#trainer.leave(stop);
    if (!status) return;
    const { updates, mean, max, lost } = status;
    this.#log(
      `The parameter servers made ${updates} updates, with gradients ${mean.toFixed(2)} updates old on average, ${max} at most` +
        `${lost > 0 ? `; ${lost} worker${lost === 1 ? ' was' : 's were'} lost on the way` : ''}.`,
    );
  }

  /** One train call. @returns why it ended. */
  async #train(epochs: number): Promise<'complete' | 'last step' | 'interrupted'> {
    const input = await this.#openTraining(epochs);
    this.#callCorrect = 0;
    this.#callImages = 0;
    this.#tell({ kind: 'call begins', globalStep: this.#globalStep });
    try {
      for (;;) {
        if (this.#isPastLastStep()) return this.#stepInCycle >= input.steps ? 'complete' : 'last step';
        const begin = performance.now();
        const batch = input.next();
        if (batch === null) return 'complete';
        const inputMs = performance.now() - begin;
        const skipped = this.#step(batch, inputMs, begin, epochs, input.steps);
        input.release();
        this.#stepInCycle++;
        // The end of a call saves anyway, and a skipped step leaves nothing new to save.
        if (!skipped && this.#stepInCycle < input.steps && !this.#isPastLastStep()) this.#saveIfDue();
        if (this.context.shouldStop()) return 'interrupted';
      }
    } finally {
      this.#tell({ kind: 'call ends', globalStep: this.#globalStep });
      this.#waitMs += input.waitMs;
      await input.close();
    }
  }

  /** @returns whether the loss scale skipped the step: as in TensorFlow, the global step does not advance then. */
  #step(batch: Batch, inputMs: number, begin: number, epochs: number, steps: number): boolean {
    const learningRate = this.#learningRate(this.#globalStep);
    const { loss, finite, skipped, lossScale, phases } = this.#trainer.step(this.#loss, learningRate, [
      { values: batch.images, shape: [batch.size, ...this.args.plan.imageShape] },
      { values: batch.labels, shape: [batch.size] },
    ]);
    if (skipped) {
      this.#log(`Step ${this.#globalStep + 1} skipped: gradients are not finite at a loss scale of ${lossScale}.`);
      return true;
    }
    if (!finite) {
      throw new Error(
        `${Number.isFinite(loss) ? `A gradient became infinite or NaN (loss ${loss})` : `Loss became ${loss}`} in step ${this.#globalStep + 1}; training stops.\n` +
          `help: a smaller learning rate or another seed; the last good checkpoint is ${this.#lastCheckpoint ?? 'the start: none was saved'}.`,
      );
    }
    this.#globalStep++;
    this.#callCorrect += this.#correct;
    this.#callImages += batch.size;
    const now = performance.now();
    const isLast = this.#stepInCycle + 1 === steps || this.#isPastLastStep();
    if (!this.#isChief || (!this.args.reportEveryStep && !isLast && now - this.#lastReport < REPORT_INTERVAL_MS))
      return false;
    this.#lastReport = now;
    if (this.#resident.length === 0 && this.#stepInCycle > 5) this.#resident.push(process.memoryUsage.rss());
    this.context.report({
      kind: 'step',
      globalStep: this.#globalStep,
      totalSteps: this.#totalSteps(steps, epochs),
      epoch: this.#epochsBefore + (epochs * (this.#stepInCycle + 1)) / steps,
      loss: loss + this.#weightDecayLoss(),
      crossEntropy: loss,
      accuracy: this.#correct / batch.size,
      callAccuracy: this.#callCorrect / this.#callImages,
      learningRate,
      stepMs: now - begin,
      phases: { input: inputMs, ...phases },
    } satisfies ReplicaMessage);
    return false;
  }

  /** Mean cross-entropy of a batch; counts what is right in passing. */
  readonly #loss = (images: tf.Tensor, labels: tf.Tensor): tf.Scalar => {
    const logits = this.#model.call(images as tf.Tensor4D, true);
    observe([logits, labels], (scores: Float32Array, expected: Int32Array) => {
      this.#correct = countCorrect(scores, expected, 1);
    });
    return tf.mean(sparseSoftmaxCrossEntropy(logits, labels as tf.Tensor1D)) as tf.Scalar;
  };

  #totalSteps(stepsOfCall: number, epochsOfCall: number): number {
    const steps = Math.round((stepsOfCall * this.args.epochs.total) / epochsOfCall);
    return this.args.maxTrainSteps === null ? steps : Math.min(steps, this.args.maxTrainSteps);
  }

  #isPastLastStep(): boolean {
    return this.args.maxTrainSteps !== null && this.#globalStep >= this.args.maxTrainSteps;
  }

  /** Batches of a train call, from the step on that it is at. */
  async #openTraining(epochs: number): Promise<InputSource> {
    const { args, context } = this;
    const { inputReplicaId: replica, numInputReplicas: replicas } = context;
    if (args.train === null) return this.#synthetic(args.batchSize / replicas, replica);
    const { batchSize, seed } = args;
    const call = { firstEpoch: this.#epochsBefore, epochs };
    const schedule = {
      kind: 'training',
      count: args.train.count,
      batchSize,
      replica,
      replicas,
      seed,
      ...call,
    } as const;
    return await this.#open(args.train, schedule, true, this.#stepInCycle);
  }

  /** What files hold, by the pipeline. */
  #open(dataSet: DataSet, schedule: ScheduleOptions, isTraining: boolean, firstStep = 0): Promise<InputSource> {
    const { seed, randomFlip, inputThreads: threads, inputAhead: ahead } = this.args;
    return openPipeline({
      dataSet,
      schedule,
      reading: { seed, isTraining, randomFlip },
      threads,
      ahead,
      firstStep,
    });
  }

  #synthetic(batchSize: number, stream: number): InputSource {
    return new SyntheticInput({ plan: this.args.plan, batchSize, seed: this.args.seed, stream });
  }

  /**
   * The whole validation set, split over replicas; sums of integers, so the figures are those of one device.
   * @returns null if the run was told to stop meanwhile: what is saved already is all there is to save.
   */
  async #evaluate(): Promise<EvaluationResult | null> {
    const { context, args } = this;
    const { numReplicasInSync: replicas } = context;
    this.#averageStatistics();
    const totals = new Float64Array(4);
    const add = (batch: Batch) => {
      const { top1, top5, loss } = tf.tidy(() => {
        const { images, labels } = tensors(batch, args.plan);
        const logits = this.#model.call(images, false);
        const losses = sparseSoftmaxCrossEntropy(logits, labels).dataSync() as Float32Array;
        const values = logits.dataSync() as Float32Array;
        return {
          top1: countCorrect(values, batch.labels, 1),
          top5: countCorrect(values, batch.labels, 5),
          loss: losses.reduce((sum, value) => sum + Math.round(value / LOSS_UNIT), 0),
        };
      });
      [top1, top5, loss, batch.size].forEach((value, i) => {
        totals[i] = (totals[i] as number) + value;
      });
    };
    const { input, rounds } = await this.#openEvaluation();
    try {
      for (let round = 0; round < rounds; round++) {
        if (round > 0 && context.shouldStop()) return null;
        const batch = round < input.steps ? input.next() : null;
        if (batch === null) continue;
        add(batch);
        input.release();
      }
    } finally {
      await input.close();
    }
    if (replicas > 1) context.communicator.allReduce(totals);
    const [top1, top5, loss, count] = totals as unknown as [number, number, number, number];
    return {
      accuracy: top1 / count,
      accuracyTop5: top5 / count,
      loss: (loss * LOSS_UNIT) / count + this.#weightDecayLoss(),
      globalStep: this.#globalStep,
    };
  }

  /** This replica's batches, and how many rounds there are: everybody asks equally often whether to stop, also who has one less. */
  async #openEvaluation(): Promise<{ input: InputSource; rounds: number }> {
    const { context, args } = this;
    const { replicaIdInSyncGroup: replica, numReplicasInSync: replicas } = context;
    if (args.validation === null) {
      const size = Math.max(1, Math.floor(args.batchSize / context.numInputReplicas));
      return { input: this.#synthetic(size, replica), rounds: args.maxTrainSteps ?? 1 };
    }
    // As upstream, max_train_steps limits the batches of evaluation, too.
    const images = Math.min(args.validation.count, (args.maxTrainSteps ?? Number.POSITIVE_INFINITY) * args.batchSize);
    const piece = evaluationPiece(args.plan);
    const ranges = evaluationRanges(images, piece, replica, replicas);
    const input = await this.#open(args.validation, { kind: 'ranges', ranges }, false);
    return { input, rounds: Math.ceil(images / piece / replicas) };
  }

  /**
   * With several workers that are not in step the chief's moving statistics follow weights that the others have changed
   * meanwhile: what it saves and evaluates at the end of a train call gets statistics of the very weights.
   */
  async #measureStatistics(): Promise<void> {
    const { context, args } = this;
    const { train } = args;
    const isAlone = context.numInputPipelines === 1;
    if (this.#trainer.isInStep || isAlone || context.inputPipelineId > 0 || train === null) return;
    this.#trainer.pull();
    const size = Math.min(train.count, Math.max(1, Math.floor(args.batchSize / context.numInputReplicas)));
    const replicas = context.numReplicasInSync;
    const ranges = Array.from({ length: STATISTICS_BATCHES }, (_, i): ExampleRange => {
      // Spread over the data, and other images on every replica.
      const part = (i * replicas + context.replicaIdInSyncGroup) / (STATISTICS_BATCHES * replicas);
      const begin = Math.floor((train.count - size) * part);
      return [begin, begin + size];
    });
    const input = await this.#open(train, { kind: 'ranges', ranges }, false);
    try {
      measureStatistics(this.#model.statistics, args.batchNormDecay, STATISTICS_BATCHES, () => {
        const batch = input.next() as Batch;
        tf.tidy(() => {
          this.#model.call(tensors(batch, args.plan).images, true);
        });
        input.release();
      });
    } finally {
      await input.close();
    }
  }

  /** Moving statistics are each replica's own while it trains; read or saved, they are the mean (upstream: ON_READ, MEAN). */
  #averageStatistics(): void {
    const { numReplicasInSync: replicas, communicator } = this.context;
    if (replicas === 1) return;
    const { statistics } = this.#model;
    // In f64 the mean of equal numbers is that number: reading statistics that are averaged already changes no bit.
    const sums = Float64Array.from(statistics);
    communicator.allReduce(sums);
    for (let i = 0; i < statistics.length; i++) statistics[i] = (sums[i] as number) / replicas;
  }

  #saveIfDue(): void {
    const { saveSteps, saveSeconds } = this.args;
    let due = false;
    if (saveSteps !== null) due = this.#globalStep % saveSteps === 0;
    else if (saveSeconds !== null) {
      // Clocks differ between replicas; the chief's counts.
      const mine = performance.now() - this.#lastSave >= saveSeconds * 1000 ? 1 : 0;
      const all = Int32Array.of(this.#isChief ? mine : 0);
      if (this.context.numReplicasInSync > 1 && this.#globalStep % 16 === 0)
        this.context.communicator.broadcast(all, 0);
      due = all[0] === 1 && (this.context.numReplicasInSync === 1 || this.#globalStep % 16 === 0);
    }
    if (due) this.#save();
  }

  #save(): void {
    this.#averageStatistics();
    this.#trainer.pull();
    this.#lastSave = performance.now();
    if (!this.#isChief) return;
    const { lossScaleState } = this.#trainer;
    const path = this.#checkpoints.save(this.#globalStep, {
      tensors: this.#tensors(),
      metadata: {
        format: RUN_FORMAT,
        global_step: String(this.#globalStep),
        // Epochs of the train calls before the one under way; its own, if it is; and steps of a batch within it.
        epochs: String(this.#epochsBefore),
        call_epochs: String(this.#stepInCycle > 0 ? this.#calls.of(this.#cycle) : 0),
        step: String(this.#stepInCycle),
        batch_size: String(this.args.batchSize),
        // Random numbers are functions of the seed and of the position above: this is the whole random state.
        seed: String(this.args.seed),
        // TensorFlow's names of a dynamic loss scale's two variables.
        ...(lossScaleState && {
          current_loss_scale: String(lossScaleState.value),
          good_steps: String(lossScaleState.goodSteps),
        }),
        fine_tune: String(this.args.fineTune),
        resnet_size: String(this.args.plan.resnetSize),
        resnet_version: String(this.args.plan.resnetVersion),
      },
    });
    this.#lastCheckpoint = path;
    this.#tell({ kind: 'checkpoint', path, globalStep: this.#globalStep });
  }

  #tensors(): Record<string, StoredTensor> {
    const tensors: Record<string, StoredTensor> = {};
    for (const { segments, values } of this.#weights()) {
      for (const { name, offset, length, shape } of segments) {
        tensors[upstreamName(name)] = { shape, values: values.subarray(offset, offset + length) };
      }
    }
    for (const [slot, values] of Object.entries(this.#trainer.slots)) {
      for (const { name, offset, length, shape } of this.#trainer.segments) {
        tensors[`${upstreamName(name)}/${slot}`] = { shape, values: values.subarray(offset, offset + length) };
      }
    }
    for (const { name, offset, length } of this.#model.statisticSegments) {
      tensors[name] = { shape: [length], values: this.#model.statistics.subarray(offset, offset + length) };
    }
    return tensors;
  }

  /** The chief alone reads the newest checkpoint, and everybody gets what it read: model_dir may be on its machine only. */
  #restore(): void {
    const { context } = this;
    const isChief = this.#isChief && this.args.clean === null;
    const checkpoint = isChief ? this.#checkpoints.latest() : null;
    const place = checkpoint && { path: checkpoint.path, metadata: checkpoint.metadata };
    const found = context.merge(place, ([chiefs]) => chiefs ?? null);
    if (found === null) {
      if (isChief) this.#refuseDamaged();
      this.#warmStart();
      if (this.args.position) this.#goOnAt(this.args.position);
      return;
    }
    if (checkpoint) this.#load(checkpoint);
    this.#share();
    const { path, metadata } = found;
    this.#lastCheckpoint = path;
    this.#log(`Restored step ${metadata.global_step} from ${path}`);
    this.#goOnAt(positionOf(metadata));
    const { current_loss_scale: value, good_steps: goodSteps } = metadata;
    // A run whose scale was fixed leaves none, and a dynamic one begins at its beginning then.
    if (value !== undefined) this.#trainer.restoreLossScale({ value: Number(value), goodSteps: Number(goodSteps) });
  }

  /** Where there are checkpoints and none is whole, evaluation has nothing to evaluate, and training says that it begins anew. */
  #refuseDamaged(): void {
    const { modelDir, epochs } = this.args;
    if (this.#checkpoints.steps().length === 0) return;
    if (epochs.total === 0) {
      throw new CheckpointError(
        `There is no whole checkpoint in ${modelDir}, so there is nothing to evaluate.\n` +
          'help: bring back a copy of one that is named above, or train anew in another --model_dir.',
      );
    }
    this.#log(`warning: there is no whole checkpoint in ${modelDir}: training starts over at step 0.`);
  }

  /** Upstream's warm start: everything but the dense layer from another run's checkpoint, where there is none of this run. */
  #warmStart(): void {
    const from = this.args.pretrained;
    if (from !== null) {
      if (this.#isChief) {
        const checkpoint = readCheckpoint(from);
        const help =
          '.\nhelp: --pretrained_model_checkpoint_path needs a checkpoint of the same --resnet_size and --resnet_version.';
        const take = (name: string, shape: readonly number[], target: Float32Array) =>
          target.set(variableValues(checkpoint, name, shape, help));
        for (const { segments, values } of this.#weights()) {
          for (const { name, offset, length, shape } of segments) {
            if (!name.includes('dense')) take(upstreamName(name), shape, values.subarray(offset, offset + length));
          }
        }
        for (const { name, offset, length } of this.#model.statisticSegments) {
          take(name, [length], this.#model.statistics.subarray(offset, offset + length));
        }
        this.#log(`Everything but the dense layer is initialized from ${checkpoint.path}`);
      }
      this.#share();
    }
    this.#addUpFrozen();
  }

  /** Weights, trained and not, with their places. */
  #weights(): { segments: readonly TrainerSegment[]; values: Float32Array }[] {
    const { segments, weights: values } = this.#trainer;
    return [{ segments, values }, this.#frozen];
  }

  /** What the chief has read becomes everybody's. */
  #share(): void {
    const { context } = this;
    if (context.numReplicasInSync > 1) {
      context.communicator.broadcast(this.#model.statistics, 0);
      // One copy of weights and slots per process; within the chief's own this sends nothing new.
      context.communicator.broadcast(this.#trainer.weights, 0);
      for (const slot of Object.values(this.#trainer.slots)) context.communicator.broadcast(slot, 0);
      if (this.#frozen.values.length > 0) context.communicator.broadcast(this.#frozen.values, 0);
      context.communicator.barrier();
    }
    this.#trainer.push();
    this.#addUpFrozen();
  }

  #addUpFrozen(): void {
    const { weightDecay, decayExcept } = this.args;
    this.#frozenDecayLoss = this.#frozen.weightDecayLoss(
      weightDecay,
      (name) => decayExcept === null || !name.includes(decayExcept),
    );
  }

  #weightDecayLoss(): number {
    return this.#trainer.weightDecayLoss() + this.#frozenDecayLoss;
  }

  #goOnAt({ globalStep, epochs, callEpochs, step, batchSize }: Position): void {
    this.#globalStep = globalStep;
    if (this.args.epochs.total === 0) return;
    this.#calls = new TrainCalls(this.args.epochs, epochs, callEpochs);
    this.#cycle = this.#calls.first;
    this.#epochsBefore = epochs;
    this.#stepInCycle = Math.floor((step * batchSize) / this.args.batchSize);
    if (this.#calls.of(this.#cycle) === 0) {
      this.#log('All epochs are trained already; only evaluating. A larger --train_epochs goes on.');
    }
  }

  #load(checkpoint: Checkpoint): void {
    const { plan } = this.args;
    const { metadata } = checkpoint;
    const help =
      `: it is of ResNet-${metadata.resnet_size} v${metadata.resnet_version}, this run trains ResNet-${plan.resnetSize} v${plan.resnetVersion}.\n` +
      'help: another --model_dir, or --clean to start over.';
    const read = (name: string, shape: readonly number[]) => variableValues(checkpoint, name, shape, help);
    for (const { name, offset, length } of this.#model.statisticSegments) {
      this.#model.statistics.set(read(name, [length]), offset);
    }
    for (const { name, offset, shape } of this.#frozen.segments) {
      this.#frozen.values.set(read(upstreamName(name), shape), offset);
    }
    const isFineTuned = metadata.fine_tune === 'true';
    for (const { name, offset, shape } of this.#trainer.segments) {
      const values = read(upstreamName(name), shape);
      // Fine tuning has slots for the dense layer alone; whoever goes on with all of them begins with zeros, as at the start.
      const hasSlots = !isFineTuned || name.includes('dense');
      const slots = (hasSlots ? Object.keys(this.#trainer.slots) : []).map(
        (slot) => [slot, read(`${upstreamName(name)}/${slot}`, shape)] as const,
      );
      this.#trainer.weights.set(values, offset);
      for (const [slot, slotValues] of slots) this.#trainer.slots[slot]?.set(slotValues, offset);
    }
  }
}

function tensors(batch: Batch, plan: ResNetPlan): { images: tf.Tensor4D; labels: tf.Tensor1D } {
  return {
    images: tf.tensor4d(batch.images, [batch.size, ...plan.imageShape]),
    labels: tf.tensor1d(batch.labels, 'int32'),
  };
}

/**
 * Images that are evaluated at once, whatever the batch size and the number of replicas: kernels may round differently for
 * another number of images, and evaluation is to give the same figures however it is spread.
 */
function evaluationPiece({ imageShape: [height, width] }: ResNetPlan): number {
  return Math.max(SMALLEST_PIECE, Math.floor(PIECE_PIXELS / (height * width)));
}

/** Examples whose label is among the k largest logits (ties count as right, as TensorFlow's in_top_k). */
export function countCorrect(logits: Float32Array, labels: Int32Array, k: number): number {
  const classes = logits.length / labels.length;
  let correct = 0;
  for (let row = 0; row < labels.length; row++) {
    const target = logits[row * classes + (labels[row] as number)] as number;
    let larger = 0;
    for (let c = 0; c < classes; c++) if ((logits[row * classes + c] as number) > target) larger++;
    if (larger < k && Number.isFinite(target)) correct++;
  }
  return correct;
}

/**
 * bf16 is a property of the backend, which says so itself if its CPU has no such instructions.
 * @throws Error for bf16 on a backend that computes in f32 only.
 */
function applyPrecision(dtype: ReplicaArguments['dtype']): void {
  const backend = tf.backend() as { precision?: string };
  if ('precision' in backend) backend.precision = dtype;
  else if (dtype !== 'f32') {
    throw new Error(
      `--dtype=${dtype}: the backend '${tf.getBackend()}' computes in 32 bits only.\nhelp: use --dtype=fp32, or the backend onednn.`,
    );
  }
}
