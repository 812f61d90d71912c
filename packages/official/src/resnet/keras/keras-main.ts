/**
 * What the two Keras mains do (upstream's keras_cifar_main.py, keras_imagenet_main.py): flags become a strategy, every replica runs
 * keras-replica.ts, and the figures come back. What only one of them does is its {@link KerasProgram}.
 */
import type { Strategy } from '@lockstep/distribute';
import { RateMeter } from '@lockstep/distribute/progress';
import type { DataSet } from '../../data/data-set.js';
import { checkExportFolder, writeExportFolder } from '../../utils/export/export-folder.js';
import { type FlagsObject, FlagValues, getProfileSteps, parseFlags, UsageError } from '../../utils/flags/core.js';
import type { Log } from '../../utils/logs/log.js';
import { writeTimeline } from '../../utils/logs/timeline.js';
import { getDistributionStrategy, perReplicaBatchSize } from '../../utils/misc/distribution-utils.js';
import { INTERRUPTED, listenForInterrupt } from '../../utils/misc/interrupt.js';
import { momentOf } from '../../utils/progress/progress.js';
import { createScreen, type Screen } from '../../utils/progress/screen.js';
import type { MainIo } from '../resnet-main.js';
import { gpusOf, requireGpus, withoutStrategy } from '../resnet-run-loop.js';
import type { KerasStats } from './keras-common.js';
import { checkKerasFlags } from './keras-flags.js';
import type { KerasArguments, KerasMessage, KerasResult } from './keras-replica.js';

export interface KerasProgram {
  readonly name: string;
  readonly summary: string;
  /** Pictures of the official data set, where there are none: what an epoch of made-up ones is. */
  readonly numImages: { readonly train: number; readonly validation: number };
  define(flags: FlagValues): FlagValues;
  /** @throws UsageError for a network that there is not */
  network(
    flags: FlagsObject,
  ): Pick<KerasArguments, 'network' | 'schedule' | 'resnetSize' | 'imageShape' | 'numClasses' | 'labelShift'>;
  open(flags: FlagsObject, isTraining: boolean): DataSet;
}

/** As runProgram's, with the Keras mains' result. */
export interface KerasIo extends Omit<MainIo, 'onResult' | 'brief'> {
  readonly onStats?: (stats: KerasStats) => void;
}

/** @returns exit status: 0, 1 for a failed run, 2 for bad flags, 130 when interrupted */
export async function runKeras(program: KerasProgram, argv: readonly string[], io: KerasIo = {}): Promise<number> {
  const out = io.out ?? ((text) => process.stdout.write(text));
  const err = io.err ?? ((text) => process.stderr.write(text));
  const flags = program.define(new FlagValues({ program: program.name, summary: program.summary }));
  const interrupt = io.signal ? null : listenForInterrupt({ say: (line) => err(`${line}\n`) }, false);
  const signal = io.signal ?? interrupt?.signal;
  try {
    const { help } = parseFlags(argv, flags);
    if (help) {
      out(help.text);
      return 0;
    }
    await io.prepare?.(flags);
    const screen = createScreen(flags.FLAGS, io.stream ? { stream: io.stream } : {});
    try {
      const { stats, interrupted, steps } = await run(program, flags, screen, signal);
      io.onStats?.(stats);
      out(`${describe(stats)}\n`);
      if (!interrupted) return 0;
      screen.log.info(
        `Interrupted after step ${steps}: a Keras run keeps no checkpoints, so the same command begins anew.`,
      );
      return INTERRUPTED;
    } finally {
      screen.progress.finish();
    }
  } catch (error) {
    err(`${error instanceof Error ? error.message : String(error)}\n`);
    if (signal?.aborted && error === signal.reason) return INTERRUPTED;
    return error instanceof UsageError ? 2 : 1;
  } finally {
    interrupt?.stop();
  }
}

