/**
 * What every main of the ResNets does, whatever it trains on: parse flags, speak through one screen, hear Ctrl-C, run inside
 * the benchmark logger, and turn what happened into an exit status. What only one of them does is its {@link ResnetProgram}.
 */
import { launchedProcess } from '@lockstep/distribute';
import type { DataSet } from '../data/data-set.js';
import { type FlagsObject, FlagValues, parseFlags, UsageError } from '../utils/flags/core.js';
import { benchmarkContext } from '../utils/logs/logger.js';
import { INTERRUPTED, type Interrupt, listenForInterrupt } from '../utils/misc/interrupt.js';
import { createScreen, type Screen } from '../utils/progress/screen.js';
import type { TrainingRecipe } from './lr-schedule.js';
import type { ResNetPlan } from './resnet-model.js';
import { type ResnetMainResult, resnetMain } from './resnet-run-loop.js';

/** What one main brings. */
export interface ResnetProgram {
  /** For the help: 'lockstep cifar10'. */
  readonly name: string;
  readonly summary: string;
  /** For logs: 'CIFAR-10'. */
  readonly dataset: string;
  /** Variables whose name contains this do not decay; null: all do. */
  readonly decayExcept: string | null;
  recipe(flags: FlagsObject): TrainingRecipe;
  define(flags: FlagValues): FlagValues;
  /** @throws UsageError for a network that there is not. */
  plan(flags: FlagsObject): ResNetPlan;
  /**
   * Why this program cannot do what the flags say: upstream's text, then status 1; null: it can.
   * @throws UsageError where a flag is at fault and upstream has no text.
   */
  refuse?(flags: FlagsObject): string | null;
  /** Said before the run: one sentence for each flag without effect. */
  remarks?(flags: FlagValues): readonly string[];
  /** Opens a split; not called with synthetic data. */
  open(flags: FlagsObject, isTraining: boolean): DataSet;
  /** Said at the end of every run, also of one that failed. */
  closing?(): readonly string[];
}

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
  /** Shows what is in a model folder on a page, while this process lives; for --board. @returns its address */
  readonly board?: (modelDir: string) => Promise<string>;
  /** Called with the result of a run that ended. */
  readonly onResult?: (result: ResnetMainResult) => void;
  /** Default: whatever utils/misc/interrupt.ts hears ends the run gracefully. */
  readonly signal?: AbortSignal;
}

/**
 * @param argv flags, without the program's name
 * @returns exit status: 0, 1 for a failed run, 2 for bad flags, 130 when interrupted
 */
export async function runProgram(program: ResnetProgram, argv: readonly string[], io: MainIo = {}): Promise<number> {
  const out = io.out ?? ((text) => process.stdout.write(text));
  const err = io.err ?? ((text) => process.stderr.write(text));
  const flags = program.define(new FlagValues({ program: program.name, summary: program.summary }));
  // Once there is a bar on the screen, lines go above it.
  const voice = { say: (line: string) => err(`${line}\n`) };
  const interrupt = io.signal ? null : listenForInterrupt(voice);
  try {
    const { help } = parseFlags(argv, flags);
    if (help) {
      out(help.text);
      return 0;
    }
    if (flags.FLAGS.board && !io.board) throw noBoard();
    await io.prepare?.(flags);
    const refusal = program.refuse?.(flags.FLAGS) ?? null;
    if (refusal !== null) {
      err(`${refusal}\n`);
      return 1;
    }
    const signal = io.signal ?? (interrupt as Interrupt).signal;
    const result = await run(program, flags, { ...io, signal }, (screen) => {
      voice.say = (line) => screen.log.info(line);
    });
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

/** @param onScreen gets where the run speaks. */
async function run(
  program: ResnetProgram,
  flags: FlagValues,
  io: MainIo,
  onScreen: (screen: Screen) => void,
): Promise<ResnetMainResult> {
  const { FLAGS } = flags;
  const plan = program.plan(FLAGS);
  // One process speaks for a run of many, and writes its logs.
  const silent = (launchedProcess()?.rank ?? 0) > 0;
  const screen = createScreen(FLAGS, { ...io, silent });
  onScreen(screen);
  // The run does not wait for it.
  if (FLAGS.board && io.board && !silent) void showBoard(io.board, FLAGS.model_dir, screen);
  for (const remark of program.remarks?.(flags) ?? []) screen.log.warning(remark);
  try {
    return await benchmarkContext(
      silent ? { benchmark_logger_type: 'BaseBenchmarkLogger' } : FLAGS,
      (benchmarkLogger) =>
        resnetMain({
          flags,
          plan,
          recipe: program.recipe(FLAGS),
          datasetName: program.dataset,
          decayExcept: program.decayExcept,
          open: (isTraining) => program.open(FLAGS, isTraining),
          benchmarkLogger,
          screen,
          ...(io.signal ? { signal: io.signal } : {}),
        }),
      { log: screen.detail },
    );
  } finally {
    for (const line of program.closing?.() ?? []) screen.log.info(line);
    screen.progress.finish();
  }
}

/** A page that cannot be shown is no reason not to train. */
async function showBoard(
  board: (modelDir: string) => Promise<string>,
  modelDir: string,
  { log }: Screen,
): Promise<void> {
  try {
    log.info(`Board: ${await board(modelDir)}`);
  } catch (error) {
    log.warning(`--board: ${describe(error)}`);
  }
}

/** The page is another package's. */
function noBoard(): UsageError {
  return new UsageError('flag --board=true: this program has no page of its own', {
    flag: 'board',
    value: 'true',
    remedy: 'Run the command `lockstep`, which has one, or leave it out.',
  });
}

/** An error for a person: its message and causes; the stack only when asked for. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return process.env.LOCKSTEP_STACK ? (error.stack ?? error.message) : error.message;
}
