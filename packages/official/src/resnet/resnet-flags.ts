/*
 * The flags of the ResNet mains: `define_resnet_flags` of upstream's resnet_run_loop, the defaults that cifar10_main
 * and imagenet_main set, and the parameters that a run writes into the benchmark log. Lockstep's own flags are defined
 * along with them.
 */

import { requireFinite, requirePath } from '../utils/flags/checks.js';
import {
  type DtypeName,
  flags as defaultFlags,
  defineBase,
  defineBenchmark,
  defineImage,
  defineLockstep,
  definePerformance,
  type FlagsObject,
  type FlagValues,
  setDefaults,
  UsageError,
} from '../utils/flags/core.js';
import type { TrainingRecipe } from './lr-schedule.js';

declare module '../utils/flags/flag-values.js' {
  interface FlagTypes {
    resnet_version: '1' | '2';
    resnet_size: string;
    fine_tune: boolean;
    pretrained_model_checkpoint_path: string | null;
    eval_only: boolean;
    image_bytes_as_serving_input: boolean;
    use_train_and_evaluate: boolean;
    worker_hosts: string | null;
    task_index: number;
    enable_lars: boolean;
    label_smoothing: number;
    weight_decay: number;
    lr_boundary_epochs: readonly string[] | null;
    random_flip: boolean;
    batch_norm_decay: number;
    num_classes: number | null;
    image_size: number;
    skip_bad_records: number;
  }
}

/** Options of defineResnetFlags. */
export interface ResnetFlagOptions {
  /** Makes resnet_size an enum of these; without them it is a free text that the model checks. */
  resnetSizeChoices?: readonly string[];
  /** Lets --loss_scale be `dynamic`. */
  dynamicLossScale?: boolean;
}

const group = 'ResNet';

/** Sizes that the ImageNet main offers. */
export const IMAGENET_RESNET_SIZES = ['18', '34', '50', '101', '152', '200'] as const;

