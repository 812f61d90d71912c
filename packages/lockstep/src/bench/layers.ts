/**
 * `lockstep bench layers`: the same CIFAR-10 ResNet twice in one run, in turns: the official one, and one that a user wrote in
 * plain `tf.layers` and trains with `model.fit`. The ratio says what writing plain layers costs.
 */
import { OneDeviceStrategy } from '@lockstep/distribute';
import { cifar10Plan } from '@lockstep/official/resnet/resnet-model';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { registerBackend } from '../backend.js';
import { flagMain } from '../flag-main.js';
import type { LayersBenchArguments, LayersBenchResult } from './layers-bench-replica.js';
import { defineDtype } from './network-flags.js';
import type { BenchArguments, BenchResult } from './resnet-bench-replica.js';
import { summarize } from './statistics.js';

/** One measurement: `--json` prints it. */
export interface LayersBenchReport {
  readonly resnet_size: number;
  readonly batch_size: number;
  readonly dtype: string;
  readonly official_images_per_second: number;
  readonly layers_images_per_second: number;
  /** Of the plain tf.layers network's speed to the official one's. */
  readonly ratio: number;
  readonly layers_primitives: Readonly<Record<string, number>>;
  readonly layers_kernels: Readonly<Record<string, number>>;
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    await registerBackend(flags);
    const report = await measure(flags);
    process.stdout.write(flags.get('json') ? `${JSON.stringify(report)}\n` : format(report));
    return 0;
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench layers',
    summary: 'The same ResNet in plain tf.layers and in the official form, side by side.',
  });
  const key = true;
  flags.DEFINE_integer({ name: 'resnet_size', shortName: 'rs', default: 20, key, help: 'Layers: 6n + 2.' });
  flags.DEFINE_integer({ name: 'batch_size', shortName: 'bs', default: 128, lowerBound: 1, key, help: 'Images.' });
  defineDtype(flags);
  flags.DEFINE_integer({
    name: 'intra_op_parallelism_threads',
    shortName: 'intra',
    default: 0,
    lowerBound: 0,
    key,
    help: 'OpenMP threads; 0: every core.',
  });
  flags.DEFINE_integer({ name: 'steps', default: 10, lowerBound: 1, key, help: 'Steps that are timed, each turn.' });
  flags.DEFINE_integer({ name: 'warmup', default: 3, lowerBound: 0, key, help: 'Steps before that.' });
  flags.DEFINE_integer({ name: 'rounds', default: 3, lowerBound: 1, key, help: 'Turns of each side.' });
  flags.DEFINE_enum({ name: 'backend', default: 'onednn', enumValues: ['onednn', 'cpu'], key, help: 'What computes.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

async function measure(flags: FlagValues): Promise<LayersBenchReport> {
  const value = <T>(name: string) => flags.get(name as never) as unknown as T;
  const resnetSize = value<number>('resnet_size');
  const batchSize = value<number>('batch_size');
  const dtype = value<string>('dtype');
  const common = {
    batchSize,
    steps: value<number>('steps'),
    warmup: value<number>('warmup'),
    dtype: dtype === 'bf16' ? ('bf16' as const) : ('f32' as const),
  };
  const plan = cifar10Plan(resnetSize, 1);
  const threads = value<number>('intra_op_parallelism_threads');
  const options = threads > 0 ? { threadsPerReplica: threads } : {};
  const once = async <R>(module: string, args: object): Promise<R> => {
    const [result] = await new OneDeviceStrategy('cpu:0').run<R>(new URL(module, import.meta.url), args, options);
    return result as R;
  };
  const official: number[] = [];
  const plain: number[] = [];
  let last: LayersBenchResult | null = null;
  for (let round = 0; round < value<number>('rounds'); round++) {
    const officialArgs: BenchArguments = { ...common, plan, records: null, recordCount: 0 };
    official.push(...(await once<BenchResult>('./resnet-bench-replica.js', officialArgs)).stepMs);
    const layersArgs: LayersBenchArguments = { ...common, resnetSize };
    last = await once<LayersBenchResult>('./layers-bench-replica.js', layersArgs);
    plain.push(...last.stepMs);
  }
  const rate = (samples: readonly number[]) => (1000 * batchSize) / summarize(samples).median;
  return {
    resnet_size: resnetSize,
    batch_size: batchSize,
    dtype,
    official_images_per_second: rate(official),
    layers_images_per_second: rate(plain),
    ratio: rate(plain) / rate(official),
    layers_primitives: last?.primitives ?? {},
    layers_kernels: last?.kernels ?? {},
  };
}

function format(report: LayersBenchReport): string {
  const list = (table: Readonly<Record<string, number>>) =>
    Object.entries(table)
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => `${count} ${name}`)
      .join(', ');
  return [
    `ResNet-${report.resnet_size} v1, CIFAR-10, batch ${report.batch_size}, ${report.dtype}`,
    `  official      ${report.official_images_per_second.toFixed(1)} images/s`,
    `  tf.layers     ${report.layers_images_per_second.toFixed(1)} images/s (model.fit)`,
    `  ratio         ${report.ratio.toFixed(2)}`,
    `  one tf.layers step asks TensorFlow.js for: ${list(report.layers_kernels)}`,
    `  and runs in oneDNN: ${list(report.layers_primitives)}`,
    '',
  ].join('\n');
}
