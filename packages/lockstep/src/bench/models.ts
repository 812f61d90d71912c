/**
 * `lockstep bench models`: six networks that people train, each beside PyTorch's in one run, in turns, so that a busy neighbour slows
 * both; and on two replicas of one thread each beside one of one thread. Which networks: networks.ts, and peers/pytorch_models.py.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MirroredStrategy, OneDeviceStrategy } from '@lockstep/distribute';
import { FlagValues, UsageError } from '@lockstep/official/utils/flags/core';
import { registerBackend } from '../backend.js';
import { flagMain } from '../flag-main.js';
import type { ModelsBenchArguments, ModelsBenchResult } from './models-replica.js';
import { NETWORKS, type NetworkName } from './networks.js';
import {
  betterMalloc,
  blasWarning,
  definePeerFlags,
  describeSettings,
  type Malloc,
  PyTorch,
  type TorchRound,
  type TorchSettings,
} from './pytorch.js';
import { summarize } from './statistics.js';

const MODULE = new URL('./models-replica.js', import.meta.url);
/** From the same weights the first loss differs by rounding; what Adam makes of gradients near zero, by more with each step. */
const LOSS_TOLERANCES = [1e-4, 0.01, 0.05];

/** One network. Examples are what a batch has many of: vectors, pictures, sequences. */
export interface ModelsRow {
  readonly model: NetworkName;
  readonly batch_size: number;
  readonly parameters: number;
  readonly examples_per_second: number;
  readonly step_ms: number;
  readonly first_losses: readonly number[];
  /** With the malloc that suits it. Null without a peer, as the next five. */
  readonly pytorch_examples_per_second: number | null;
  readonly pytorch_malloc: Malloc | null;
  readonly pytorch_parameters: number | null;
  /** From our weights. */
  readonly pytorch_first_losses: readonly number[] | null;
  /** Ours by PyTorch's. */
  readonly ratio: number | null;
  /** One replica of one thread, and two of them. */
  readonly one_thread_examples_per_second: number;
  readonly two_replicas_examples_per_second: number;
  /** The second by the first; the median over rounds. */
  readonly scaling: number;
}

/** `--json` prints it. */
export interface ModelsReport {
  readonly threads: number;
  readonly pytorch: TorchSettings | null;
  readonly rows: readonly ModelsRow[];
  /** Of the ratios. */
  readonly geometric_mean: number | null;
}

/** Steps of either side: about a second of them, after V8 has compiled and memory pools are full. */
const STEPS: Readonly<Record<NetworkName, { readonly warmup: number; readonly steps: number }>> = {
  mlp: { warmup: 150, steps: 500 },
  cnn: { warmup: 12, steps: 25 },
  lstm: { warmup: 20, steps: 80 },
  transformer: { warmup: 60, steps: 50 },
  mobilenet: { warmup: 12, steps: 25 },
  unet: { warmup: 15, steps: 50 },
};

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    const value = <T>(name: string) => flags.get(name as never) as unknown as T;
    const only = value<string>('only');
    const names = (Object.keys(NETWORKS) as NetworkName[]).filter((name) => name.includes(only));
    if (names.length === 0) {
      throw new UsageError(`flag --only: no model's name has '${only}' in it`, {
        flag: 'only',
        value: only,
        remedy: `They are ${Object.keys(NETWORKS).join(', ')}.`,
      });
    }
    await registerBackend(flags);
    const peer = value<boolean>('pytorch')
      ? new PyTorch('pytorch_models.py', value('python'), value('threads'), '; --nopytorch measures us alone')
      : null;
    const report = await measure(names, peer, flags);
    if (value('json')) process.stdout.write(`${JSON.stringify(report)}\n`);
    return 0;
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench models',
    summary:
      'Six networks that people train, beside PyTorch and on two replicas. Needs python3-torch, and OpenBLAS for it.',
  });
  const key = true;
  definePeerFlags(flags);
  flags.DEFINE_bool({ name: 'pytorch', default: true, key, help: 'Measure PyTorch too.' });
  flags.DEFINE_string({
    name: 'only',
    default: '',
    key,
    help: `Models whose name contains this, of ${Object.keys(NETWORKS).join(', ')}.`,
  });
  flags.DEFINE_integer({
    name: 'steps',
    default: null,
    lowerBound: 1,
    key,
    help: 'Steps of each measurement. Without it as many as take about a second.',
  });
  flags.DEFINE_integer({
    name: 'warmup',
    default: null,
    lowerBound: 0,
    key,
    help: 'Steps before that. Without it as many as a network needs until its steps are alike.',
  });
  flags.DEFINE_enum({ name: 'backend', default: 'onednn', enumValues: ['onednn', 'cpu'], key, help: 'What computes.' });
  return flags;
}

const HEAD =
  '| model | batch | ours, examples/s | PyTorch, examples/s | ratio | its malloc | two replicas, times one |\n|---|---|---|---|---|---|---|\n';