/** Defines base, performance, image, benchmark and our own flags, and the ResNet's; the latter are all key flags. */
export function defineResnetFlags(options: ResnetFlagOptions = {}, flags: FlagValues = defaultFlags): void {
  defineBase({}, flags);
  definePerformance(
    {
      num_parallel_calls: false,
      tf_gpu_thread_mode: true,
      datasets_num_private_threads: true,
      datasets_num_parallel_batches: true,
      dynamic_loss_scale: options.dynamicLossScale ?? true,
    },
    flags,
  );
  defineImage({}, flags);
  defineBenchmark({}, flags);
  defineLockstep({}, flags);

  const size = {
    name: 'resnet_size',
    shortName: 'rs',
    default: '50',
    group,
    key: true,
  };
  if (options.resnetSizeChoices) {
    flags.DEFINE_enum({ ...size, enumValues: options.resnetSizeChoices, help: 'Layers of the network.' });
  } else {
    flags.DEFINE_string({
      ...size,
      help: 'Layers of the network. For CIFAR-10 6n + 2: 8, 14, 20, 32, 44, 56, 110, ….',
    });
  }
  flags.DEFINE_enum({
    name: 'resnet_version',
    shortName: 'rv',
    default: '1',
    enumValues: ['1', '2'],
    group,
    key: true,
    help: 'Version of the network: 1 normalises after each convolution (v1.5 where blocks are bottlenecks), 2 before it.',
  });
  flags.DEFINE_bool({
    name: 'fine_tune',
    shortName: 'ft',
    default: false,
    group,
    key: true,
    help: 'Train the final dense layer only, and keep all other weights.',
  });
  flags.DEFINE_string({
    name: 'pretrained_model_checkpoint_path',
    shortName: 'pmcp',
    default: null,
    group,
    key: true,
    help: "Checkpoint from which everything but the dense layer is initialised: a safetensors file, TensorFlow's prefix such as DIR/model.ckpt-112603, or a folder of either. A checkpoint in model_dir goes before it.",
  });
  requirePath(flags, 'pretrained_model_checkpoint_path');
  flags.DEFINE_bool({
    name: 'eval_only',
    default: false,
    group,
    key: true,
    help: 'Train nothing; evaluate the newest checkpoint in model_dir.',
  });
  flags.DEFINE_bool({
    name: 'image_bytes_as_serving_input',
    default: false,
    group,
    key: true,
    help: 'Upstream: export a model that takes JPEG bytes. TensorFlow.js decodes none, so the exported model takes pixels from 0 to 255 all the same, and the flag changes nothing. Only for ImageNet.',
  });
  flags.DEFINE_bool({
    name: 'use_train_and_evaluate',
    default: false,
    group,
    key: true,
    help: 'Upstream: one call that trains and evaluates. Here both ways give the same results, logs and exports, so the flag changes nothing.',
  });
  flags.DEFINE_string({
    name: 'worker_hosts',
    default: null,
    group,
    key: true,
    help: 'Addresses ip:port of all workers, separated by commas, the same list in the same order on every host.',
  });
  flags.DEFINE_integer({
    name: 'task_index',
    default: -1,
    lowerBound: -1,
    group,
    local: true,
    key: true,
    help: 'Index of this worker in worker_hosts; needed for two or more workers.',
  });
  flags.DEFINE_bool({
    name: 'enable_lars',
    default: false,
    group,
    key: true,
    help: 'Use the LARS optimizer with its own learning-rate schedule, for very large batches.',
  });
  flags.DEFINE_float({
    name: 'label_smoothing',
    default: 0,
    lowerBound: 0,
    upperBound: 1,
    group,
    key: true,
    help: 'Share of the target probability that is spread evenly over all classes. CIFAR-10 does not use it, as upstream.',
  });
  flags.DEFINE_float({
    name: 'weight_decay',
    default: 1e-4,
    lowerBound: 0,
    group,
    key: true,
    help: 'Coefficient of the L2 term of the loss. CIFAR-10 does not use it and has 2e-4 fixed, as upstream.',
  });
  requireFinite(flags, 'weight_decay');
  flags.DEFINE_list({
    name: 'lr_boundary_epochs',
    default: null,
    group,
    key: true,
    help: 'Ours: epochs after which the learning rate falls to a tenth, ascending, such as 6,9. Without the flag the official ones (CIFAR-10 91,136,182), which a shorter run never reaches. An empty text keeps the rate constant.',
  });
  flags.registerValidator(
    'lr_boundary_epochs',
    (value) => value === null || isAscending((value as readonly string[]).map(epochOf)),
    'lr_boundary_epochs should be epochs, none negative, ascending, such as 6,9.',
  );
  flags.DEFINE_float({
    name: 'batch_norm_decay',
    default: 0.997,
    lowerBound: 0,
    upperBound: 1,
    group,
    key: true,
    help: 'Ours: how much of the old value the moving averages of batch norm keep in a step. Evaluation uses them; the official 0.997 averages over the last 333 steps or so, which is too many while the learning rate is high: in the first epochs 0.9 evaluates what the network can do by then.',
  });
  flags.registerValidator(
    'batch_norm_decay',
    (value) => (value as number) < 1,
    'batch_norm_decay should be less than 1: averages that keep everything never begin to move',
  );
  flags.DEFINE_bool({
    name: 'random_flip',
    default: true,
    group,
    key: true,
    help: 'Ours: mirror training images left to right at random, as the official recipe does. --norandom_flip is for images that mean something else, or nothing, when mirrored: digits, letters.',
  });
}

/** Number('') is 0 and Number('0x10') is 16; an epoch is neither. */
function epochOf(text: string): number {
  return /^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
}

function isAscending(values: readonly number[]): boolean {
  return values.every((value, i) => value >= (i === 0 ? 0 : (values[i - 1] as number)) && value < Infinity);
}

/** The recipe's schedule, or the one that --lr_boundary_epochs puts in its place: a tenth at each boundary. */
export function boundariesOf(flags: FlagsObject, recipe: TrainingRecipe): TrainingRecipe {
  if (flags.lr_boundary_epochs === null) return recipe;
  const boundaryEpochs = flags.lr_boundary_epochs.map(Number);
  return { ...recipe, boundaryEpochs, decayRates: [1, ...boundaryEpochs.map((_, i) => 10 ** -(i + 1))] };
}

/** All flags of the CIFAR-10 main, with its defaults (upstream's cifar10_main.define_cifar_flags). */
export function defineCifarFlags(flags: FlagValues = defaultFlags): FlagValues {
  defineResnetFlags({}, flags);
  setDefaults(
    {
      data_dir: '/tmp/cifar10_data/cifar-10-batches-bin',
      model_dir: '/tmp/cifar10_model',
      resnet_size: '56',
      train_epochs: 182,
      epochs_between_evals: 10,
      batch_size: 128,
      image_bytes_as_serving_input: false,
    },
    flags,
  );
  return flags;
}

