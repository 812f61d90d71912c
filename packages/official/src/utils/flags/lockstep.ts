/*
 * Flags that the Model Garden does not have: CPU devices, reproducible runs, the backend, checkpoints, and how the run
 * shows itself on the screen. All of them are key flags, because a reader of upstream's documentation cannot know them.
 */
import type { ColorMode, ProgressMode } from '@lockstep/distribute/progress';
import { LONGEST_SECONDS, MOST_THREADS } from './checks.js';
import type { FlagValues } from './flag-values.js';

declare module './flag-values.js' {
  interface FlagTypes {
    num_cpus: number;
    gradient_dtype: 'f32' | 'bf16';
    worker_late_secs: number;
    worker_lost_secs: number;
    worker_timeout_secs: number;
    worker_start_secs: number;
    seed: number | null;
    backend: 'onednn' | 'cpu';
    save_checkpoints_secs: number;
    save_checkpoints_steps: number | null;
    keep_checkpoint_max: number;
    save_summary_steps: number;
    save_histogram_steps: number;
    profile_steps: string | null;
    checkpoint_format: 'safetensors' | 'tensorflow';
    resume: boolean;
    export_format: 'tfjs' | 'safetensors';
    quantize: 'none' | 'float16' | 'uint8';
    progress: ProgressMode;
    color: ColorMode;
    board: boolean;
  }
}

/** Which of our flags to define; on unless switched off. */
export interface LockstepSwitches {
  num_cpus?: boolean;
  gradient_dtype?: boolean;
  /** Defines `worker_late_secs`, `worker_lost_secs`, `worker_timeout_secs` and `worker_start_secs`. */
  workers?: boolean;
  seed?: boolean;
  backend?: boolean;
  /** Defines all of checkpoints and summaries: `save_checkpoints_secs`, `keep_checkpoint_max`, `save_summary_steps`, `save_histogram_steps`, `profile_steps`, `checkpoint_format`, `resume`, …. */
  checkpoints?: boolean;
  /** Defines `export_format` and `quantize`. */
  export?: boolean;
  progress?: boolean;
  color?: boolean;
  board?: boolean;
}

const group = 'Lockstep';

/** Steps of one timeline: of a ResNet some tens of megabytes. */
const MOST_PROFILED = 1000;
const PROFILE_STEPS =
  'profile_steps must be a comma separated pair of positive integers, specifying the first and last steps to be profiled.';

const TOO_MANY_PROFILED = `profile_steps should be of ${MOST_PROFILED} steps at most: every span of every step is kept until the last of them`;

/** The pair that `profile_steps` names; null for none, and for what is no such pair. */
export function getProfileSteps(text: string | null): { readonly first: number; readonly last: number } | null {
  const match = /^\s*(\d{1,15})\s*,\s*(\d{1,15})\s*$/.exec(text ?? '');
  if (!match) return null;
  const [first, last] = [Number(match[1]), Number(match[2])];
  return first >= 1 && last >= first ? { first, last } : null;
}

/** What is wrong with a `profile_steps`, upstream's text where it has one; null: nothing. */
export function whyNoProfile(text: string | null): string | null {
  if (text === null) return null;
  const pair = getProfileSteps(text);
  if (pair === null) return PROFILE_STEPS;
  return pair.last - pair.first < MOST_PROFILED ? null : TOO_MANY_PROFILED;
}

/**
 * Defines our own flags.
 *
 * @returns names of the key flags: all of them.
 */
