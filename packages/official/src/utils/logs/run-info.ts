/*
 * What benchmark_run.log says about a run: model, data set, machine, versions, parameters; upstream's
 * `_gather_run_info` in official/utils/logs/logger.py. Everything is read locally; nothing is sent or asked over a
 * network, also not for the question whether this is a Google Cloud machine.
 */
import { readFileSync } from 'node:fs';
import { cpus, freemem, totalmem } from 'node:os';
import * as tf from '@tensorflow/tfjs-core';

/** A run parameter in the log: its name and exactly one typed value. */
export interface RunParameter {
  readonly name: string;
  readonly string_value?: string;
  readonly long_value?: number;
  readonly float_value?: number;
  /** `True` or `False`, as upstream writes it. */
  readonly bool_value?: string;
}

/** The one JSON object of benchmark_run.log. */
export interface RunInfo {
  readonly model_name: string;
  readonly dataset: { readonly name: string };
  readonly machine_config: MachineConfig;
  readonly test_id: string | null;
  readonly run_date: string;
  readonly tensorflow_version: { readonly version: string; readonly git_hash: string };
  readonly tensorflow_environment_variables: readonly { readonly name: string; readonly value: string }[];
  readonly run_parameters: readonly RunParameter[];
  /** `GCP` on a Google Cloud machine, absent elsewhere. */
  readonly test_environment?: 'GCP';
}

/** The machine part of RunInfo. Memory in bytes. */
export interface MachineConfig {
  readonly cpu_info: { readonly num_cores: number; readonly cpu_info: string; readonly mhz_per_cpu: number };
  /** `model` is that of the first GPU; absent where there is none. */
  readonly gpu_info: { readonly count: number; readonly model?: string };
  readonly memory_total: number;
  readonly memory_available: number;
}

/** UTC time as Python's `%Y-%m-%dT%H:%M:%S.%fZ`: six digits after the second, of which the clock here gives three. */
export function formatTimestamp(date: Date): string {
  return date.toISOString().replace(/Z$/, '000Z');
}

/** Parameters in name order with typed values: numbers as long or float, booleans as `True`/`False`, else text. */
export function runParameters(parameters: Readonly<Record<string, unknown>>): RunParameter[] {
  return sortedEntries(parameters).map(([name, value]) => {
    if (typeof value === 'boolean') return { name, bool_value: value ? 'True' : 'False' };
    if (typeof value === 'number')
      return Number.isInteger(value) ? { name, long_value: value } : { name, float_value: value };
    if (value === null || value === undefined) return { name, string_value: 'None' };
    return { name, string_value: String(value) };
  });
}

