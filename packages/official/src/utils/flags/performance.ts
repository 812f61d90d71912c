/*
 * Flags for tuning speed: upstream's `official/utils/flags/_performance.py`, with the getters for dtype and loss scale.
 * Reading a value such as the loss scale goes through its getter, because flags are never assigned to.
 */
import { cpus } from 'node:os';
import { MOST_THREADS } from './checks.js';
import type { FlagValues } from './flag-values.js';

declare module './flag-values.js' {
  interface FlagTypes {
    num_parallel_calls: number;
    inter_op_parallelism_threads: number;
    intra_op_parallelism_threads: number;
    use_synthetic_data: boolean;
    max_train_steps: number | null;
    dtype: DtypeName;
    loss_scale: string | null;
    all_reduce_alg: string | null;
    num_packs: number | 'auto';
    tf_gpu_thread_mode: string | null;
    per_gpu_thread_count: number;
    datasets_num_private_threads: number | null;
    datasets_num_parallel_batches: number | null;
  }
}

/** The texts that --dtype accepts. The bf16 ones are ours. */
export type DtypeName = 'fp16' | 'fp32' | 'bf16' | 'bf16_emulated';
/** TensorFlow's names of the compute types. */
export type TfDtype = 'float16' | 'float32' | 'bfloat16';

/** Flag text to [compute type, default loss scale]. bfloat16 has float32's range and needs no scale. */
export const DTYPE_MAP: Readonly<Record<DtypeName, readonly [TfDtype, number]>> = {
  fp16: ['float16', 128],
  fp32: ['float32', 1],
  bf16: ['bfloat16', 1],
  bf16_emulated: ['bfloat16', 1],
};

/** Which performance flags to define; the first eight are on, the others off, unless told otherwise. */
export interface PerformanceSwitches {
  num_parallel_calls?: boolean;
  /** Defines `inter_op_parallelism_threads`. */
  inter_op?: boolean;
  /** Defines `intra_op_parallelism_threads`. */
  intra_op?: boolean;
  /** Defines `use_synthetic_data`. */
  synthetic_data?: boolean;
  max_train_steps?: boolean;
  /** Defines `dtype` and `loss_scale`. */
  dtype?: boolean;
  all_reduce_alg?: boolean;
  num_packs?: boolean;
  /** Defines `tf_gpu_thread_mode` and `per_gpu_thread_count`. */
  tf_gpu_thread_mode?: boolean;
  datasets_num_private_threads?: boolean;
  datasets_num_parallel_batches?: boolean;
  /** Lets `loss_scale` be `dynamic`; defines no flag of its own. */
  dynamic_loss_scale?: boolean;
}

const group = 'Performance';

/**
 * Defines the performance flags.
 *
 * @returns names of the key flags among them: none, as upstream.
 */
