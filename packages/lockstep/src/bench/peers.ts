/**
 * `lockstep bench peers`: our training step beside PyTorch's on this machine, in one run, in turns, so that a busy neighbour
 * slows both. PyTorch runs with its default malloc and with memory kept, and the better one counts.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { flagMain } from '../flag-main.js';
import type { ResnetBenchReport } from './resnet.js';
import { summarize } from './statistics.js';

const run = promisify(execFile);
const SCRIPT = fileURLToPath(new URL('../../peers/pytorch_resnet.py', import.meta.url));
const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));
const KEEP_MEMORY = { MALLOC_MMAP_MAX_: '0', MALLOC_TRIM_THRESHOLD_: '17179869184' };

interface Row {
  readonly dataset: 'cifar10' | 'imagenet';
  readonly size: number;
  readonly batch: number;
  readonly dtype: 'fp32' | 'bf16';
  /** Steps of either side before the timed ones: V8 compiles and memory pools fill in them. */
  readonly warmup: number;
}

const ROWS: readonly Row[] = [
  { dataset: 'cifar10', size: 20, batch: 128, dtype: 'fp32', warmup: 100 },
  { dataset: 'cifar10', size: 20, batch: 128, dtype: 'bf16', warmup: 100 },
  { dataset: 'imagenet', size: 50, batch: 16, dtype: 'fp32', warmup: 6 },
  { dataset: 'imagenet', size: 50, batch: 16, dtype: 'bf16', warmup: 6 },
];

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, () => compare(flags));
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench peers',
    summary: 'Our training step beside PyTorch. Needs python3-torch.',
  });
  const key = true;
  flags.DEFINE_string({ name: 'python', default: '/usr/bin/python3', key, help: 'Interpreter that has torch.' });
  flags.DEFINE_integer({ name: 'threads', default: 2, lowerBound: 1, key, help: 'Threads of either side.' });
  flags.DEFINE_integer({ name: 'steps', default: 10, lowerBound: 1, key, help: 'Steps of each measurement.' });
  flags.DEFINE_integer({
    name: 'rounds',
    default: 3,
    lowerBound: 1,
    key,
    help: 'Turns; the median of each side counts.',
  });
  flags.DEFINE_string({ name: 'only', default: '', key, help: 'Rows whose name contains this: imagenet, bf16, ….' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

async function compare(flags: FlagValues): Promise<number> {
  const value = <T>(name: string) => flags.get(name as never) as unknown as T;
  const only = value<string>('only');
  const results: object[] = [];
  process.stdout.write(
    '| model | dtype | ours, images/s | PyTorch, images/s | ratio | of the convolution bound |\n|---|---|---|---|---|---|\n',
  );
  for (const row of ROWS) {
    const name = `${row.dataset} ResNet-${row.size}, batch ${row.batch}`;
    if (!`${name} ${row.dtype}`.includes(only)) continue;
    const ours: ResnetBenchReport[] = [];
    const torch: number[] = [];
    for (let round = 0; round < value<number>('rounds'); round++) {
      ours.push(await measureOurs(row, value('threads'), value('steps')));
      const candidates = [
        await measureTorch(value('python'), row, value('threads'), value('steps'), {}),
        await measureTorch(value('python'), row, value('threads'), value('steps'), KEEP_MEMORY),
      ];
      torch.push(Math.max(...candidates));
    }
    const mine = summarize(ours.map((report) => report.images_per_second)).median;
    const theirs = summarize(torch).median;
    const bound = summarize(ours.map((report) => report.fraction_of_conv_bound ?? 0)).median;
    results.push({
      ...row,
      images_per_second: mine,
      pytorch_images_per_second: theirs,
      ratio: mine / theirs,
      fraction_of_conv_bound: bound,
    });
    process.stdout.write(
      `| ${name} | ${row.dtype} | ${mine.toFixed(1)} | ${theirs.toFixed(1)} | ${(mine / theirs).toFixed(2)} | ${bound.toFixed(2)} |\n`,
    );
  }
  if (value('json')) process.stdout.write(`${JSON.stringify({ rows: results })}\n`);
  return 0;
}

async function measureOurs(
  { dataset, size, batch, dtype, warmup }: Row,
  threads: number,
  steps: number,
): Promise<ResnetBenchReport> {
  const { stdout } = await run(process.execPath, [
    BIN,
    'bench',
    'resnet',
    `--dataset=${dataset}`,
    `--resnet_size=${size}`,
    `--batch_size=${batch}`,
    `--dtype=${dtype}`,
    `--intra_op_parallelism_threads=${threads}`,
    `--steps=${steps}`,
    `--warmup=${warmup}`,
    '--json',
  ]);
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as ResnetBenchReport;
}

async function measureTorch(
  python: string,
  row: Row,
  threads: number,
  steps: number,
  env: Record<string, string>,
): Promise<number> {
  try {
    const { stdout } = await run(
      python,
      [
        SCRIPT,
        '--dataset',
        row.dataset,
        '--resnet_size',
        `${row.size}`,
        '--batch_size',
        `${row.batch}`,
        '--dtype',
        row.dtype,
        '--threads',
        `${threads}`,
        '--steps',
        `${steps}`,
        '--warmup',
        `${row.warmup}`,
      ],
      { env: { ...process.env, ...env } },
    );
    return (JSON.parse(stdout) as { images_per_second: number }).images_per_second;
  } catch (error) {
    throw new Error(
      `PyTorch could not be measured with ${python}: ${(error as Error).message.split('\n').slice(-3).join(' ')}\n` +
        'help: apt-get install python3-torch, or name an interpreter that has it with --python.',
    );
  }
}
