/**
 * What every main of the ResNets does once its flags are parsed: speak through one screen, hear Ctrl-C, run inside the benchmark logger, and
 * turn what happened into an exit status.
 */
import { launchedProcess } from '@lockstep/distribute';
import { type FlagValues, UsageError } from '../utils/flags/core.js';
import { benchmarkContext } from '../utils/logs/logger.js';
import { INTERRUPTED, type Interrupt, listenForInterrupt } from '../utils/misc/interrupt.js';
import { createScreen, type Screen } from '../utils/progress/screen.js';
import type { MainIo, ResnetProgram } from './resnet-main.js';
import { type ResnetMainResult, resnetMain } from './resnet-run-loop.js';

/** @param flags parsed @returns exit status: 0, 1 for a failed run, 130 when interrupted @throws UsageError for flags that cannot be */
export async function runParsed(program: ResnetProgram, flags: FlagValues, io: MainIo): Promise<number> {
  const err = io.err ?? ((text) => process.stderr.write(text));
  // Once there is a bar on the screen, lines go above it.
  const voice = { say: (line: string) => err(`${line}\n`) };
  const interrupt = io.signal ? null : listenForInterrupt(voice);
  try {
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
    if (error instanceof UsageError) throw error;
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
