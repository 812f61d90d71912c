/**
 * PyTorch, as the peer that `lockstep bench peers` and `bench models` measure us beside: it runs a script of peers/ in a process of its
 * own, with its default malloc and with memory kept, of which the better one counts, and with a BLAS that must be worth comparing with.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { FlagValues } from '@lockstep/official/utils/flags/core';
import { summarize } from './statistics.js';

const run = promisify(execFile);

/** What PyTorch's memory comes from: glibc gives large buffers back to the system, and every step pays for new ones, unless told not to. */
const MALLOCS = {
  default: {},
  kept: { MALLOC_MMAP_MAX_: '0', MALLOC_TRIM_THRESHOLD_: '17179869184' },
} as const;

export type Malloc = keyof typeof MALLOCS;

/** As peers/stopwatch.py says it. */
export interface TorchSettings {
  /** 'PyTorch 1.13.0' */
  readonly peer: string;
  readonly threads: number;
  /** Which library multiplies matrices. */
  readonly blas: string;
  /** Whether that is the reference implementation, which computes dense layers many times slower than others. */
  readonly slow_blas: boolean;
}

export interface TorchResult extends TorchSettings {
  /** By the median step. */
  readonly examples_per_second: number;
  readonly step_ms: number;
  /** What is trained; of pytorch_models.py. */
  readonly parameters?: number;
  readonly first_losses: readonly number[];
}

/** One measurement with each malloc. */
export type TorchRound = Readonly<Record<Malloc, TorchResult>>;

/** Interpreter, threads, steps and rounds: the same flags wherever PyTorch is beside us. */
export function definePeerFlags(flags: FlagValues): void {
  const key = true;
  flags.DEFINE_string({ name: 'python', default: '/usr/bin/python3', key, help: 'Interpreter that has torch.' });
  flags.DEFINE_integer({ name: 'threads', default: 2, lowerBound: 1, key, help: 'Threads of either side.' });
  flags.DEFINE_integer({
    name: 'rounds',
    default: 3,
    lowerBound: 1,
    key,
    help: 'Turns; the median of each side counts.',
  });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
}

/** See the file's head. */
export class PyTorch {
  readonly #script: string;

  /** @param script of peers/ @param help what else can be done where there is no PyTorch */
  constructor(
    script: string,
    private readonly python: string,
    private readonly threads: number,
    private readonly help = '',
  ) {
    this.#script = fileURLToPath(new URL(`../../peers/${script}`, import.meta.url));
  }

  /** Runs the script once. @throws Error where the interpreter, or its torch, is missing or fails */
  async run<Result = TorchResult>(args: Readonly<Record<string, string | number>>, malloc: Malloc): Promise<Result> {
    const { python, threads, help } = this;
    const words = Object.entries({ ...args, threads }).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    const env = {
      ...process.env,
      ...MALLOCS[malloc],
      // Threads of BLAS libraries are their own, which torch.set_num_threads does not reach.
      OMP_NUM_THREADS: `${threads}`,
      OPENBLAS_NUM_THREADS: `${threads}`,
      // What is installed is not written to.
      PYTHONDONTWRITEBYTECODE: '1',
    };
    try {
      const { stdout } = await run(python, [this.#script, ...words], { env });
      return JSON.parse(stdout) as Result;
    } catch (error) {
      throw new Error(
        `PyTorch could not be measured with ${python}: ${(error as Error).message.trim().split('\n').slice(-3).join(' ')}\n` +
          `help: apt-get install python3-torch libopenblas0-pthread, or name an interpreter that has torch with --python${help}.`,
        { cause: error },
      );
    }
  }

  /** Runs it with either malloc. */
  async round(args: Readonly<Record<string, string | number>>): Promise<TorchRound> {
    return { default: await this.run(args, 'default'), kept: await this.run(args, 'kept') };
  }
}

/** The malloc with which PyTorch is faster by the median over rounds, and how fast it is. */
export function betterMalloc(rounds: readonly TorchRound[]): { malloc: Malloc; examplesPerSecond: number } {
  const median = (malloc: Malloc) => summarize(rounds.map((round) => round[malloc].examples_per_second)).median;
  const malloc = median('kept') > median('default') ? 'kept' : 'default';
  return { malloc, examplesPerSecond: median(malloc) };
}

/** What a comparison with this PyTorch has to say beside its figures. */
export function describeSettings({ peer, threads, blas }: TorchSettings): string {
  return `${peer}, ${threads} thread${threads === 1 ? '' : 's'}, ${blas}; malloc as it is or with memory kept (MALLOC_MMAP_MAX_=0), whichever is faster.`;
}

/** A line where the comparison would flatter us; null where it does not. */
export function blasWarning({ blas, slow_blas: isSlow }: TorchSettings): string | null {
  if (!isSlow) return null;
  return (
    `PyTorch multiplies matrices with ${blas}, the reference implementation, which is many times slower than others: ratios flatter us.\n` +
    'help: apt-get install libopenblas0-pthread'
  );
}