/** All flags of the ImageNet main, with its defaults (upstream's imagenet_main.define_imagenet_flags). */
export function defineImagenetFlags(flags: FlagValues = defaultFlags): FlagValues {
  defineResnetFlags({ resnetSizeChoices: IMAGENET_RESNET_SIZES }, flags);
  setDefaults({ train_epochs: 90 }, flags);
  flags.DEFINE_integer({
    name: 'num_classes',
    default: null,
    lowerBound: 2,
    group,
    key: true,
    help: 'Ours: classes that the network tells apart. Without the flag as many as labels.txt in data_dir has lines, and 1001 without that file: ImageNet’s 1000 and 0 for none of them.',
  });
  flags.DEFINE_integer({
    name: 'image_size',
    default: 224,
    lowerBound: 32,
    upperBound: 4096,
    group,
    key: true,
    help: 'Ours: height and width of the images that the network sees, in pixels.',
  });
  flags.DEFINE_integer({
    name: 'skip_bad_records',
    default: 0,
    lowerBound: 0,
    group,
    key: true,
    help: 'Ours: go on without up to so many records that cannot be read; the next one takes the place of each. The end of the run names them.',
  });
  return flags;
}

/**
 * Refuses the flags that cannot have their effect on this machine, and names those that have none.
 *
 * @returns one sentence for each given flag without effect; to be logged once.
 * @throws UsageError for the GPU thread flags: there is no pool of GPU threads to configure.
 */
export function checkFlagsHere(flags: FlagValues): string[] {
  for (const name of ['tf_gpu_thread_mode', 'per_gpu_thread_count'] as const) {
    const value = flags.get(name);
    if (value !== null && value !== 0) {
      throw new UsageError(`flag --${name}=${value}: this machine's devices have no GPU threads`, {
        flag: name,
        value: String(value),
        remedy: 'Leave it out; --intra_op_parallelism_threads sets the threads of each replica.',
      });
    }
  }
  const notes: string[] = [];
  if (flags.get('data_format') === 'channels_first') {
    notes.push(
      '--data_format=channels_first has no effect: the backend chooses the order in memory, and the results are the same.',
    );
  }
  if (flags.get('use_train_and_evaluate')) {
    notes.push(
      '--use_train_and_evaluate has no effect: both ways train and evaluate alike, and nothing that upstream drops there is dropped.',
    );
  }
  const inter = flags.get('inter_op_parallelism_threads');
  if (inter > 1) {
    notes.push(
      `--inter_op_parallelism_threads=${inter} has no effect: a replica runs one kernel at a time. Use --intra_op_parallelism_threads for the threads of a kernel.`,
    );
  }
  for (const name of ['datasets_num_private_threads', 'datasets_num_parallel_batches'] as const) {
    if (flags.get(name) !== null && flags.get('use_synthetic_data')) {
      notes.push(`--${name}=${flags.get(name)} has no effect with --use_synthetic_data: nothing is read or prepared.`);
    }
  }
  for (const name of [
    'gcp_project',
    'bigquery_data_set',
    'bigquery_run_table',
    'bigquery_run_status_table',
    'bigquery_metric_table',
  ] as const) {
    if (flags.isGiven(name)) notes.push(`--${name} has no effect: there is no BigQuery logger here.`);
  }
  return notes;
}

/** The parameters of a run as the benchmark log records them: upstream's, and the two that it leaves out. */
export interface ResnetRunParameters {
  [name: string]: string | number | boolean | null;
  batch_size: number;
  dtype: DtypeName;
  resnet_size: string;
  resnet_version: string;
  synthetic_data: boolean;
  train_epochs: number;
  num_workers: number;
  num_packs: number | 'auto';
  all_reduce_alg: string | null;
}

/**
 * What a run writes under `run_parameters` in benchmark_run.log.
 *
 * @param chosen the algorithm and pack count in force, where they differ from the flags (no algorithm named).
 */
export function resnetRunParameters(
  flagsObj: FlagsObject,
  numWorkers: number,
  chosen: { allReduceAlg?: string | null; numPacks?: number | 'auto' } = {},
): ResnetRunParameters {
  return {
    batch_size: flagsObj.batch_size,
    dtype: flagsObj.dtype,
    resnet_size: flagsObj.resnet_size,
    resnet_version: flagsObj.resnet_version,
    synthetic_data: flagsObj.use_synthetic_data,
    train_epochs: flagsObj.train_epochs,
    num_workers: numWorkers,
    num_packs: chosen.numPacks ?? flagsObj.num_packs,
    all_reduce_alg: chosen.allReduceAlg === undefined ? flagsObj.all_reduce_alg : chosen.allReduceAlg,
  };
}
