/**
 * `lockstep bench resnet`: how fast a training step is, where its time goes, and how near it comes to the convolution bound.
 * With several replicas one replica with as many threads is measured before and after, in the same run, for the scaling
 * efficiency.
 */
import {
  launchedProcess,
  MirroredStrategy,
  MultiWorkerMirroredStrategy,
  OneDeviceStrategy,
  type Strategy,
} from '@lockstep/distribute';
import { RECORD_BYTES } from '@lockstep/official/data/cifar10-data';
import { cifar10Plan, imagenetPlan, type ResNetPlan } from '@lockstep/official/resnet/resnet-model';
import { FlagValues } from '@lockstep/official/utils/flags/core';
import { Philox } from '@lockstep/official/utils/random/philox';
import { registerBackend } from '../backend.js';
import { benchMain } from './bench-main.js';
import type { BenchArguments, BenchResult, Phase } from './resnet-bench-replica.js';
import { type Summary, summarize } from './statistics.js';

const PHASES: readonly Phase[] = ['input', 'forward', 'backward', 'reduce', 'update'];
const MODULE = new URL('./resnet-bench-replica.js', import.meta.url);
const RECORDS = 2048;

/** One measurement: `--json` prints it. */
export interface ResnetBenchReport {
  readonly dataset: string;
  readonly resnet_size: number;
  readonly resnet_version: number;
  readonly batch_size: number;
  readonly dtype: string;
  readonly num_cpus: number;
  readonly num_workers: number;
  readonly threads: number | null;
  readonly images_per_second: number;
  readonly images_per_second_min: number;
  readonly images_per_second_max: number;
  readonly step_ms: number;
  readonly phase_ms: Readonly<Record<Phase, number>>;
  readonly conv_bound_ms: number | null;
  readonly fraction_of_conv_bound: number | null;
  readonly resident_mb: readonly [number, number];
  readonly new_buffers: number | null;
  /** Images per second of all replicas, by those of as many times one replica that had the machine to itself. */
  readonly scaling_efficiency?: number;
  /** The same replicas at the same time, none waiting for another: what this machine can do at most. */
  readonly apart_images_per_second?: number;
  /** Images per second of all replicas, by those apart: what working together costs, without what sharing a machine costs. */
  readonly fraction_of_apart?: number;
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return benchMain(argv, flags, async () => {
    await registerBackend(argv);
    const report = await measure(flags);
    // Of several processes one speaks.
    if ((launchedProcess()?.rank ?? 0) > 0) return 0;
    if (flags.get('json')) process.stdout.write(`${JSON.stringify(report)}\n`);
    else process.stdout.write(format(report));
    return 0;
  });
}

