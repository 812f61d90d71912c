/**
 * The main thread of a ResNet run (upstream's resnet_run_loop.resnet_main): flags become a strategy and a plan, replicas run
 * in threads of their own (replica/resnet-replica.ts), and what they report becomes progress, hooks and logs. It computes nothing.
 */
import { realpathSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import {
  describeGpus,
  type Facts,
  launchedProcess,
  listDevices,
  OneDeviceStrategy,
  resolveCluster,
  type Strategy,
} from '@lockstep/distribute';
import type { DataSet } from '../data/data-set.js';
import { EventFileWriter } from '../summary/event-file.js';
import { SummaryObserver } from '../summary/summary-observer.js';
import type { Checkpoint } from '../utils/checkpoint/checkpoint-manager.js';
import { LOCK_NAME, ModelDirLock } from '../utils/checkpoint/model-dir-lock.js';
import { checkExportFolder, ExportError } from '../utils/export/export-folder.js';
import { probeFolder, reasonOf } from '../utils/files/file-errors.js';
import {
  type FlagsObject,
  type FlagValues,
  getLossScale,
  getNumGpus,
  getProfileSteps,
  UsageError,
} from '../utils/flags/core.js';
import { formatValue } from '../utils/flags/flag.js';
import { benchmarkObserver } from '../utils/logs/benchmark-observer.js';
import { PROFILER_SAVE_STEPS, type TrainHook } from '../utils/logs/hooks.js';
import { getTrainHooks } from '../utils/logs/hooks-helper.js';
import { HooksObserver } from '../utils/logs/hooks-observer.js';
import type { Log } from '../utils/logs/log.js';
import { BaseBenchmarkLogger } from '../utils/logs/logger.js';
import { type EvaluationResult, observeAll, type RunObserver } from '../utils/logs/run-observer.js';
import { writeTimeline } from '../utils/logs/timeline.js';
import { planClean } from '../utils/misc/clean-model-dir.js';
import { configureCluster } from '../utils/misc/cluster.js';
import { getDistributionStrategy, perReplicaBatchSize } from '../utils/misc/distribution-utils.js';
import { markModelDir } from '../utils/misc/model-helpers.js';
import { RunSummary } from '../utils/progress/run-summary.js';
import { createScreen, type Screen } from '../utils/progress/screen.js';
import { ScreenObserver } from '../utils/progress/screen-observer.js';
import { checkQuantization, exportResnet } from './export/export-resnet.js';
import { inputRemark } from './input-remark.js';
import type { TrainingRecipe } from './lr-schedule.js';
import type { ReplicaArguments, ReplicaMessage, ReplicaResult } from './replica/arguments.js';
import { placeOf, readRun, runCheckpoints, stateOf } from './replica/run-state.js';
import type { ProfileOptions } from './replica/step-profile.js';
import { boundariesOf, checkFlagsHere, resnetRunParameters } from './resnet-flags.js';
import type { ResNetPlan } from './resnet-model.js';
import { factsOf, remarkOnGrace, strategyFactories } from './resnet-workers.js';

/** A predecessor that was told to end is gone by then: mpirun kills what stays. */
const PREDECESSOR_MS = 15_000;
/** The input pipeline's threads in each replica, and batches ahead of each, without flags. */
const INPUT_THREADS = 1;
const INPUT_AHEAD = 2;

/** What a main (CIFAR-10, ImageNet) brings. */
export interface ResnetMainOptions {
  readonly flags: FlagValues;
  readonly plan: ResNetPlan;
  readonly recipe: TrainingRecipe;
  /** For the benchmark log: 'CIFAR-10'. */
  readonly datasetName: string;
  /** Variables whose name contains this do not decay; null: all do. */
  readonly decayExcept: string | null;
  /** Opens a split; not called with synthetic data. */
  readonly open: (isTraining: boolean) => DataSet;
  /** Where metrics go. Default: into the log. */
  readonly benchmarkLogger?: BaseBenchmarkLogger;
  /** Where the run shows itself. Default: on standard error, as the flags say. */
  readonly screen?: Screen;
  /** Ends the run gracefully: finish the step, save, return. */
  readonly signal?: AbortSignal;
}

/** What a run gives back. */
export interface ResnetMainResult {
  readonly evaluation: EvaluationResult | null;
  readonly globalStep: number;
  readonly checkpoint: string | null;
  /** Folder of the model that was exported. */
  readonly exported: string | null;
  readonly interrupted: boolean;
  readonly seed: number;
  readonly strategy: string;
  /** Of all workers together. */
  readonly replicas: number;
  readonly workers: number;
  /** Whether this process writes checkpoints and logs, and speaks for the run. */
  readonly isChief: boolean;
  readonly replicaResults: readonly ReplicaResult[];
  readonly trainHooks: readonly TrainHook[];
}

/** Trains and evaluates as the flags say. @throws UsageError, DataError, ReplicaError, … each with a remedy. */
export async function resnetMain(options: ResnetMainOptions): Promise<ResnetMainResult> {
  const { flags, recipe } = options;
  const { FLAGS } = flags;
  // One process speaks for the run: rank 0, which every kind of cluster makes the chief.
  const isChief = (launchedProcess()?.rank ?? 0) === 0;
  const screen = options.screen ?? createScreen(FLAGS, { silent: !isChief });
  const numWorkers = configureCluster(FLAGS.worker_hosts, FLAGS.task_index);
  const { log } = screen;
  const benchmarkLogger = options.benchmarkLogger ?? new BaseBenchmarkLogger({ log: screen.detail });
  for (const note of checkFlagsHere(flags)) log.warning(note);
  refuseWhatIsMissing(flags);
  if (isChief) checkExport(FLAGS);
  checkMemory(options);
  if (isChief) await checkModelDir(FLAGS, log);
  const data: Record<string, number> = {};
  const { strategy, replicas } = chooseStrategy(options, numWorkers, log, () => factsOf(flags, options.plan, data));
  // As upstream, --batch_size is each worker's; the learning rate is that of all together.
  perReplicaBatchSize(FLAGS.batch_size, strategy.devices.length, gpusOf(FLAGS) > 0 ? 'GPUs' : 'CPU devices');
  const batchSize = FLAGS.batch_size * numWorkers;
  const remark = numWorkers > 1 ? remarkOnGrace() : null;
  if (remark) log.info(remark);
  const trainHooks = getTrainHooks(isChief ? (FLAGS.hooks ?? []) : [], {
    modelDir: FLAGS.model_dir,
    batchSize,
    benchmarkLogger,
    // With a bar on the screen the step's figures are in the bar.
    log: screen.style === 'bar' ? { info() {}, warning: log.warning } : log,
  });

  const trainEpochs = FLAGS.eval_only ? 0 : FLAGS.train_epochs;
  const synthetic = FLAGS.use_synthetic_data;
  // A parameter server holds variables and sees no data.
  const isServer = strategy.role === 'server';
  const train = synthetic || isServer || trainEpochs === 0 ? null : open(options, true);
  const validation = synthetic || isServer ? null : open(options, false);
  Object.assign(data, { 'training images': train?.count ?? 0, 'validation images': validation?.count ?? 0 });

  // Everybody's decision alike: what evaluations show is summed over all. The chief writes.
  const summaries = writes(FLAGS) && FLAGS.save_summary_steps > 0;
  const hasEvents = isChief && summaries;
  const summary = new RunSummary({ batchSize, replicas, modelDir: FLAGS.model_dir, hasEvents });
  let observer = observeAll([]);
  const lock = isChief && writes(FLAGS) ? await takeModelDir(FLAGS.model_dir, log, options.signal) : null;
  try {
    // Looked at again now that nobody else writes there. What is to go goes when the replicas are ready to train.
    const clean = isChief ? planClean(FLAGS) : null;
    const begun = isChief && clean === null ? newestCheckpoint(FLAGS.model_dir) : null;
    const seed = chooseSeed(FLAGS, begun, strategy, log);
    // Data sets other than the official one (the digits) keep the recipe's epochs.
    const numImages = train?.count ?? recipe.numImages;
    const position = !strategy.isInStep
      ? (strategy.fromChief?.(begun && placeOf(stateOf(begun.metadata), numImages, batchSize)) ?? null)
      : null;
    // Meeting the other workers may have taken minutes.
    lock?.check();
    observer = observeAll([
      new HooksObserver(trainHooks),
      new ScreenObserver(screen, { epochs: trainEpochs, batchSize }),
      benchmarkObserver(benchmarkLogger),
      {
        timeline: (timeline) => {
          if (timeline.isAsked) writeTimeline(FLAGS.model_dir, timeline, log);
        },
      },
      summary,
      ...(hasEvents ? [summariesOf(flags, { batchSize, replicas, strategy: strategy.name }, log)] : []),
    ]);
    if (isChief) {
      observer.begin({
        modelName: 'resnet',
        datasetName: synthetic ? `${options.datasetName}-synthetic` : options.datasetName,
        parameters: resnetRunParameters(FLAGS, numWorkers, chosenReduction(strategy)),
        ...(FLAGS.benchmark_test_id ? { testId: FLAGS.benchmark_test_id } : {}),
      });
    }

    const args: ReplicaArguments = {
      plan: options.plan,
      seed,
      modelDir: FLAGS.model_dir,
      clean,
      batchSize,
      epochs: { total: trainEpochs, betweenEvals: FLAGS.epochs_between_evals },
      maxTrainSteps: FLAGS.max_train_steps,
      recipe: {
        ...boundariesOf(FLAGS, recipe),
        numImages,
        batchSize,
        ...(!strategy.isInStep ? { batchDenom: recipe.batchDenom * numWorkers } : {}),
      },
      position,
      momentum: recipe.momentum,
      lars: FLAGS.enable_lars ? { flagBatchSize: FLAGS.batch_size } : null,
      labelSmoothing: FLAGS.label_smoothing,
      weightDecay: recipe.weightDecay ?? FLAGS.weight_decay,
      decayExcept: options.decayExcept,
      lossScale: getLossScale(FLAGS),
      train,
      validation,
      fineTune: FLAGS.fine_tune,
      pretrained: FLAGS.pretrained_model_checkpoint_path,
      randomFlip: FLAGS.random_flip,
      batchNormDecay: FLAGS.batch_norm_decay,
      inputThreads: FLAGS.datasets_num_private_threads ?? INPUT_THREADS,
      inputAhead: FLAGS.datasets_num_parallel_batches ?? INPUT_AHEAD,
      stopThreshold: FLAGS.stop_threshold,
      saveSeconds: FLAGS.save_checkpoints_secs,
      saveSteps: FLAGS.save_checkpoints_steps,
      keepCheckpointMax: FLAGS.keep_checkpoint_max,
      checkpointFormat: FLAGS.checkpoint_format,
      dtype: FLAGS.dtype === 'bf16' || FLAGS.dtype === 'bf16_emulated' ? FLAGS.dtype : 'f32',
      reportEveryStep: observer.wantsEveryStep,
      profile: profileOf(FLAGS),
      summaries,
      histogramSteps: summaries ? FLAGS.save_histogram_steps : 0,
    };
    const replicaResults = await strategy.run<ReplicaResult>(
      new URL('./replica/resnet-replica.js', import.meta.url),
      args,
      {
        onReport: (_replica, message) => tell(observer, message as ReplicaMessage),
        // A step takes as long as it takes; whoever cannot wait sends a second signal.
        ...(options.signal ? { signal: options.signal, graceSeconds: Number.POSITIVE_INFINITY } : {}),
        ...(FLAGS.intra_op_parallelism_threads > 0 ? { threadsPerReplica: FLAGS.intra_op_parallelism_threads } : {}),
      },
    );
    strategy.close?.();
    const [chief] = replicaResults as [ReplicaResult];
    const waited = isChief ? inputRemark(chief) : null;
    if (waited !== null) log.info(waited);
    if (isChief) for (const line of summary.lines) log.info(line);
    if (isChief && chief.interrupted && !options.signal?.aborted) {
      log.info('Stopped because another worker was told to; all stop at the same step.');
    }
    const exported = isChief ? exportModel(options, (train ?? validation)?.classNames ?? null, chief, log) : null;
    return {
      evaluation: chief.evaluation,
      globalStep: chief.globalStep,
      checkpoint: chief.checkpoint,
      exported,
      interrupted: chief.interrupted,
      seed,
      strategy: strategy.name,
      replicas,
      workers: numWorkers,
      isChief,
      replicaResults,
      trainHooks,
    };
  } finally {
    observer.end();
    lock?.release();
    if (!options.screen) screen.progress.finish();
  }
}

/** Which steps are traced: the same on all workers, whoever writes. */
function profileOf(FLAGS: FlagsObject): ProfileOptions {
  const isHooked = (FLAGS.hooks ?? []).some((name) => name.trim().toLowerCase() === 'profilerhook');
  return { everySteps: isHooked ? PROFILER_SAVE_STEPS : null, steps: getProfileSteps(FLAGS.profile_steps) };
}

/** Before hours of training, not after them. @throws UsageError where the model could not be exported in the end */
function checkExport({ export_dir: to, export_format: format, quantize, model_dir: modelDir }: FlagsObject): void {
  if (to === null) return;
  checkQuantization(format, quantize);
  const refuse = (problem: string, remedy: string) => {
    throw new UsageError(problem, { flag: 'export_dir', value: to, remedy });
  };
  if (resolve(to) === resolve(modelDir)) {
    refuse(`flag --export_dir=${to}: it is --model_dir, where checkpoints are`, 'Name another folder.');
  }
  try {
    checkExportFolder(to, 'flag --export_dir');
  } catch (error) {
    if (!(error instanceof ExportError)) throw error;
    refuse(error.problem, `help: ${error.remedy}`);
  }
}

/** What training left, or what was evaluated. @returns its folder */
function exportModel(
  { flags: { FLAGS }, plan }: ResnetMainOptions,
  labels: readonly string[] | null,
  { checkpoint, interrupted }: ReplicaResult,
  log: Log,
): string | null {
  const { export_dir: to, export_format: format, quantize: quantization } = FLAGS;
  if (to === null) return null;
  if (interrupted || checkpoint === null) {
    log.warning(
      `--export_dir: nothing is exported: ${interrupted ? 'the run is not over' : 'there is no checkpoint'}.`,
    );
    return null;
  }
  const { entry } = exportResnet({
    from: checkpoint,
    to,
    format,
    quantization,
    imageSize: plan.imageShape[0],
    labels,
    what: 'flag --export_dir',
  });
  log.info(`Exported ${join(to, entry)}`);
  return to;
}

/** Event files, for TensorBoard and the board. */
function summariesOf(
  flags: FlagValues,
  run: { readonly batchSize: number; readonly replicas: number; readonly strategy: string },
  log: Log,
): RunObserver {
  const { save_summary_steps: everySteps, model_dir: folder } = flags.FLAGS;
  const writer = new EventFileWriter(folder, { warn: (line) => log.warning(line) });
  const { batchSize, replicas, strategy } = run;
  // Where machines may differ is nobody's business but theirs: folders, threads, the screen.
  const given = flags.definitions().filter(({ name, local }) => !local && flags.isGiven(name));
  const values = given.map(({ name }) => [name, formatValue(flags.FLAGS[name as keyof FlagsObject])]);
  const parameters = { strategy, replicas, ...Object.fromEntries(values) };
  return new SummaryObserver(writer, { everySteps, batchSize, replicas, parameters });
}

/** @throws Error where the network is not made for such images. */
function open({ open: read, plan }: ResnetMainOptions, isTraining: boolean): DataSet {
  const dataSet = read(isTraining);
  const { name, numClasses, imageShape } = dataSet;
  if (`${imageShape}` === `${plan.imageShape}` && numClasses === plan.numClasses) return dataSet;
  throw new Error(
    `${name} has images of ${imageShape.join(' × ')} in ${numClasses} classes, and the network takes ` +
      `${plan.imageShape.join(' × ')} in ${plan.numClasses}.\nhelp: the program's plan and its data set have to agree.`,
  );
}

/** The strategy that the flags name; `off` runs on one device without the strategy's name. */
function chooseStrategy(
  { flags }: ResnetMainOptions,
  numWorkers: number,
  log: Log,
  facts: () => Facts,
): { strategy: Strategy; replicas: number } {
  const { FLAGS } = flags;
  const gpus = gpusOf(FLAGS);
  // `off` with several of them is refused in upstream's words, whether they are there or not.
  if (gpus === 1 || FLAGS.distribution_strategy.toLowerCase() !== 'off') requireGpus(gpus);
  // Processes that a launcher started belong together, whatever the strategy: two runs in one model_dir would be a mess.
  if ((launchedProcess()?.size ?? 1) > 1) resolveCluster();
  const chosen = getDistributionStrategy({
    distributionStrategy: FLAGS.distribution_strategy,
    numGpus: gpus,
    numCpus: FLAGS.num_cpus === 0 ? 1 : FLAGS.num_cpus,
    numWorkers,
    allReduceAlg: FLAGS.all_reduce_alg,
    // Upstream's default of 1 is nobody's wish: between workers the strategy chooses then.
    ...(flags.isGiven('num_packs') || numWorkers === 1 ? { numPacks: FLAGS.num_packs } : {}),
    onWarning: (line) => log.warning(line),
    log: (line) => log.info(line),
    factories: strategyFactories(FLAGS, log, facts),
  });
  if (numWorkers === 1 && flags.isGiven('gradient_dtype')) {
    log.warning(
      `--gradient_dtype=${FLAGS.gradient_dtype} has no effect with one worker: no gradient leaves the process.`,
    );
  }
  const strategy = chosen ?? withoutStrategy(gpus);
  return { strategy, replicas: strategy.numReplicasInSync };
}

/** What `off` runs on: TensorFlow places what no strategy places on the first GPU, if there is one. */
export function withoutStrategy(gpus: number): Strategy {
  return new OneDeviceStrategy(gpus > 0 ? 'gpu:0' : 'cpu:0');
}

/** The flag, or with -1 the GPUs that device providers offer here. */
export function gpusOf(flagsObj: FlagValues['FLAGS']): number {
  return getNumGpus(flagsObj, () => listDevices({ numCpus: 1 }));
}

/** Upstream's default is 1, so command lines have it. @throws UsageError where there are not so many, with those that there are. */
export function requireGpus(count: number): void {
  if (count <= 0) return;
  const available = listDevices({ numCpus: 1 }).filter(({ type }) => type === 'GPU').length;
  if (count <= available) return;
  const [found, ...advice] = describeGpus().split('\n');
  const remedy = [
    'Use --num_gpus=0, which is the default here: replicas run on CPU cores then, --num_cpus of them.',
    ...advice,
  ].join('\n');
  throw new UsageError(`flag --num_gpus=${count}: ${found?.replace(/\.$/, '')}`, {
    ...{ flag: 'num_gpus', value: String(count), remedy },
  });
}

/** For the benchmark log: the algorithm that is in force, also where the strategy chose it. */
function chosenReduction(strategy: Strategy): { allReduceAlg?: string } {
  const { allReduceAlgorithm } = strategy;
  return allReduceAlgorithm ? { allReduceAlg: allReduceAlgorithm } : {};
}

/** Flags that upstream has and this program does not yet carry out are errors, not silence. */
function refuseWhatIsMissing(flags: FlagValues): void {
  const { FLAGS } = flags;
  const refuse = (name: string, value: unknown, why: string, remedy: string): never => {
    throw new UsageError(`flag --${name}=${value}: ${why}`, { flag: name, value: String(value), remedy });
  };
  if (FLAGS.dtype === 'fp16') {
    refuse('dtype', 'fp16', 'no device here computes in fp16', 'Use --dtype=bf16, or fp32.');
  }
}

/** What can be said of the flags that are about model_dir, before anything is read or made. */
async function checkModelDir(flagsObj: FlagsObject, log: Log): Promise<void> {
  const { resume, eval_only: evalOnly, model_dir: modelDir, pretrained_model_checkpoint_path: pretrained } = flagsObj;
  const origin = pretrained === null ? null : readRun(pretrained).path;
  if (writes(flagsObj)) await naming(modelDir, () => probeFolder(modelDir, LOCK_NAME));
  const clean = planClean(flagsObj);
  if (origin !== null && clean?.files.some(({ path }) => path === realpathSync(origin))) {
    throw new UsageError(`flag --clean: it would delete ${origin}, which --pretrained_model_checkpoint_path names`, {
      flag: 'clean',
      value: 'true',
      remedy: 'Choose another --model_dir.',
    });
  }
  // With --clean there is nothing to go on from, nor to evaluate.
  const newest = clean === null ? runCheckpoints(modelDir).steps().at(-1) : undefined;
  if (!resume && newest !== undefined) {
    throw new UsageError(`flag --resume=false: ${modelDir} has a checkpoint of step ${newest}.`, {
      flag: 'resume',
      value: 'false',
      remedy: 'Choose another --model_dir, or add --clean to delete it.',
    });
  }
  if (evalOnly && newest === undefined) {
    log.warning(`Could not find trained model in model_dir: ${modelDir}, running initialization to evaluate.`);
  }
}

/** Makes the folder and takes its lock. */
async function takeModelDir(modelDir: string, log: Log, signal?: AbortSignal): Promise<ModelDirLock> {
  return await naming(modelDir, async () => {
    markModelDir(modelDir);
    return await ModelDirLock.acquire(modelDir, {
      // A job that is started again may meet its predecessor's last moments.
      patienceMs: launchedProcess() ? PREDECESSOR_MS : 0,
      log: (line) => log.info(line),
      ...(signal && { signal }),
    });
  });
}

/** The file system's errors with the flag, the folder, the reason and what to do. */
async function naming<T>(modelDir: string, action: () => T | Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new Error(
      `--model_dir=${modelDir} cannot be written to: ${reasonOf(error)}.\nhelp: choose a folder that you may write to.`,
      { cause: error },
    );
  }
}

