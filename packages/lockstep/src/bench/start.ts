/** `lockstep bench start`: what is not computing. How long it takes until a command answers, a backend computes, a replica runs, a step is done. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { flagMain } from '../flag-main.js';
import { summarize } from './statistics.js';

const run = promisify(execFile);
const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));
const PROGRAM = fileURLToPath(new URL('./start-program.js', import.meta.url));
const LIMIT_MS = 120_000;

/** Milliseconds since the process was started. */
export interface StartRow {
  readonly what: string;
  readonly ms: number;
}

/** Processes that are timed whole. */
const WHOLE: Readonly<Record<string, readonly string[]>> = {
  'node, an empty program': ['-e', ''],
  'lockstep --help': [BIN, '--help'],
  'lockstep cifar10 --help': [BIN, 'cifar10', '--help'],
};
/** Programs that say themselves when what happened, and the words for it. */
const MARKED: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  tfjs: { import: "import '@tensorflow/tfjs-core'" },
  onednn: { import: "import '@lockstep/onednn'", 'first kernel': '… its first matrix product' },
  replica: {
    import: "import '@lockstep/onednn' and '@lockstep/distribute'",
    'two replicas began and ended': '… two replicas that do nothing, begun and ended',
  },
  step: {
    'model made': 'a ResNet-20 of tf.layers, made and compiled',
    'first step': '… its first step',
    'second step': '… its second step',
    'third step': '… its third step, recorded by then',
  },
};

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    const rounds = flags.get('rounds' as never) as unknown as number;
    const rows = await measure(rounds);
    process.stdout.write(flags.get('json' as never) ? `${JSON.stringify({ rows })}\n` : format(rows));
    return 0;
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench start',
    summary: 'Measures what is not computing: commands, imports, the first kernel, replicas, first steps.',
  });
  const key = true;
  flags.DEFINE_integer({ name: 'rounds', default: 5, lowerBound: 1, key, help: 'Processes of each kind, in turns.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

async function measure(rounds: number): Promise<StartRow[]> {
  const samples = new Map<string, number[]>();
  const add = (what: string, ms: number) => samples.set(what, [...(samples.get(what) ?? []), ms]);
  for (let round = 0; round < rounds; round++) {
    for (const [what, args] of Object.entries(WHOLE)) {
      const begin = performance.now();
      await run(process.execPath, [...args], { timeout: LIMIT_MS });
      add(what, performance.now() - begin);
    }
    for (const [way, words] of Object.entries(MARKED)) {
      const { stdout } = await run(process.execPath, [PROGRAM, way], { timeout: LIMIT_MS });
      const marks = JSON.parse(stdout.trim().split('\n').at(-1) as string) as Record<string, number>;
      for (const [name, text] of Object.entries(words)) add(text, marks[name] as number);
    }
  }
  return [...samples].map(([what, values]) => ({ what, ms: summarize(values).median }));
}

function format(rows: readonly StartRow[]): string {
  const width = Math.max(...rows.map(({ what }) => what.length));
  return [
    'Milliseconds since the process was started, median',
    ...rows.map(({ what, ms }) => `  ${what.padEnd(width)}${ms.toFixed(0).padStart(7)}`),
    '',
  ].join('\n');
}