/** Entries in the order of their names' code points, Python's order. */
export function sortedEntries<T>(record: Readonly<Record<string, T>>): [string, T][] {
  return Object.entries(record).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

/** The machine as it is now. @param gpus names of the GPUs in use. */
export function machineConfig(gpus: readonly string[] = []): MachineConfig {
  const cores = cpus();
  return {
    cpu_info: { num_cores: cores.length, cpu_info: cores[0]?.model ?? 'unknown', mhz_per_cpu: cores[0]?.speed ?? 0 },
    gpu_info: gpus.length === 0 ? { count: 0 } : { count: gpus.length, model: gpus[0]! },
    memory_total: totalmem(),
    memory_available: freemem(),
  };
}

/** True on a Google Cloud machine: upstream asks the metadata server over HTTP, here the firmware's product name tells. */
export function onGcp(productNameFile = '/sys/class/dmi/id/product_name'): boolean {
  try {
    return /google/i.test(readFileSync(productNameFile, 'utf8'));
  } catch {
    return false; // no such file: no Linux, or no firmware table, so not a Google Cloud machine either
  }
}

/** What gatherRunInfo needs besides what it finds out itself. */
export interface RunInfoOptions {
  modelName: string;
  datasetName: string;
  parameters: Readonly<Record<string, unknown>>;
  testId?: string | null;
  gpus?: readonly string[];
  env?: Readonly<Record<string, string | undefined>>;
  now?: Date;
  gcp?: boolean;
}

/**
 * Variables that are written down. Upstream logs whatever begins with `TF_`, which is Terraform's prefix as well: `TF_VAR_db_password`
 * and `TF_TOKEN_…` are secrets, and a log is read by many. So these are TensorFlow's own that change what is computed or how fast, and
 * those of Lockstep and of the libraries beneath it.
 */
const LOGGED_VARIABLES: ReadonlySet<string> = new Set([
  ...['TF_CONFIG', 'TF_CPP_MAX_VLOG_LEVEL', 'TF_CPP_MIN_LOG_LEVEL', 'TF_CPP_MIN_VLOG_LEVEL', 'TF_CPP_VMODULE'],
  ...['TF_AUTOTUNE_THRESHOLD', 'TF_CPU_ALLOCATOR_USE_BFC', 'TF_CUDNN_DETERMINISTIC', 'TF_CUDNN_USE_AUTOTUNE'],
  ...['TF_CUDNN_WORKSPACE_LIMIT_IN_MB', 'TF_DETERMINISTIC_OPS', 'TF_DISABLE_MKL', 'TF_ENABLE_AUTO_MIXED_PRECISION'],
  ...['TF_ENABLE_CUBLAS_TENSOR_OP_MATH_FP32', 'TF_ENABLE_CUDNN_TENSOR_OP_MATH_FP32', 'TF_ENABLE_ONEDNN_OPTS'],
  ...['TF_ENABLE_WINOGRAD_NONFUSED', 'TF_FORCE_GPU_ALLOW_GROWTH', 'TF_GPU_ALLOCATOR', 'TF_GPU_THREAD_COUNT'],
  ...['TF_GPU_THREAD_MODE', 'TF_MIN_GPU_MULTIPROCESSOR_COUNT', 'TF_MKL_ALLOC_MAX_BYTES', 'TF_NUM_INTEROP_THREADS'],
  ...['TF_NUM_INTRAOP_THREADS', 'TF_SYNC_ON_FINISH', 'TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT', 'TF_XLA_FLAGS'],
  ...[
    'GOMP_SPINCOUNT',
    'LOCKSTEP_CODE',
    'LOCKSTEP_DNNL_LIBRARY',
    'LOCKSTEP_MPI_LIBRARY',
    'LOCKSTEP_NUM_PS',
    'LOCKSTEP_RECORDING',
  ],
  ...['LOCKSTEP_WINOGRAD', 'OMP_NUM_THREADS', 'OMP_WAIT_POLICY', 'ONEDNN_DEFAULT_FPMATH_MODE', 'ONEDNN_MAX_CPU_ISA'],
]);

/** Whether benchmark_run.log may hold a variable of the environment. */
export function isLoggedVariable(name: string): boolean {
  return LOGGED_VARIABLES.has(name);
}

/** Collects everything that benchmark_run.log holds. */
export function gatherRunInfo(options: RunInfoOptions): RunInfo {
  const { env = process.env, gcp = onGcp() } = options;
  const variables = sortedEntries(env).filter(([name, value]) => isLoggedVariable(name) && value !== undefined);
  return {
    model_name: options.modelName,
    dataset: { name: options.datasetName },
    machine_config: machineConfig(options.gpus),
    test_id: options.testId ?? null,
    run_date: formatTimestamp(options.now ?? new Date()),
    // TensorFlow.js' npm packages do not say from which commit they were built.
    tensorflow_version: { version: tf.version_core, git_hash: 'unknown' },
    tensorflow_environment_variables: variables.map(([name, value]) => ({ name, value: value! })),
    run_parameters: runParameters(options.parameters),
    ...(gcp ? { test_environment: 'GCP' as const } : {}),
  };
}