async function run(
  program: KerasProgram,
  flags: FlagValues,
  { log, progress }: Screen,
  signal?: AbortSignal,
): Promise<KerasResult> {
  const { FLAGS } = flags;
  for (const remark of checkKerasFlags(flags)) log.warning(remark);
  if (FLAGS.export_dir !== null) checkExportFolder(FLAGS.export_dir, 'flag --export_dir');
  const strategy = chooseStrategy(FLAGS, log);
  perReplicaBatchSize(FLAGS.batch_size, strategy.devices.length, gpusOf(FLAGS) > 0 ? 'GPUs' : 'CPU devices');
  // Upstream freezes the first batch on each device; made-up input here is one batch on each from the beginning.
  if (FLAGS.use_synthetic_data) log.info('Using pure synthetic data.');
  const args = argumentsOf(program, FLAGS);
  const total = args.epochs * args.stepsPerEpoch;
  const rate = new RateMeter();
  const results = await strategy.run<KerasResult>(new URL('./keras-replica.js', import.meta.url), args, {
    onReport: (_replica, message) => {
      const it = message as KerasMessage;
      if (it.kind === 'line') log.info(it.line);
      else if (it.kind === 'timeline') writeTimeline(FLAGS.model_dir, it.timeline, log);
      else {
        progress.update(
          momentOf({
            step: it.step,
            steps: total,
            epoch: it.step / args.stepsPerEpoch,
            epochs: args.epochs,
            loss: it.loss,
            accuracy: it.accuracy,
            imagesPerSecond: rate.add(it.step) * args.batchSize,
          }),
        );
      }
    },
    // A step takes as long as it takes; whoever cannot wait sends a second signal.
    ...(signal && { signal, graceSeconds: Number.POSITIVE_INFINITY }),
    ...(FLAGS.intra_op_parallelism_threads > 0 ? { threadsPerReplica: FLAGS.intra_op_parallelism_threads } : {}),
  });
  const [first] = results as [KerasResult];
  if (FLAGS.export_dir !== null && first.model) {
    const { json, weights } = first.model;
    const files = [
      { name: 'weights.bin', pieces: [new Uint8Array(weights)] },
      { name: 'model.json', pieces: [new TextEncoder().encode(json)] },
    ];
    writeExportFolder(FLAGS.export_dir, files, 'flag --export_dir');
    log.info(`Exported ${FLAGS.export_dir}/model.json`);
  }
  return first;
}

function argumentsOf(program: KerasProgram, FLAGS: FlagsObject): KerasArguments {
  const synthetic = FLAGS.use_synthetic_data;
  const train = synthetic ? null : program.open(FLAGS, true);
  const validation = synthetic || FLAGS.skip_eval ? null : program.open(FLAGS, false);
  const { batch_size: batchSize, train_steps: trainSteps } = FLAGS;
  const stepsIn = (images: number, what: string) => {
    const steps = Math.floor(images / batchSize);
    if (steps > 0) return steps;
    throw new UsageError(`flag --batch_size=${batchSize}: there are ${images} ${what} pictures, which make no batch`, {
      flag: 'batch_size',
      value: String(batchSize),
      remedy: 'Choose a smaller one.',
    });
  };
  const whole = stepsIn(train?.count ?? program.numImages.train, 'training');
  const evaluationSteps = FLAGS.skip_eval
    ? 0
    : stepsIn(validation?.count ?? program.numImages.validation, 'validation');
  const network = program.network(FLAGS);
  return {
    ...network,
    ...(FLAGS.use_trivial_model && { network: 'trivial' }),
    seed: FLAGS.seed ?? Math.floor(Math.random() * 2 ** 31),
    batchSize,
    epochs: trainSteps === null ? FLAGS.train_epochs : 1,
    epochsBetweenEvals: FLAGS.epochs_between_evals,
    stepsPerEpoch: Math.min(trainSteps ?? Number.POSITIVE_INFINITY, whole),
    // Of made-up pictures one batch is like all others.
    evaluationSteps: synthetic ? Math.min(1, evaluationSteps) : evaluationSteps,
    train,
    validation,
    logSteps: FLAGS.log_steps ?? 100,
    dtype: FLAGS.dtype === 'bf16' || FLAGS.dtype === 'bf16_emulated' ? FLAGS.dtype : 'f32',
    profileSteps: getProfileSteps(FLAGS.profile_steps),
    tensorBoardDir: FLAGS.enable_tensorboard ? FLAGS.model_dir : null,
    wantsModel: FLAGS.export_dir !== null,
  };
}

/** Strategies of one process: what a user's own `model.fit` runs under. */
function chooseStrategy(FLAGS: FlagsObject, log: Log): Strategy {
  const name = FLAGS.distribution_strategy.toLowerCase();
  if (name === 'multi_worker_mirrored' || name === 'parameter_server') {
    throw new UsageError(`flag --distribution_strategy=${name}: the Keras mains train in one process`, {
      flag: 'distribution_strategy',
      value: name,
      remedy: 'Use mirrored here, or `lockstep cifar10` and `lockstep imagenet` for many processes.',
    });
  }
  const gpus = gpusOf(FLAGS);
  if (gpus === 1 || name !== 'off') requireGpus(gpus);
  const chosen = getDistributionStrategy({
    distributionStrategy: FLAGS.distribution_strategy,
    numGpus: gpus,
    numCpus: FLAGS.num_cpus === 0 ? 1 : FLAGS.num_cpus,
    allReduceAlg: FLAGS.all_reduce_alg,
    numPacks: FLAGS.num_packs,
    onWarning: (line) => log.warning(line),
    log: (line) => log.info(line),
  });
  return chosen ?? withoutStrategy(gpus);
}

/** The figures, one a line. */
function describe(stats: KerasStats): string {
  const { step_timestamp_log: _log, train_finish_time: _time, ...figures } = stats;
  return Object.entries(figures)
    .map(([name, value]) => `${name}: ${Number(value).toPrecision(6)}`)
    .join('\n');
}
