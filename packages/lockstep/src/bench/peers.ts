/**
 * `lockstep bench peers`: our training step beside PyTorch's on this machine, in one run, in turns, so that a busy neighbour
 * slows both. PyTorch runs with its default malloc and with memory kept, and the better one counts.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { flagMain } from '../flag-main.js';
import { betterMalloc, blasWarning, definePeerFlags, PyTorch, type TorchRound } from './pytorch.js';
import type { ResnetBenchReport } from './resnet.js';
import { summarize } from './statistics.js';

const run = promisify(execFile);
const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));

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
  definePeerFlags(flags);
  flags.DEFINE_integer({ name: 'steps', default: 10, lowerBound: 1, key, help: 'Steps of each measurement.' });
  flags.DEFINE_string({ name: 'only', default: '', key, help: 'Rows whose name contains this: imagenet, bf16, ….' });
  return flags;
}

async function compare(flags: FlagValues): Promise<number> {
  const value = <T>(name: string) => flags.get(name as never) as unknown as T;
  const only = value<string>('only');
  const peer = new PyTorch('pytorch_resnet.py', value('python'), value('threads'));
  const results: object[] = [];
  let warning: string | null = null;
  process.stdout.write(
    '| model | dtype | ours, images/s | PyTorch, images/s | ratio | of the convolution bound |\n|---|---|---|---|---|---|\n',
  );
  for (const row of ROWS) {
    const name = `${row.dataset} ResNet-${row.size}, batch ${row.batch}`;
    if (!`${name} ${row.dtype}`.includes(only)) continue;
    const ours: ResnetBenchReport[] = [];
    const torch: TorchRound[] = [];
    for (let round = 0; round < value<number>('rounds'); round++) {
      ours.push(await measureOurs(row, value('threads'), value('steps')));
      const { dataset, size, batch, dtype, warmup } = row;
      const same = { dataset, resnet_size: size, batch_size: batch, dtype, steps: value<number>('steps'), warmup };
      torch.push(await peer.round(same));
    }
    warning ??= blasWarning((torch[0] as TorchRound).default);
    const mine = summarize(ours.map((report) => report.images_per_second)).median;
    const { malloc, examplesPerSecond: theirs } = betterMalloc(torch);
    const bound = summarize(ours.map((report) => report.fraction_of_conv_bound ?? 0)).median;
    results.push({
      ...row,
      images_per_second: mine,
      pytorch_images_per_second: theirs,
      pytorch_malloc: malloc,
      ratio: mine / theirs,
      fraction_of_conv_bound: bound,
    });
    process.stdout.write(
      `| ${name} | ${row.dtype} | ${mine.toFixed(1)} | ${theirs.toFixed(1)} | ${(mine / theirs).toFixed(2)} | ${bound.toFixed(2)} |\n`,
    );
  }
  if (warning !== null) process.stderr.write(`lockstep bench peers: ${warning}\n`);
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
