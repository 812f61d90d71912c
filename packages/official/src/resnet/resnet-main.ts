/**
 * The beginning of every main of the ResNets, whatever it trains on: it parses flags, and loads what trains (run-program.ts) when there is
 * something to train, so that help takes no time. What only one of the mains does is its {@link ResnetProgram}.
 */
import type { DataSet } from '../data/data-set.js';
import { type FlagsObject, FlagValues, parseFlags, UsageError } from '../utils/flags/core.js';
import type { TrainingRecipe } from './lr-schedule.js';
import type { ResNetPlan } from './resnet-plan.js';
import type { ResnetMainResult } from './resnet-run-loop.js';

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
  const flags = program.define(new FlagValues({ program: program.name, summary: program.summary }));
  try {
    const { help } = parseFlags(argv, flags);
    if (help) {
      (io.out ?? ((text) => process.stdout.write(text)))(help.text);
      return 0;
    }
    const { runParsed } = await import('./run-program.js');
    return await runParsed(program, flags, io);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    (io.err ?? ((text) => process.stderr.write(text)))(`${error.message}\n`);
    return 2;
  }
}
