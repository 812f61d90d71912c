/**
 * Trains a ResNet on CIFAR-10: upstream's official/resnet/cifar10_main.py, with its flags, defaults and messages.
 *
 *   lockstep cifar10 --data_dir=DIR --model_dir=DIR --resnet_size=20 --train_epochs=10
 */
import { launchedProcess } from '@lockstep/distribute';
import { readCifar10 } from '../data/cifar10-data.js';
import { type FlagsObject, FlagValues, parseFlags, UsageError } from '../utils/flags/core.js';
import { benchmarkContext } from '../utils/logs/logger.js';
import { INTERRUPTED, type Interrupt, listenForInterrupt } from '../utils/misc/interrupt.js';
import { createScreen, type Screen } from '../utils/progress/screen.js';
import { CIFAR10_RECIPE } from './lr-schedule.js';
import { defineCifarFlags } from './resnet-flags.js';
import { cifar10Plan, type ResNetPlan } from './resnet-model.js';
import { type ResnetMainResult, resnetMain } from './resnet-run-loop.js';

/** Deeper ones would take hours to build, and nobody has trained one. */
const LARGEST_SIZE = 9998;

/** Where a main writes, and how it is interrupted. */
export interface MainIo {
  /** Results and help. Default: standard output. */
  readonly out?: (text: string) => void;
  /** Errors. Default: standard error. */
  readonly err?: (text: string) => void;
  /** Progress and log lines. Default: standard error. */
  readonly stream?: NodeJS.WriteStream;
  /** Leaves out the Model Garden's log lines (the run's description, cycles, metrics); results and warnings stay. */
  readonly brief?: boolean;
  /** Called when flags are parsed and before anything is done with them: what needs a flag's value of a program around this one. */
  readonly prepare?: (flags: FlagValues) => void | Promise<void>;
  /** Called with the result of a run that ended. */
  readonly onResult?: (result: ResnetMainResult) => void;
  /** Default: whatever utils/misc/interrupt.ts hears ends the run gracefully. */
  readonly signal?: AbortSignal;
}

/**
 * @param argv flags, without the program's name
 * @returns exit status: 0, 1 for a failed run, 2 for bad flags, 130 when interrupted
 */
export async function main(argv: readonly string[], io: MainIo = {}): Promise<number> {
  const out = io.out ?? ((text) => process.stdout.write(text));
  const err = io.err ?? ((text) => process.stderr.write(text));
  const flags = defineCifarFlags(
    new FlagValues({
      program: 'lockstep cifar10',
      summary: 'Trains a ResNet on CIFAR-10, as the Model Garden does.',
    }),
  );
  // Once there is a bar on the screen, lines go above it.
  const voice = { say: (line: string) => err(`${line}\n`) };
  const interrupt = io.signal ? null : listenForInterrupt(voice);
  try {
    const { help } = parseFlags(argv, flags);
    if (help) {
      out(help.text);
      return 0;
    }
    await io.prepare?.(flags);
    const signal = io.signal ?? (interrupt as Interrupt).signal;
    const result = await runCifar(flags, { ...io, signal }, (screen) => {
      voice.say = (line) => screen.log.info(line);
    });
    if (result === null) return 1;
    io.onResult?.(result);
    return result.interrupted ? INTERRUPTED : 0;
  } catch (error) {
    if (error instanceof UsageError) {
      err(`${error.message}\n`);
      return 2;
    }
    // Told to stop before there was a step to end: nothing was trained, and there is nothing to save.
    const { signal } = io.signal ? io : (interrupt as Interrupt);
    const isInterrupted = signal?.aborted === true && error === signal.reason;
    err(`${describe(error)}\n`);
    return isInterrupted ? INTERRUPTED : 1;
  } finally {
    interrupt?.stop();
  }
}

/** Upstream's run_cifar: null where upstream returns without training. `onScreen` gets where the run speaks. */
export async function runCifar(
  flags: FlagValues,
  io: MainIo = {},
  onScreen?: (screen: Screen) => void,
): Promise<ResnetMainResult | null> {
  const { FLAGS } = flags;
  if (FLAGS.image_bytes_as_serving_input) {
    (io.err ?? ((text) => process.stderr.write(text)))(
      '--image_bytes_as_serving_input cannot be set to True for CIFAR. This flag is only applicable to ImageNet.\n',
    );
    return null;
  }
  const plan = planOf(FLAGS);
  // One process speaks for a run of many, and writes its logs.
  const silent = (launchedProcess()?.rank ?? 0) > 0;
  const screen = createScreen(FLAGS, { ...io, silent });
  onScreen?.(screen);
  if (flags.isGiven('weight_decay')) {
    screen.log.warning(
      `--weight_decay=${FLAGS.weight_decay} has no effect: CIFAR-10 has ${CIFAR10_RECIPE.weightDecay} fixed, as upstream.`,
    );
  }
  try {
    return await benchmarkContext(
      silent ? { benchmark_logger_type: 'BaseBenchmarkLogger' } : FLAGS,
      (benchmarkLogger) =>
        resnetMain({
          flags,
          plan,
          recipe: CIFAR10_RECIPE,
          datasetName: 'CIFAR-10',
          decayExcept: null,
          readData: (isTraining) => readCifar10(FLAGS.data_dir, isTraining),
          benchmarkLogger,
          screen,
          ...(io.signal ? { signal: io.signal } : {}),
        }),
      { log: screen.detail },
    );
  } finally {
    screen.progress.finish();
  }
}

/** @throws UsageError for a size that there is not, with upstream's text where it has one. */
function planOf({ resnet_size: text, resnet_version: version }: FlagsObject): ResNetPlan {
  const refuse = (why: string): never => {
    throw new UsageError(`flag --resnet_size=${text}: ${why}`, {
      flag: 'resnet_size',
      value: text,
      remedy: `Give 6n + 2: 8, 14, 20, 32, 44, 56, 110, …, at most ${LARGEST_SIZE}.`,
    });
  };
  if (!/^\d+$/.test(text)) refuse('not a number');
  if (Number(text) > LARGEST_SIZE) refuse('too large');
  try {
    return cifar10Plan(Number(text), Number(version));
  } catch (error) {
    return refuse((error as Error).message.split('\n')[0] as string);
  }
}

/** An error for a person: its message and causes; the stack only when asked for. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return process.env.LOCKSTEP_STACK ? (error.stack ?? error.message) : error.message;
}
