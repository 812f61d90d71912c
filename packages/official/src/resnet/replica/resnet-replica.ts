/**
 * What every replica of the official ResNet runs, in a thread of its own: training steps, evaluation, and checkpoints when they
 * are due. Every strategy runs it, `off` and `one_device` too, so that the main thread stays free for the screen and for
 * Ctrl-C. All replicas execute the same sequence of collectives. Where the run is, what a checkpoint holds and how figures come
 * about stand in files of their own beside this one.
 */
import { hostAccess, observe, type ReplicaContext, type Trainer } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-layers';
import type { Batch, DataSet, InputSource } from '../../data/data-set.js';
import { openPipeline } from '../../data/input-pipeline.js';
import { evaluationRanges, type ScheduleOptions } from '../../data/schedule.js';
import { SyntheticInput } from '../../data/synthetic.js';
import { CheckpointError, type CheckpointManager } from '../../utils/checkpoint/checkpoint-manager.js';
import type { Log } from '../../utils/logs/log.js';
import type { EvaluationDetails, EvaluationResult } from '../../utils/logs/run-observer.js';
import type { Timeline } from '../../utils/logs/timeline.js';
import { carryOutClean } from '../../utils/misc/clean-model-dir.js';
import { pastStopThreshold } from '../../utils/misc/model-helpers.js';
import { smoothedCrossEntropy } from '../fused-ops.js';
import { larsSchedule, learningRateWithDecay } from '../lr-schedule.js';
import { Model } from '../resnet-model.js';
import type { ReplicaArguments, ReplicaMessage, ReplicaResult } from './arguments.js';
import {
  averageStatistics,
  countCorrect,
  evaluateBatches,
  evaluationPiece,
  figuresOf,
  measureOn,
  statisticsRanges,
} from './evaluation.js';
import { DetailsCollector } from './evaluation-details.js';
import { FrozenWeights } from './frozen-weights.js';
import { RunPosition } from './position.js';
import {
  fillArrays,
  fillForWarmStart,
  findNonFinite,
  placeOf,
  type RunArrays,
  type RunState,
  readRun,
  runCheckpoints,
  stateOf,
  toTensorFile,
} from './run-state.js';
import { HistogramCollector, inputPictures, networkTable } from './run-summary.js';
import { StepProfile } from './step-profile.js';