/** Whoever only evaluates writes nothing into model_dir, and may do so beside a run that trains. */
function writes({ eval_only: evalOnly, train_epochs: trainEpochs, clean }: FlagsObject): boolean {
  return clean || (!evalOnly && trainEpochs > 0);
}

/** Images that do not fit into memory: found out before anything is read or made. What the network adds is another matter. */
function checkMemory({ flags, plan }: ResnetMainOptions): void {
  const {
    batch_size: batchSize,
    use_synthetic_data: synthetic,
    datasets_num_private_threads: threads,
    datasets_num_parallel_batches: ahead,
  } = flags.FLAGS;
  const batches = synthetic ? 1 : (threads ?? INPUT_THREADS) * (ahead ?? INPUT_AHEAD);
  const bytes = 4 * batchSize * batches * plan.imageShape.reduce((a, b) => a * b, 1);
  if (bytes <= totalmem()) return;
  const gigabytes = (value: number) => `${(value / 1e9).toFixed(1)} GB`;
  throw new UsageError(
    `flag --batch_size=${batchSize}: its images alone, in ${batches} batch${batches === 1 ? '' : 'es'}, take ${gigabytes(bytes)}, and this machine has ${gigabytes(totalmem())}`,
    { flag: 'batch_size', value: String(batchSize), remedy: 'Choose a smaller one.' },
  );
}