export function definePerformance(flags: FlagValues, switches: PerformanceSwitches = {}): string[] {
  const on = (name: keyof PerformanceSwitches, standard: boolean) => switches[name] ?? standard;
  if (on('num_parallel_calls', true)) {
    flags.DEFINE_integer({
      name: 'num_parallel_calls',
      shortName: 'npc',
      default: cpus().length,
      lowerBound: 1,
      group,
      help: 'Records that the input pipeline prepares side by side. The default is the number of CPU cores.',
    });
  }
  if (on('inter_op', true)) {
    flags.DEFINE_integer({
      name: 'inter_op_parallelism_threads',
      shortName: 'inter',
      default: 0,
      lowerBound: 0,
      group,
      local: true,
      help: 'Kernels that run side by side in one replica. A replica here runs one kernel at a time on all of its threads, so 0 and 1 mean the same, and a larger number has no effect, which is said once.',
    });
  }
  if (on('intra_op', true)) {
    flags.DEFINE_integer({
      name: 'intra_op_parallelism_threads',
      shortName: 'intra',
      default: 0,
      lowerBound: 0,
      upperBound: MOST_THREADS,
      group,
      local: true,
      help: 'Threads on which each replica computes one kernel. 0 divides the cores of the machine by the number of replicas.',
    });
  }
  if (on('synthetic_data', true)) {
    flags.DEFINE_bool({
      name: 'use_synthetic_data',
      shortName: 'synth',
      default: false,
      group,
      help: 'Train on one batch of random images, repeated for ever, instead of a data set: for measuring speed without input. Such a run ends only by --max_train_steps.',
    });
  }
  if (on('max_train_steps', true)) {
    flags.DEFINE_integer({
      name: 'max_train_steps',
      shortName: 'mts',
      default: null,
      lowerBound: 1,
      group,
      help: 'Stop training when the global step reaches this number; evaluations use at most as many batches. Best together with --train_epochs=1.',
    });
  }
  if (on('dtype', true)) defineDtype(flags, on('dynamic_loss_scale', false));
  if (on('all_reduce_alg', true)) {
    flags.DEFINE_string({
      name: 'all_reduce_alg',
      shortName: 'ara',
      default: null,
      group,
      help: 'How the gradients of the replicas are summed. With the strategy mirrored: nccl (NVIDIA GPUs only), hierarchical_copy, and here also sharded and reduction_to_one_device; with multi_worker_mirrored: ring, nccl. Without the flag the fastest one for the devices is chosen, and the log says which.',
    });
  }
  if (on('num_packs', true)) {
    flags.DEFINE_integer({
      name: 'num_packs',
      default: 1,
      words: ['auto'],
      group,
      help: 'Into how many packs the gradients are put before they are summed. A pack can be summed as soon as all replicas have filled it, so more packs overlap more with the backward pass, and fewer packs cost fewer messages. The weights are the same for every number. auto, between workers: after twelve steps the number that is fastest by a model of this run and this network; the log says which and why, and the checkpoint keeps it. Between the replicas of one process auto is one pack.',
    });
  }
  if (on('tf_gpu_thread_mode', false)) {
    flags.DEFINE_string({
      name: 'tf_gpu_thread_mode',
      shortName: 'gt_mode',
      default: null,
      group,
      help: 'Whether GPUs use thread pools of their own: global, gpu_private, gpu_shared. There are no GPU threads here, so setting it is an error.',
    });
    flags.DEFINE_integer({
      name: 'per_gpu_thread_count',
      shortName: 'pgtc',
      default: 0,
      lowerBound: 0,
      group,
      help: 'Threads per GPU where tf_gpu_thread_mode is not global. There are no GPU threads here, so setting it is an error.',
    });
  }
  if (on('datasets_num_private_threads', false)) {
    flags.DEFINE_integer({
      name: 'datasets_num_private_threads',
      default: null,
      lowerBound: 1,
      upperBound: MOST_THREADS,
      group,
      local: true,
      help: 'Threads of the input pipeline of each replica. Without the flag one.',
    });
  }
  if (on('datasets_num_parallel_batches', false)) {
    flags.DEFINE_integer({
      name: 'datasets_num_parallel_batches',
      default: null,
      lowerBound: 1,
      upperBound: MOST_THREADS,
      group,
      local: true,
      help: 'Batches that each thread of the input pipeline prepares ahead. Without the flag two.',
    });
  }
  return [];
}

function defineDtype(flags: FlagValues, dynamicLossScale: boolean): void {
  flags.DEFINE_enum({
    name: 'dtype',
    shortName: 'dt',
    default: 'fp32',
    enumValues: Object.keys(DTYPE_MAP),
    group,
    help: 'Type in which the network computes; variables stay 32-bit. fp16 needs a device that computes in it, bf16 a CPU with bf16 instructions; bf16_emulated computes bf16 on any CPU, slowly.',
  });
  flags.DEFINE_string({
    name: 'loss_scale',
    shortName: 'ls',
    default: null,
    group,
    help: `Factor on the loss before the backward pass, taken out of the gradients again, so that small gradients do not vanish in fp16: a positive number${
      dynamicLossScale ? ", or 'dynamic'" : ''
    }. Without the flag 128 for fp16 and 1 for the other types.`,
  });
  flags.registerValidator(
    'loss_scale',
    (value) => {
      if (value === null) return true;
      if (value === 'dynamic') return dynamicLossScale;
      const scale = parseScale(String(value));
      return Number.isFinite(scale) && scale > 0;
    },
    dynamicLossScale
      ? "loss_scale should be a positive int/float or the string 'dynamic'."
      : 'loss_scale should be a positive int/float.',
  );
}

/** Number('') is 0 and Number('0x10') is 16; a loss scale is neither. */
function parseScale(text: string): number {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim()) ? Number(text) : Number.NaN;
}

/** The compute type that --dtype names. */
export function getTfDtype(flagsObj: { readonly dtype: DtypeName }): TfDtype {
  return DTYPE_MAP[flagsObj.dtype][0];
}

/** The loss scale: `'dynamic'` as given, a given number, else the default of the dtype (128 for fp16, 1 otherwise). */
export function getLossScale(flagsObj: {
  readonly dtype: DtypeName;
  readonly loss_scale: string | null;
}): number | 'dynamic' {
  if (flagsObj.loss_scale === 'dynamic') return 'dynamic';
  if (flagsObj.loss_scale !== null) return parseScale(flagsObj.loss_scale);
  return DTYPE_MAP[flagsObj.dtype][1];
}