const REPORT_INTERVAL_MS = 200;

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
  #correctTop5 = 0;
  #hasToldNetwork = false;
  #callCorrect = 0;
  #callCorrectTop5 = 0;
  #callImages = 0;
  readonly #learningRate: (step: number) => number;
  readonly #position: RunPosition;
  readonly #profile: StepProfile;
  readonly #histograms: HistogramCollector;
  readonly #arrays: RunArrays;
  #lastSave = performance.now();
  #lastReport = 0;
  #lastCheckpoint: string | null = null;
  /** Of the checkpoint of TensorFlow's own that the run goes on from. */
  #foreignStep: number | null = null;
  #trainMs = 0;
  #waitMs = 0;
  #resident: number[] = [];

  constructor(
    private readonly context: ReplicaContext,
    private readonly args: ReplicaArguments,
  ) {
    this.#position = new RunPosition(args.epochs, args.batchSize, args.maxTrainSteps);
    this.#profile = new StepProfile(args.profile, context);
    applyPrecision(args.dtype);
    this.#model = new Model(args.plan, args.seed, { batchNormDecay: args.batchNormDecay });
    const { weightDecay, decayExcept, momentum, lossScale, lars, recipe } = args;
    // As upstream: the gradients of variables with `dense` in their name are the only ones that are applied.
    const isTrained = ({ name }: tf.Variable) => !args.fineTune || name.includes('dense');
    this.#frozen = new FrozenWeights(this.#model.variables.filter((variable) => !isTrained(variable)));
    this.#trainer = context.trainer(this.#model.variables.filter(isTrained), {
      // As upstream, LARS decays weights on its own, and the loss keeps its L2 term.
      optimizer: lars
        ? { kind: 'lars', momentum, weightDecay, skip: ['batch_normalization', 'bias'] }
        : { kind: 'momentum', momentum },
      weightDecay: { rate: weightDecay, applies: ({ name }) => decayExcept === null || !name.includes(decayExcept) },
      lossScale,
    });
    this.#histograms = new HistogramCollector(this.#trainer, this.#isChief ? args.histogramSteps : 0);
    this.#arrays = {
      trained: this.#trainer,
      frozen: this.#frozen,
      statistics: { segments: this.#model.statisticSegments, values: this.#model.statistics },
    };
    this.#checkpoints = runCheckpoints(args.modelDir, {
      format: args.checkpointFormat,
      maxToKeep: args.keepCheckpointMax,
      warn: this.#lines.warning,
    });
    this.#learningRate = lars ? larsSchedule({ ...recipe, ...lars }) : learningRateWithDecay(recipe);
  }

  get #isChief(): boolean {
    return this.context.replicaIdInSyncGroup === 0 && this.context.inputPipelineId === 0;
  }

  async run(): Promise<ReplicaResult> {
    this.#restore();
    if (this.#isChief) {
      // Now nothing is left that could be wrong about the command.
      const { clean } = this.args;
      if (clean) carryOutClean(clean, this.#lines);
    }
    const position = this.#position;
    let evaluation: EvaluationResult | null = null;
    let interrupted = false;
    for (; !position.isOver; position.nextCall()) {
      const epochs = position.callEpochs;
      this.#log(`Starting cycle: ${position.call}/${position.calls}`, true);
      if (epochs > 0) {
        const ended = await this.#train();
        interrupted = ended === 'interrupted';
        if (ended !== 'complete' || position.isLastCall) this.#awaitOthers(interrupted);
        // What is saved is where the next run goes on: behind this call if it is complete, else (told to stop, or
        // max_train_steps reached) within it.
        if (ended === 'complete') position.completeCall();
        await this.#measureStatistics();
        this.#save();
        if (interrupted) break;
      }
      // Workers that are not in step leave evaluation to the chief, and do not wait for it.
      if (!this.#trainer.isInStep && this.context.inputPipelineId > 0) {
        if (position.isPastLastStep) break;
        continue;
      }
      this.#log('Starting to evaluate.', true);
      if (epochs === 0) this.#refuseNonFinite();
      const evaluated = await this.#evaluate();
      if (evaluated === null) {
        interrupted = true;
        break;
      }
      evaluation = evaluated.result;
      if (!Number.isFinite(evaluation.loss)) this.#tellNonFinite(evaluation, epochs === 0);
      this.#tell({ kind: 'evaluation', ...evaluated });
      if (this.context.shouldStop()) {
        interrupted = true;
        break;
      }
      if (pastStopThreshold(this.args.stopThreshold, evaluation.accuracy, this.#lines)) {
        this.#awaitOthers(true);
        break;
      }
      if (position.isPastLastStep) break;
    }
    this.#resident.push(process.memoryUsage.rss());
    return {
      evaluation,
      globalStep: position.globalStep,
      checkpoint: this.#lastCheckpoint,
      interrupted,
      trainMs: this.#trainMs,
      waitMs: this.#waitMs,
      residentBytes: this.#resident,
    };
  }

  dispose(): void {
    this.#model.dispose();
  }

  /** Weights that are no numbers evaluate to something all the same: ReLU and comparisons make numbers of NaN. */
  #refuseNonFinite(): void {
    const odd = findNonFinite(this.#arrays);
    if (odd === null) return;
    throw new CheckpointError(
      `${this.#lastCheckpoint ?? this.args.pretrained ?? 'This run'} has ${odd.value} in ${odd.name}: there is nothing to evaluate.\n` +
        'help: an earlier checkpoint, if there is one, is taken as soon as this one has another name.',
    );
  }

  #tellNonFinite({ loss, globalStep }: EvaluationResult, isAll: boolean): void {
    const what = `The loss of the evaluation at step ${globalStep} is ${loss}`;
    if (isAll) {
      throw new Error(`${what}: the weights are finite, and too large for it.\nhelp: evaluate an earlier checkpoint.`);
    }
    this.#log(`warning: ${what}.`);
  }

  /** {@link #log}, for those that take a log. */
  readonly #lines: Log = { info: (line) => this.#log(line), warning: (line) => this.#log(line) };

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
  async #train(): Promise<'complete' | 'last step' | 'interrupted'> {
    const input = await this.#openTraining();
    this.#callCorrect = 0;
    this.#callCorrectTop5 = 0;
    this.#callImages = 0;
    const position = this.#position;
    this.#profile.callBegins(position.globalStep);
    this.#tell({ kind: 'call begins', globalStep: position.globalStep });
    const callBegin = performance.now();
    try {
      const ended = await this.#takeSteps(input);
      this.#tellTimeline(this.#profile.finish());
      return ended;
    } finally {
      this.#tell({ kind: 'call ends', globalStep: position.globalStep });
      this.#trainMs += performance.now() - callBegin;
      this.#waitMs += input.waitMs;
      await input.close();
    }
  }

  async #takeSteps(input: InputSource): Promise<'complete' | 'last step' | 'interrupted'> {
    const position = this.#position;
    for (;;) {
      if (position.isPastLastStep) return position.stepInCall >= input.steps ? 'complete' : 'last step';
      this.#profile.before(position.globalStep + 1);
      const begin = performance.now();
      const batch = input.next();
      if (batch === null) return 'complete';
      const inputMs = performance.now() - begin;
      const skipped = await this.#step(batch, inputMs, begin, input.steps);
      input.release();
      // The end of a call saves anyway, and a skipped step leaves nothing new to save.
      if (!skipped && position.stepInCall < input.steps && !position.isPastLastStep) this.#saveIfDue();
      if (this.context.shouldStop()) return 'interrupted';
    }
  }

  /** The first batch of a train call, and before the very first one the network. */
  #tellInput(batch: Batch): void {
    const { summaries, plan } = this.args;
    if (!summaries || !this.#isChief) return;
    const { globalStep } = this.#position;
    const pictures = Object.fromEntries(
      inputPictures(batch, plan.imageShape).map((picture, i) => [`images/image/${i}`, picture]),
    );
    const texts = !this.#hasToldNetwork && { texts: { graph: networkTable(this.#model.variables) } };
    this.#hasToldNetwork = true;
    this.#tell({ kind: 'summary', summary: { globalStep, pictures, ...texts } });
  }

  /** Of the next step. */
  readonly #lossScale = (): number => this.#trainer.lossScaleState?.value ?? Number(this.args.lossScale);

  #tellTimeline(timeline: Timeline | null): void {
    if (timeline) this.#tell({ kind: 'timeline', timeline });
  }

  /** @returns whether the loss scale skipped the step: as in TensorFlow, the global step does not advance then. */
  async #step(batch: Batch, inputMs: number, begin: number, steps: number): Promise<boolean> {
    const position = this.#position;
    const inputDone = performance.now();
    if (this.#callImages === 0) this.#tellInput(batch);
    this.#histograms.before(position.globalStep + 1, this.#lossScale);
    const learningRate = this.#learningRate(position.globalStep);
    const { loss, finite, skipped, lossScale, phases } = await this.#trainer.step(this.#loss, learningRate, [
      { values: batch.images, shape: [batch.size, ...this.args.plan.imageShape] },
      { values: batch.labels, shape: [batch.size] },
    ]);
    this.#tellTimeline(this.#profile.after(position.globalStep + 1, begin, inputDone));
    const histograms = this.#histograms.after();
    if (histograms) this.#tell({ kind: 'summary', summary: { globalStep: position.globalStep + 1, histograms } });
    if (skipped) {
      this.#log(`Step ${position.globalStep + 1} skipped: gradients are not finite at a loss scale of ${lossScale}.`);
      position.advance(false);
      return true;
    }
    if (!finite) {
      throw new Error(
        `${Number.isFinite(loss) ? `A gradient became infinite or NaN (loss ${loss})` : `Loss became ${loss}`} in step ${position.globalStep + 1}; training stops.\n` +
          `help: a smaller learning rate or another seed; the last good checkpoint is ${this.#lastCheckpoint ?? 'the start: none was saved'}.`,
      );
    }
    position.advance(true);
    this.#callCorrect += this.#correct;
    this.#callCorrectTop5 += this.#correctTop5;
    this.#callImages += batch.size;
    const now = performance.now();
    const isLast = position.stepInCall === steps || position.isPastLastStep;
    if (!this.#isChief || (!this.args.reportEveryStep && !isLast && now - this.#lastReport < REPORT_INTERVAL_MS))
      return false;
    this.#lastReport = now;
    if (this.#resident.length === 0 && position.stepInCall > 6) this.#resident.push(process.memoryUsage.rss());
    this.context.report({
      kind: 'step',
      globalStep: position.globalStep,
      totalSteps: position.totalSteps(steps),
      epoch: position.epochAt(steps),
      loss: loss + this.#weightDecayLoss(),
      crossEntropy: loss,
      accuracy: this.#correct / batch.size,
      callAccuracy: this.#callCorrect / this.#callImages,
      callAccuracyTop5: this.#callCorrectTop5 / this.#callImages,
      ...{ learningRate, lossScale, gradientBytes: this.#trainer.weights.byteLength },
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
      this.#correctTop5 = countCorrect(scores, expected, 5);
    });
    return tf.mean(smoothedCrossEntropy(logits, labels as tf.Tensor1D, this.args.labelSmoothing)) as tf.Scalar;
  };

  /** Batches of a train call, from the step on that it is at. */
  async #openTraining(): Promise<InputSource> {
    const { args, context } = this;
    const { inputReplicaId: replica, numInputReplicas: replicas } = context;
    if (args.train === null) return this.#synthetic(args.batchSize / replicas, replica);
    const { batchSize, seed } = args;
    const { count } = args.train;
    const { epochsBefore: firstEpoch, callEpochs: epochs, stepInCall } = this.#position;
    const call = { count, batchSize, replica, replicas, seed, firstEpoch, epochs };
    return await this.#open(args.train, { kind: 'training', ...call }, true, stepInCall);
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
  async #evaluate(): Promise<{ result: EvaluationResult; details: EvaluationDetails | null } | null> {
    const { context } = this;
    this.#averageStatistics();
    const { input, rounds } = await this.#openEvaluation();
    try {
      const { plan, labelSmoothing, summaries, validation } = this.args;
      const stop = () => context.shouldStop();
      const collector = summaries ? DetailsCollector.of(plan.numClasses, plan.imageShape) : null;
      const totals = await evaluateBatches(
        ...([input, rounds, plan.imageShape, this.#network, stop, labelSmoothing] as const),
        collector?.add,
      );
      if (totals === null) return null;
      if (context.numReplicasInSync > 1) {
        context.communicator.allReduce(totals);
        if (collector) context.communicator.allReduce(collector.confusion);
      }
      const names = validation?.classNames;
      return {
        result: { ...figuresOf(totals, this.#weightDecayLoss()), globalStep: this.#position.globalStep },
        details: collector && { ...collector.details, ...(names && { names }) },
      };
    } finally {
      await input.close();
    }
  }

  readonly #network = (images: tf.Tensor4D, training: boolean) => this.#model.call(images, training);

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
    const piece = evaluationPiece(args.plan.imageShape);
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
    const size = Math.max(1, Math.floor(args.batchSize / context.numInputReplicas));
    const ranges = statisticsRanges(train.count, size, context.replicaIdInSyncGroup, context.numReplicasInSync);
    const input = await this.#open(train, { kind: 'ranges', ranges }, false);
    try {
      await measureOn(input, this.#model.statistics, args.batchNormDecay, args.plan.imageShape, this.#network);
    } finally {
      await input.close();
    }
  }

  #averageStatistics(): void {
    averageStatistics(this.#model.statistics, this.context);
  }

  #saveIfDue(): void {
    const { saveSteps, saveSeconds } = this.args;
    const { globalStep } = this.#position;
    let due = false;
    if (saveSteps !== null) due = globalStep % saveSteps === 0;
    else if (saveSeconds !== null) {
      // Clocks differ between replicas; the chief's counts.
      const mine = performance.now() - this.#lastSave >= saveSeconds * 1000 ? 1 : 0;
      const all = Int32Array.of(this.#isChief ? mine : 0);
      if (this.context.numReplicasInSync > 1 && globalStep % 16 === 0) this.context.communicator.broadcast(all, 0);
      due = all[0] === 1 && (this.context.numReplicasInSync === 1 || globalStep % 16 === 0);
    }
    if (due) this.#save();
  }

  #save(): void {
    this.#averageStatistics();
    this.#trainer.checkMirrored();
    this.#trainer.pull();
    this.#lastSave = performance.now();
    const { globalStep } = this.#position;
    // TensorFlow's own file has the name of this step, and nothing has happened since.
    if (!this.#isChief || globalStep === this.#foreignStep) return;
    const path = this.#checkpoints.save(globalStep, toTensorFile(this.#state(), this.#arrays));
    this.#lastCheckpoint = path;
    this.#tell({ kind: 'checkpoint', path, globalStep });
  }

  #state(): Omit<RunState, 'isForeign'> {
    const { seed, fineTune } = this.args;
    const { scalars } = this.#trainer;
    const state = { position: this.#position.saved, seed, fineTune, model: this.#modelKind(), scalars };
    return { ...state, ...this.#pictures() };
  }

  /** For who uses the model when the data are gone. */
  #pictures(): Pick<RunState, 'pictures'> {
    const dataSet = this.args.train ?? this.args.validation;
    if (dataSet === null) return {};
    const { name, imageShape, classNames } = dataSet;
    return { pictures: { dataset: name, size: imageShape[0], ...(classNames && { classNames }) } };
  }

  #modelKind(): RunState['model'] {
    return { size: this.args.plan.resnetSize, version: this.args.plan.resnetVersion };
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
      if (this.args.position) this.#goOnAt({ position: this.args.position });
      return;
    }
    if (checkpoint) fillArrays(checkpoint, this.#arrays, this.#modelKind());
    const { path, metadata } = found;
    const state = stateOf(metadata);
    // A run whose loss scale was fixed leaves none, and a dynamic one begins at its beginning then.
    this.#trainer.restore(state.scalars);
    this.#share();
    this.#lastCheckpoint = path;
    this.#log(`Restored step ${metadata.global_step} from ${path}`);
    const { numImages, batchSize } = this.args.recipe;
    const position = placeOf(state, numImages, batchSize);
    if (state.isForeign) this.#foreignStep = position.globalStep;
    if (state.isForeign && this.args.epochs.total > 0) {
      this.#log(
        `TensorFlow's checkpoint says nothing of epochs: as many as its steps make are over, ${position.epochs}.`,
      );
    }
    this.#goOnAt({ position });
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
        const checkpoint = readRun(from);
        fillForWarmStart(checkpoint, this.#arrays);
        this.#log(`Everything but the dense layer is initialized from ${checkpoint.path}`);
      }
      this.#share();
    }
    this.#addUpFrozen();
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
    this.#frozen.update();
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

  #goOnAt({ position }: Pick<RunState, 'position'>): void {
    this.#position.goOnAt(position);
    if (this.args.epochs.total > 0 && this.#position.callEpochs === 0) {
      this.#log('All epochs are trained already; only evaluating. A larger --train_epochs goes on.');
    }
  }
}

/**
 * bf16 is a property of the backend, which says so itself if its device has no such instructions.
 * @throws Error for bf16 on a backend that computes in f32 only.
 */
function applyPrecision(dtype: ReplicaArguments['dtype']): void {
  const access = hostAccess();
  if (access.setPrecision) access.setPrecision(dtype);
  else if (dtype !== 'f32') {
    throw new Error(
      `--dtype=${dtype}: the backend '${tf.getBackend()}' computes in 32 bits only.\nhelp: use --dtype=fp32, or the backend onednn.`,
    );
  }
}