function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench resnet',
    summary: 'Measures a training step of the ResNet.',
  });
  const key = true;
  flags.DEFINE_enum({
    name: 'dataset',
    default: 'cifar10',
    enumValues: ['cifar10', 'imagenet'],
    key,
    help: 'Which network.',
  });
  flags.DEFINE_integer({ name: 'resnet_size', shortName: 'rs', default: 20, key, help: 'Layers of the network.' });
  flags.DEFINE_integer({
    name: 'resnet_version',
    shortName: 'rv',
    default: 1,
    lowerBound: 1,
    upperBound: 2,
    key,
    help: 'Version of the network.',
  });
  flags.DEFINE_integer({
    name: 'batch_size',
    shortName: 'bs',
    default: 128,
    lowerBound: 1,
    key,
    help: 'Images of each replica.',
  });
  flags.DEFINE_enum({
    name: 'dtype',
    shortName: 'dt',
    default: 'fp32',
    enumValues: ['fp32', 'bf16'],
    key,
    help: 'Element type of activations.',
  });
  flags.DEFINE_integer({ name: 'num_cpus', shortName: 'nc', default: 1, lowerBound: 1, key, help: 'Replicas.' });
  flags.DEFINE_integer({
    name: 'num_packs',
    shortName: 'np',
    default: null,
    lowerBound: 1,
    key,
    help: 'Packs that gradients are reduced in. Without it one; between worker processes as many as their size asks for.',
  });
  flags.DEFINE_enum({
    name: 'gradient_dtype',
    default: 'f32',
    enumValues: ['f32', 'bf16'],
    key,
    help: 'Under mpirun: type in which gradients travel between processes.',
  });
  flags.DEFINE_bool({
    name: 'ring',
    default: false,
    key,
    help: 'Under mpirun: sum around a ring instead of in rank order.',
  });
  flags.DEFINE_integer({
    name: 'intra_op_parallelism_threads',
    shortName: 'intra',
    default: 0,
    lowerBound: 0,
    key,
    help: 'OpenMP threads of each replica; 0: cores divided by replicas.',
  });
  flags.DEFINE_integer({ name: 'steps', default: 10, lowerBound: 1, key, help: 'Steps that are timed.' });
  flags.DEFINE_integer({ name: 'warmup', default: 3, lowerBound: 0, key, help: 'Steps before that.' });
  flags.DEFINE_enum({ name: 'backend', default: 'onednn', enumValues: ['onednn', 'cpu'], key, help: 'What computes.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

async function measure(flags: FlagValues): Promise<ResnetBenchReport> {
  const value = (name: string) => flags.get(name as never) as unknown;
  const dataset = value('dataset') as string;
  const size = value('resnet_size') as number;
  const version = value('resnet_version') as number;
  const plan: ResNetPlan = dataset === 'cifar10' ? cifar10Plan(size, version) : imagenetPlan(size, version);
  const replicas = value('num_cpus') as number;
  const threads = (value('intra_op_parallelism_threads') as number) || null;
  const args: BenchArguments = {
    plan,
    batchSize: value('batch_size') as number,
    steps: value('steps') as number,
    warmup: value('warmup') as number,
    dtype: value('dtype') === 'bf16' ? 'bf16' : 'f32',
    records: dataset === 'cifar10' ? madeUpRecords(RECORDS) : null,
    recordCount: RECORDS,
  };
  const numPacks = value('num_packs') as number | null;
  const workers = openWorkers(flags, replicas, numPacks);
  const threadsOfOne = threads ?? (replicas > 1 ? await threadsPerReplica(replicas) : null);
  // One replica first; other processes wait for the chief to be through with it.
  const isAloneMeasured = (replicas > 1 || workers !== null) && (workers?.isChief ?? true);
  const alone: number[] = [];
  const measureAlone = async () => {
    if (isAloneMeasured) alone.push(summarizeRun(await run(1, threadsOfOne, 1, args), args).images_per_second);
  };
  await measureAlone();
  workers?.fromChief(null);
  const results = workers ? await runOn(workers, threads, args) : await run(replicas, threads, numPacks ?? 1, args);
  const own = summarizeRun(results, args, workers?.numWorkers ?? 1);
  const total = replicas * (workers?.numWorkers ?? 1);
  const apart = total === 1 ? null : (await runApart(replicas, threadsOfOne, args)) * (workers?.numWorkers ?? 1);
  workers?.close();
  // And once more behind: what else the machine does changes meanwhile.
  await measureAlone();
  return {
    dataset,
    resnet_size: size,
    resnet_version: version,
    batch_size: args.batchSize,
    dtype: value('dtype') as string,
    num_cpus: replicas,
    num_workers: workers?.numWorkers ?? 1,
    threads,
    ...own,
    ...(isAloneMeasured
      ? { scaling_efficiency: (own.images_per_second * alone.length) / (total * alone.reduce((a, b) => a + b, 0)) }
      : {}),
    ...(apart !== null && {
      apart_images_per_second: apart,
      fraction_of_apart: own.images_per_second / apart,
    }),
  };
}

async function threadsPerReplica(replicas: number): Promise<number> {
  const { listDevices } = await import('@lockstep/distribute');
  return (listDevices({ numCpus: replicas })[0] as { threads: number }).threads;
}

function run(replicas: number, threads: number | null, numPacks: number, args: BenchArguments): Promise<BenchResult[]> {
  const strategy =
    replicas === 1
      ? new OneDeviceStrategy('cpu:0')
      : new MirroredStrategy({
          devices: Array.from({ length: replicas }, (_, i) => `cpu:${i}`),
          numPacks,
          log: () => {},
        });
  return runOn(strategy, threads, args);
}

/** Replicas that share the machine and nothing else. @returns their images per second, summed over this process. */
async function runApart(replicas: number, threads: number | null, args: BenchArguments): Promise<number> {
  const options = { ...(threads !== null && { threadsPerReplica: threads }), bindThreads: false };
  const runs = Array.from({ length: replicas }, () =>
    new OneDeviceStrategy('cpu:0').run<BenchResult>(MODULE, { ...args, bound: false }, options),
  );
  const results = await Promise.all(runs);
  return results.reduce((sum, result) => sum + summarizeRun(result, args).images_per_second, 0);
}

function runOn(strategy: Strategy, threads: number | null, args: BenchArguments): Promise<BenchResult[]> {
  const options = threads === null ? {} : { threadsPerReplica: threads };
  return strategy.run<BenchResult>(MODULE, args, options);
}

/** The processes that mpirun started, as workers; null for one process. */
function openWorkers(flags: FlagValues, replicas: number, numPacks: number | null): MultiWorkerMirroredStrategy | null {
  if ((launchedProcess()?.size ?? 1) === 1) return null;
  return new MultiWorkerMirroredStrategy({
    devices: Array.from({ length: replicas }, (_, i) => `cpu:${i}`),
    communication: flags.get('ring' as never) ? 'RING' : 'AUTO',
    gradientDtype: flags.get('gradient_dtype' as never) as 'f32' | 'bf16',
    ...(numPacks !== null && { numPacks }),
    log: () => {},
  });
}

/** @param workers Processes whose steps take as long, because they are in step. */
function summarizeRun(results: readonly BenchResult[], { batchSize }: BenchArguments, workers = 1) {
  // Replicas step together, so the slowest one's time is the step's.
  const [first] = results as [BenchResult];
  const stepMs = first.stepMs.map((_, i) => Math.max(...results.map((result) => result.stepMs[i] as number)));
  const { median, min, max }: Summary = summarize(stepMs);
  const images = batchSize * results.length * workers;
  const bounds = results.map(({ convBoundMs }) => convBoundMs).filter((bound) => bound !== null);
  const bound = bounds.length > 0 ? Math.max(...bounds) : null;
  return {
    images_per_second: (1000 * images) / median,
    images_per_second_min: (1000 * images) / max,
    images_per_second_max: (1000 * images) / min,
    step_ms: median,
    phase_ms: Object.fromEntries(PHASES.map((phase) => [phase, summarize(first.phaseMs[phase]).median])) as Record<
      Phase,
      number
    >,
    conv_bound_ms: bound,
    fraction_of_conv_bound: bound === null ? null : bound / median,
    resident_mb: first.residentBytes.map((bytes) => Math.round(bytes / 2 ** 20)) as unknown as readonly [
      number,
      number,
    ],
    new_buffers: results.reduce<number | null>(
      (sum, { newBuffers }) => (newBuffers === null ? null : (sum ?? 0) + newBuffers),
      0,
    ),
  };
}

/** Random bytes in CIFAR-10's format: the pipeline does all of its work on them. */
function madeUpRecords(count: number): Uint8Array {
  const random = new Philox(1);
  const records = new Uint8Array(new SharedArrayBuffer(count * RECORD_BYTES));
  const words = new Uint32Array(Math.floor(records.length / 4));
  for (let i = 0; i < words.length; i++) words[i] = random.uint32();
  records.set(new Uint8Array(words.buffer));
  for (let i = 0; i < count; i++) records[i * RECORD_BYTES] = i % 10;
  return records;
}

function format(report: ResnetBenchReport): string {
  const { images_per_second: rate, images_per_second_min: low, images_per_second_max: high } = report;
  const lines = [
    `ResNet-${report.resnet_size} v${report.resnet_version}, ${report.dataset}, batch ${report.batch_size} × ${report.num_cpus} replica${report.num_cpus === 1 ? '' : 's'}${report.num_workers > 1 ? ` × ${report.num_workers} workers` : ''}, ${report.dtype}`,
    `  images/s      ${rate.toFixed(1)} (min ${low.toFixed(1)}, max ${high.toFixed(1)})`,
    `  step          ${report.step_ms.toFixed(1)} ms`,
    ...PHASES.map((phase) => `    ${phase.padEnd(11)} ${report.phase_ms[phase].toFixed(1)} ms`),
  ];
  if (report.conv_bound_ms !== null) {
    lines.push(
      `  convolutions  ${report.conv_bound_ms.toFixed(1)} ms bare: ${(100 * (report.fraction_of_conv_bound as number)).toFixed(0)} % of the step is the convolution bound`,
    );
  }
  lines.push(
    `  memory        ${report.resident_mb[0]} MB after warm-up, ${report.resident_mb[1]} MB at the end; ${report.new_buffers} new large buffers`,
  );
  if (report.scaling_efficiency !== undefined) {
    lines.push(
      `  scaling       ${(report.scaling_efficiency * report.num_cpus * report.num_workers).toFixed(2)} times one replica (efficiency ${(100 * report.scaling_efficiency).toFixed(0)} %)`,
    );
  }
  if (report.apart_images_per_second !== undefined) {
    lines.push(
      `  apart         ${report.apart_images_per_second.toFixed(1)} images/s of the same replicas if none waits for another; together they make ${(100 * (report.fraction_of_apart as number)).toFixed(0)} % of it`,
    );
  }
  return `${lines.join('\n')}\n`;
}
