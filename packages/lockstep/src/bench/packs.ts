/**
 * `lockstep bench packs`: what the number of packs does to a training step on this machine. Steps with different numbers of
 * packs take turns in one run, and each is compared with the one-pack step of its own round.
 */
import { createCrossDeviceOps, MirroredStrategy } from '@lockstep/distribute';
import { cifar10Plan, imagenetPlan } from '@lockstep/official/resnet/resnet-model';
import { FlagValues, UsageError } from '@lockstep/official/utils/flags/core';
import { registerBackend } from '../backend.js';
import { flagMain } from '../flag-main.js';
import { defineDataset } from './network-flags.js';
import type { PacksBenchArguments, PacksSamples } from './packs-replica.js';
import { summarize } from './statistics.js';

/** One number of packs. */
export interface PacksRow {
  readonly num_packs: number;
  /** Median and fastest step, the slowest replica's time in each. */
  readonly step_ms: number;
  readonly step_ms_min: number;
  /** Median of what is not computation: waiting, summing at the end, updating. */
  readonly reduce_ms: number;
  /** Median over rounds of step ÷ the step with the first number of packs in the same round. */
  readonly relative: number;
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    await registerBackend(flags);
    const value = (name: string) => flags.get(name as never) as unknown;
    const numPacks = (value('num_packs') as string[]).map(packCount);
    const [replicas, size, batchSize] = [value('num_cpus'), value('resnet_size'), value('batch_size')] as number[];
    const args: PacksBenchArguments = {
      plan: value('dataset') === 'cifar10' ? cifar10Plan(size as number, 1) : imagenetPlan(size as number, 1),
      batchSize: batchSize as number,
      numPacks,
      algorithm: value('all_reduce_alg') as string,
      steps: value('steps') as number,
      warmup: value('warmup') as number,
    };
    const devices = Array.from({ length: replicas as number }, (_, i) => `cpu:${i}`);
    const crossDeviceOps = createCrossDeviceOps(args.algorithm, 1);
    const threads = value('intra_op_parallelism_threads') as number;
    const samples = await new MirroredStrategy({ devices, crossDeviceOps }).run<PacksSamples[]>(
      new URL('./packs-replica.js', import.meta.url),
      args,
      threads > 0 ? { threadsPerReplica: threads } : {},
    );
    const rows = summarizePacks(samples);
    const title = `ResNet-${size}, batch ${batchSize} × ${replicas} replicas, ${crossDeviceOps.algorithm}, ${args.steps} rounds`;
    process.stdout.write(flags.get('json' as never) ? `${JSON.stringify({ rows })}\n` : `${title}\n\n${table(rows)}`);
    return 0;
  });
}

function packCount(text: string): number {
  const count = Number(text);
  if (Number.isInteger(count) && count > 0) return count;
  throw new UsageError(`flag --num_packs: '${text}' is not a positive whole number`, {
    flag: 'num_packs',
    value: text,
    remedy: 'Give numbers with commas between them: --num_packs=1,2,8.',
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench packs',
    summary: 'Measures a training step for several numbers of packs, in turns.',
  });
  const key = true;
  flags.DEFINE_list({ name: 'num_packs', shortName: 'np', default: ['1', '2', '4', '8', '16'], key, help: 'Which.' });
  defineDataset(flags);
  flags.DEFINE_integer({ name: 'resnet_size', shortName: 'rs', default: 20, key, help: 'Layers of the network.' });
  flags.DEFINE_integer({
    name: 'batch_size',
    shortName: 'bs',
    default: 128,
    lowerBound: 1,
    key,
    help: 'Images of each replica.',
  });
  flags.DEFINE_integer({ name: 'num_cpus', shortName: 'nc', default: 2, lowerBound: 1, key, help: 'Replicas.' });
  flags.DEFINE_string({
    name: 'all_reduce_alg',
    shortName: 'ara',
    default: 'sharded',
    key,
    help: 'sharded, hierarchical_copy or reduction_to_one_device.',
  });
  flags.DEFINE_integer({
    name: 'intra_op_parallelism_threads',
    shortName: 'intra',
    default: 0,
    lowerBound: 0,
    key,
    help: 'OpenMP threads of each replica; 0: cores divided by replicas.',
  });
  flags.DEFINE_integer({ name: 'steps', default: 15, lowerBound: 1, key, help: 'Timed steps of each.' });
  flags.DEFINE_integer({ name: 'warmup', default: 3, lowerBound: 0, key, help: 'Steps of each before that.' });
  flags.DEFINE_enum({ name: 'backend', default: 'onednn', enumValues: ['onednn', 'cpu'], key, help: 'What computes.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

/** @param samples Of each replica, the numbers of packs in the same order. */
export function summarizePacks(samples: readonly (readonly PacksSamples[])[]): PacksRow[] {
  const [first] = samples as [readonly PacksSamples[]];
  const slowest = (row: number, of: 'stepMs' | 'reduceMs') =>
    (first[row] as PacksSamples)[of].map((_, i) =>
      Math.max(...samples.map((replica) => (replica[row] as PacksSamples)[of][i] as number)),
    );
  const base = slowest(0, 'stepMs');
  return first.map(({ numPacks }, row) => {
    const steps = slowest(row, 'stepMs');
    const { median, min } = summarize(steps);
    return {
      num_packs: numPacks,
      step_ms: median,
      step_ms_min: min,
      reduce_ms: summarize(slowest(row, 'reduceMs')).median,
      relative: summarize(steps.map((ms, i) => ms / (base[i] as number))).median,
    };
  });
}

function table(rows: readonly PacksRow[]): string {
  const lines = [
    `| num_packs | step, ms | fastest step, ms | waiting, summing, updating, ms | step ÷ step with ${rows[0]?.num_packs} |`,
    '|---|---|---|---|---|',
    ...rows.map(
      ({ num_packs, step_ms, step_ms_min, reduce_ms, relative }) =>
        `| ${num_packs} | ${step_ms.toFixed(1)} | ${step_ms_min.toFixed(1)} | ${reduce_ms.toFixed(2)} | ${relative.toFixed(3)} |`,
    ),
  ];
  return `${lines.join('\n')}\n`;
}