async function measure(names: readonly NetworkName[], peer: PyTorch | null, flags: FlagValues): Promise<ModelsReport> {
  const value = <T>(name: string) => flags.get(name as never) as unknown as T;
  // First of all: whether it is there at all.
  const settings = peer ? await peer.run<TorchSettings>({}, 'default') : null;
  if (settings) {
    process.stdout.write(`${describeSettings(settings)}\n\n`);
    const warning = blasWarning(settings);
    if (warning !== null) process.stderr.write(`lockstep bench models: ${warning}\n`);
  }
  process.stdout.write(HEAD);
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-bench-models-'));
  const rows: ModelsRow[] = [];
  try {
    for (const name of names) {
      const row = await measureOne(name, peer, folder, {
        threads: value('threads'),
        rounds: value('rounds'),
        steps: value<number | null>('steps') ?? STEPS[name].steps,
        warmup: value<number | null>('warmup') ?? STEPS[name].warmup,
      });
      rows.push(row);
      process.stdout.write(`${format(row)}\n`);
      const warning = lossWarning(row);
      if (warning !== null) process.stderr.write(`lockstep bench models: ${warning}\n`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const ratios = rows.flatMap(({ ratio }) => ratio ?? []);
  const mean =
    ratios.length > 0 ? Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length) : null;
  if (mean !== null) process.stdout.write(`\nGeometric mean of the ratios: ${mean.toFixed(2)}\n`);
  return { threads: value('threads'), pytorch: settings, rows, geometric_mean: mean };
}

interface Turns {
  readonly threads: number;
  readonly rounds: number;
  readonly steps: number;
  readonly warmup: number;
}

async function measureOne(
  network: NetworkName,
  peer: PyTorch | null,
  folder: string,
  { threads, rounds, steps, warmup }: Turns,
): Promise<ModelsRow> {
  const ours: number[] = [];
  const theirs: TorchRound[] = [];
  const scaling: { one: number; two: number }[] = [];
  let first: ModelsBenchResult | null = null;
  const file = join(folder, `${network}.f32`);
  const run = async (replicas: number, threadsPerReplica: number, wantsWeights = false) => {
    const args: ModelsBenchArguments = { network, steps, warmup, wantsWeights };
    const results = await strategyOf(replicas).run<ModelsBenchResult>(MODULE, args, { threadsPerReplica });
    return { rate: rateOf(results), first: results[0] as ModelsBenchResult };
  };
  for (let round = 0; round < rounds; round++) {
    const result = await run(1, threads, first === null);
    ours.push(result.rate);
    first ??= result.first;
    if (peer) {
      if (round === 0) writeFileSync(file, first.weights as Float32Array);
      theirs.push(await peer.round({ network, weights: file, steps, warmup }));
    }
    const one = threads === 1 ? result.rate : (await run(1, 1)).rate;
    scaling.push({ one, two: (await run(2, 1)).rate });
  }
  const { batch, parameters, firstLosses } = first as ModelsBenchResult;
  const median = (samples: readonly number[]) => summarize(samples).median;
  const rate = median(ours);
  const better = peer ? betterMalloc(theirs) : null;
  const torch = theirs[0]?.default;
  return {
    model: network,
    batch_size: batch,
    parameters,
    examples_per_second: rate,
    step_ms: (1000 * batch) / rate,
    first_losses: firstLosses,
    pytorch_examples_per_second: better?.examplesPerSecond ?? null,
    pytorch_malloc: better?.malloc ?? null,
    pytorch_parameters: torch?.parameters ?? null,
    pytorch_first_losses: torch?.first_losses ?? null,
    ratio: better ? rate / better.examplesPerSecond : null,
    one_thread_examples_per_second: median(scaling.map(({ one }) => one)),
    two_replicas_examples_per_second: median(scaling.map(({ two }) => two)),
    scaling: median(scaling.map(({ one, two }) => two / one)),
  };
}

function strategyOf(replicas: number): OneDeviceStrategy | MirroredStrategy {
  if (replicas === 1) return new OneDeviceStrategy('cpu:0');
  return new MirroredStrategy({ devices: Array.from({ length: replicas }, (_, i) => `cpu:${i}`), log: () => {} });
}

/** Examples per second of all replicas, which step together: the slowest one's median counts. */
function rateOf(results: readonly ModelsBenchResult[]): number {
  const step = Math.max(...results.map(({ stepMs }) => summarize(stepMs).median));
  const [{ batch }] = results as [ModelsBenchResult];
  return (1000 * batch * results.length) / step;
}

/** Whether both sides did the same: parameters to the number, first losses to rounding. */
export function lossWarning(row: ModelsRow): string | null {
  const { model, parameters, pytorch_parameters: others, first_losses: ours, pytorch_first_losses: losses } = row;
  if (losses === null) return null;
  const isSame = ours.every(
    (loss, i) => Math.abs(loss - (losses[i] as number)) <= (LOSS_TOLERANCES[i] as number) * Math.abs(loss),
  );
  if (parameters === others && isSame) return null;
  return `${model} is not the same on both sides: ${parameters} and ${others} parameters, first losses ${ours.join(', ')} and ${losses.join(', ')}.`;
}

function format(row: ModelsRow): string {
  const number = (value: number | null, digits: number) => value?.toFixed(digits) ?? '';
  const cells = [
    row.model,
    row.batch_size,
    number(row.examples_per_second, 1),
    number(row.pytorch_examples_per_second, 1),
    number(row.ratio, 2),
    row.pytorch_malloc ?? '',
    number(row.scaling, 2),
  ];
  return `| ${cells.join(' | ')} |`;
}
