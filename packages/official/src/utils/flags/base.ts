/*
 * Flags that nearly every model has: upstream's `official/utils/flags/_base.py`. Programs call defineBase through
 * core.ts, which also marks the key flags; the switches carry upstream's keyword names.
 */
import { MOST_THREADS, requirePath } from './checks.js';
import type { FlagValues } from './flag-values.js';

declare module './flag-values.js' {
  interface FlagTypes {
    data_dir: string;
    model_dir: string;
    clean: boolean;
    train_epochs: number;
    epochs_between_evals: number;
    stop_threshold: number | null;
    batch_size: number;
    num_gpus: number;
    hooks: readonly string[];
    export_dir: string | null;
    distribution_strategy: string;
  }
}

/** Which base flags to define; every one is on unless it is switched off. */
export interface BaseSwitches {
  data_dir?: boolean;
  model_dir?: boolean;
  clean?: boolean;
  train_epochs?: boolean;
  epochs_between_evals?: boolean;
  stop_threshold?: boolean;
  batch_size?: boolean;
  /** Defines `num_gpus`; the keyword lacks the s, as upstream's does. */
  num_gpu?: boolean;
  hooks?: boolean;
  export_dir?: boolean;
  distribution_strategy?: boolean;
}

const group = 'Base';

/** Names of the training hooks; utils/logs/hooks-helper.ts builds them. */
export const HOOK_NAMES = ['LoggingTensorHook', 'ProfilerHook', 'ExamplesPerSecondHook', 'LoggingMetricHook'] as const;

/**
 * Defines the base flags.
 *
 * @returns names of the key flags among them.
 */
export function defineBase(flags: FlagValues, switches: BaseSwitches = {}): string[] {
  const on = (name: keyof BaseSwitches) => switches[name] ?? true;
  const keyFlags: string[] = [];
  if (on('data_dir')) {
    flags.DEFINE_string({
      name: 'data_dir',
      shortName: 'dd',
      default: '/tmp',
      group,
      local: true,
      help: 'Folder of the input data.',
    });
    requirePath(flags, 'data_dir');
    keyFlags.push('data_dir');
  }
  if (on('model_dir')) {
    flags.DEFINE_string({
      name: 'model_dir',
      shortName: 'md',
      default: '/tmp',
      group,
      local: true,
      help: 'Folder of the checkpoints and logs. A run continues from the newest whole checkpoint that it finds there.',
    });
    requirePath(flags, 'model_dir');
    keyFlags.push('model_dir');
  }
  if (on('clean')) {
    flags.DEFINE_bool({
      name: 'clean',
      default: false,
      group,
      local: true,
      help: 'Start over: delete what earlier runs wrote into model_dir, known by its content, once everything else about the command was checked. A folder with anything else in it is an error.',
    });
    keyFlags.push('clean');
  }
  if (on('train_epochs')) {
    flags.DEFINE_integer({
      name: 'train_epochs',
      shortName: 'te',
      default: 1,
      lowerBound: 0,
      group,
      help: 'Epochs to train. 0 evaluates only.',
    });
    keyFlags.push('train_epochs');
  }
  if (on('epochs_between_evals')) {
    flags.DEFINE_integer({
      name: 'epochs_between_evals',
      shortName: 'ebe',
      default: 1,
      lowerBound: 1,
      group,
      help: 'Training epochs between two evaluations. The last round is shorter where train_epochs is no multiple.',
    });
    keyFlags.push('epochs_between_evals');
  }
  if (on('stop_threshold')) {
    flags.DEFINE_float({
      name: 'stop_threshold',
      shortName: 'st',
      default: null,
      group,
      help: 'Stop before train_epochs as soon as an evaluation reaches this accuracy (metric >= threshold). 0 is a threshold.',
    });
    // Nothing is >= NaN.
    flags.registerValidator(
      'stop_threshold',
      (value) => value === null || !Number.isNaN(value),
      'stop_threshold should be a number',
    );
  }
  if (on('batch_size')) {
    flags.DEFINE_integer({
      name: 'batch_size',
      shortName: 'bs',
      default: 32,
      lowerBound: 1,
      group,
      help: 'Images per step over all devices of this worker (the global batch): with 32 and 4 devices each device gets 8.',
    });
    keyFlags.push('batch_size');
  }
  if (on('num_gpu')) {
    flags.DEFINE_integer({
      name: 'num_gpus',
      shortName: 'ng',
      default: 0,
      upperBound: MOST_THREADS,
      group,
      help: 'GPUs per worker; -1 means all of this machine. The Model Garden defaults to 1; here the default is 0: CPU cores, see --num_cpus. GPUs come with the package @lockstep/webgpu.',
    });
  }
  if (on('hooks')) {
    flags.DEFINE_list({
      name: 'hooks',
      shortName: 'hk',
      default: 'LoggingTensorHook',
      group,
      local: true,
      help: `Training hooks by name, letters of any case: ${HOOK_NAMES.join(', ')}. An empty text means none.`,
    });
    flags.registerValidator(
      'hooks',
      (value) => {
        const known: readonly string[] = HOOK_NAMES.map((name) => name.toLowerCase());
        const odd = (value as readonly string[] | null)?.find((name) => !known.includes(name.trim().toLowerCase()));
        if (odd !== undefined) throw new Error(`Unrecognized training hook requested: ${odd}`);
        return true;
      },
      `hooks should be of ${HOOK_NAMES.join(', ')}`,
    );
    keyFlags.push('hooks');
  }
  if (on('export_dir')) {
    flags.DEFINE_string({
      name: 'export_dir',
      shortName: 'ed',
      default: null,
      group,
      local: true,
      help: 'New or empty folder into which the trained model is exported at the end, for browsers and other programs: see --export_format. With --eval_only the newest checkpoint is.',
    });
    requirePath(flags, 'export_dir');
    keyFlags.push('export_dir');
  }
  if (on('distribution_strategy')) {
    flags.DEFINE_string({
      name: 'distribution_strategy',
      shortName: 'ds',
      default: 'default',
      group,
      help: 'How the work is spread, letters of any case: off, one_device, mirrored, multi_worker_mirrored, parameter_server, or default (mirrored for two or more devices, one_device otherwise).',
    });
  }
  return keyFlags;
}

/** What getNumGpus asks for: the devices of this machine, as `listDevices` of @lockstep/distribute gives them. */
export type DeviceLister = () => readonly { readonly type: string }[];

/**
 * The number of GPUs to use: the flag, unless it is exactly -1; then the GPUs of this machine are counted. The devices
 * are listed only in that case.
 */
export function getNumGpus(flagsObj: { readonly num_gpus: number }, listDevices: DeviceLister): number {
  if (flagsObj.num_gpus !== -1) return flagsObj.num_gpus;
  return listDevices().filter(({ type }) => type === 'GPU').length;
}