/** The one that the run goes on from. The chief's replica reads it again, and says what it passes over. */
function newestCheckpoint(modelDir: string): Checkpoint | null {
  return runCheckpoints(modelDir, { warn: () => {} }).latest();
}

/**
 * The flag's, else that of the checkpoint that the run goes on from, else a drawn one: the chief's on all workers. Random
 * numbers are functions of the seed, so that with another one the rest of the run is another.
 */
function chooseSeed(flagsObj: FlagsObject, begun: Checkpoint | null, strategy: Strategy, log: Log): number {
  const state = begun && stateOf(begun.metadata);
  const before = state && !state.isForeign ? state.seed : null;
  if (flagsObj.seed !== null) {
    if (before !== null && before !== flagsObj.seed && !flagsObj.eval_only) {
      log.warning(
        `--seed=${flagsObj.seed} is not the seed of ${begun?.path}, which is ${before}: the order of images and their distortions are others from here on.`,
      );
    }
    return flagsObj.seed;
  }
  const mine = before ?? drawSeed();
  const seed = strategy.fromChief?.(mine) ?? mine;
  log.info(
    before === null
      ? `seed ${seed} (drawn; --seed=${seed} repeats this run)`
      : `seed ${seed} (of the checkpoint that this run goes on from)`,
  );
  return seed;
}

function drawSeed(): number {
  return Math.floor(Math.random() * 2 ** 32);
}

/** What replica 0 tells, to whoever wants to know. */
function tell(observers: Required<RunObserver>, message: ReplicaMessage): void {
  switch (message.kind) {
    case 'log':
      observers.line(message.line, message.detail ?? false);
      break;
    case 'call begins':
      observers.callBegins(message.globalStep);
      break;
    case 'step':
      observers.step(message);
      break;
    case 'summary':
      observers.summary(message.summary);
      break;
    case 'timeline':
      observers.timeline(message.timeline);
      break;
    case 'call ends':
      observers.callEnds(message.globalStep);
      break;
    case 'evaluation':
      observers.evaluation(message.result, message.details ?? undefined);
      break;
    case 'checkpoint':
      observers.checkpoint(message.path, message.globalStep);
      break;
    default:
      throw new Error(`a replica told what nobody knows: ${(message satisfies never as { kind: string }).kind}`);
  }
}