export function defineLockstep(flags: FlagValues, switches: LockstepSwitches = {}): string[] {
  const on = (name: keyof LockstepSwitches) => switches[name] ?? true;
  const before = new Set(flags.definitions().map(({ name }) => name));
  if (on('num_cpus')) {
    flags.DEFINE_integer({
      name: 'num_cpus',
      shortName: 'nc',
      default: 0,
      lowerBound: -1,
      upperBound: MOST_THREADS,
      group,
      help: 'Logical CPU devices (replicas) where num_gpus is 0; each gets its own share of the cores. -1 makes one per physical core. 0 leaves it at one device that uses all cores.',
    });
  }
  if (on('gradient_dtype')) {
    flags.DEFINE_enum({
      name: 'gradient_dtype',
      default: 'f32',
      enumValues: ['f32', 'bf16'],
      group,
      help: 'Type in which gradients travel between worker processes: bf16 halves the bytes, and sums are taken in f32 all the same. Within a process, and with one worker, nothing travels.',
    });
  }
  if (on('workers')) {
    const limit = (name: string, value: number, help: string) =>
      flags.DEFINE_float({ name, default: value, lowerBound: 0.1, upperBound: LONGEST_SECONDS, group, help });
    limit(
      'worker_late_secs',
      60,
      'With several workers: how long one waits for the others before it warns and names those that are behind; repeated as often.',
    );
    limit(
      'worker_lost_secs',
      60,
      'With several workers: one that has not answered for so long counts as lost (killed, frozen, cut off from the network), and the run ends.',
    );
    limit(
      'worker_timeout_secs',
      600,
      'With several workers: longest wait for one that answers and does not come; then the run ends.',
    );
    limit('worker_start_secs', 180, 'With several workers: longest wait for all of them to start.');
  }
  if (on('seed')) {
    flags.DEFINE_integer({
      name: 'seed',
      default: null,
      lowerBound: 0,
      upperBound: 2 ** 32 - 1,
      group,
      help: "Makes initial weights, the order of images and their distortions repeatable: the same seed, flags and machine give the same weights bit by bit. Without it a run that goes on takes its checkpoint's seed; otherwise one is drawn and printed.",
    });
  }
  if (on('backend')) {
    flags.DEFINE_enum({
      name: 'backend',
      default: 'onednn',
      enumValues: ['onednn', 'cpu'],
      group,
      help: 'What computes: onednn (fast; needs the library libdnnl), or cpu, the plain JavaScript kernels of TensorFlow.js, which need nothing and are some thousand times slower. Never chosen in silence.',
    });
  }
  if (on('checkpoints')) {
    flags.DEFINE_integer({
      name: 'save_checkpoints_secs',
      default: 86400,
      lowerBound: 1,
      group,
      help: 'Seconds between checkpoints within one round of training. There is always one at the end of a round, and one when the run is stopped with Ctrl-C.',
    });
    flags.DEFINE_integer({
      name: 'save_checkpoints_steps',
      default: null,
      lowerBound: 1,
      group,
      help: 'Steps between checkpoints within one round of training, in place of save_checkpoints_secs.',
    });
    flags.DEFINE_integer({
      name: 'keep_checkpoint_max',
      default: 5,
      lowerBound: 1,
      group,
      help: 'How many checkpoints are kept in model_dir; older ones are deleted.',
    });
    flags.DEFINE_integer({
      name: 'save_summary_steps',
      default: 100,
      lowerBound: 0,
      group,
      help: "Steps from one summary to the next in model_dir's event file, which TensorBoard shows: loss, accuracy, learning rate, images per second, a step's phases, evaluations and what they mistook. 0 writes none.",
    });
    flags.DEFINE_integer({
      name: 'save_histogram_steps',
      default: 0,
      lowerBound: 0,
      group,
      help: "Steps from one set of histograms of all weights, and of the chief's first replica's gradients, to the next in the event file. 0 writes none.",
    });
    flags.DEFINE_string({
      name: 'profile_steps',
      default: null,
      group,
      help: 'Traces the global steps from the first to the last of a pair, such as 20,22, on every replica, into timeline-20-22.json in model_dir, which ui.perfetto.dev and the board show: layers, gradients, packs. --hooks=ProfilerHook traces one step in 1000.',
    });
    for (const problem of [PROFILE_STEPS, TOO_MANY_PROFILED]) {
      flags.registerValidator('profile_steps', (value) => whyNoProfile(value as string | null) !== problem, problem);
    }
    flags.DEFINE_enum({
      name: 'checkpoint_format',
      default: 'safetensors',
      enumValues: ['safetensors', 'tensorflow'],
      group,
      help: 'What checkpoints are written as: safetensors, one file each, or tensorflow, the two files and the names of TensorFlow, which finds them there. Both are read, and the newest goes on, whatever the flag.',
    });
    flags.DEFINE_bool({
      name: 'resume',
      default: true,
      group,
      help: 'Continue from the newest whole checkpoint in model_dir. With --noresume a model_dir that has one is an error.',
    });
  }
  if (on('export')) {
    flags.DEFINE_enum({
      name: 'export_format',
      default: 'tfjs',
      enumValues: ['tfjs', 'safetensors'],
      group,
      local: true,
      help: 'What a model is exported as: tfjs, which tf.loadLayersModel and `lockstep serve` load, or safetensors, the variables as they were trained, for Python.',
    });
    flags.DEFINE_enum({
      name: 'quantize',
      default: 'none',
      enumValues: ['none', 'float16', 'uint8'],
      group,
      local: true,
      help: 'How an exported TensorFlow.js model stores its kernels: none keeps f32, float16 halves the file, uint8 quarters it and costs some accuracy.',
    });
  }
  if (on('progress')) {
    flags.DEFINE_enum({
      name: 'progress',
      default: 'auto',
      enumValues: ['auto', 'bar', 'plain', 'none'],
      group,
      local: true,
      help: 'How progress is shown: a bar, plain lines, or nothing; auto is a bar on a terminal and plain lines elsewhere.',
    });
  }
  if (on('color')) {
    flags.DEFINE_enum({
      name: 'color',
      default: 'auto',
      enumValues: ['auto', 'always', 'never'],
      group,
      local: true,
      help: 'Colours in the output; auto is colours on a terminal, unless the environment variable NO_COLOR is set.',
    });
  }
  if (on('board')) {
    flags.DEFINE_bool({
      name: 'board',
      default: false,
      group,
      local: true,
      help: 'Show the run in a browser as it goes: a page on this machine, whose address is printed, until the run ends. `lockstep board MODEL_DIR` shows it at any time.',
    });
  }
  return flags
    .definitions()
    .map(({ name }) => name)
    .filter((name) => !before.has(name));
}
