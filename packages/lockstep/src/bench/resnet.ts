/**
 * `lockstep bench resnet`: how fast a training step is, where its time goes, and how near it comes to the convolution bound.
 * With several replicas each round measures, one after the other and on the same cores, all of them together, all at once without
 * waiting for each other, and one while the others rest. What working together costs is told apart from what sharing a machine
 * costs (memory bandwidth, clock rate), and a disturbance from outside touches one round only.
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
import { flagMain } from '../flag-main.js';
import { defineDataset, defineDtype } from './network-flags.js';
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
  /** One replica, while the others rest. */
  readonly alone_images_per_second?: number;
  /** Images per second of all replicas, by as many times those of one alone; the median over rounds, as the next. */
  readonly scaling_efficiency?: number;
  /** The same replicas at the same time, none waiting for another: what this machine can do at most. */
  readonly apart_images_per_second?: number;
  /** Images per second of all replicas, by those apart: what working together costs, without what sharing a machine costs. */
  readonly fraction_of_apart?: number;
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    await registerBackend(flags);
    const report = await measure(flags);
    // Of several processes one speaks.
    if ((launchedProcess()?.rank ?? 0) > 0) return 0;
    if (flags.get('json')) process.stdout.write(`${JSON.stringify(report)}\n`);
    else process.stdout.write(format(report));
    return 0;
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench resnet',
    summary: 'Measures a training step of the ResNet.',
  });
  const key = true;
  defineDataset(flags);
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
  defineDtype(flags);
  flags.DEFINE_integer({ name: 'num_cpus', shortName: 'nc', default: 1, lowerBound: 1, key, help: 'Replicas.' });
  flags.DEFINE_integer({
    name: 'num_packs',
    shortName: 'np',
    default: null,
    words: ['auto'],
    lowerBound: 1,
    key,
    help: 'Packs that gradients are reduced in. Without it one; between worker processes as many as their size asks for, and with auto what is fastest by the model (--warmup=13 is over by then).',
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
  flags.DEFINE_integer({
    name: 'steps',
    default: 10,
    lowerBound: 1,
    key,
    help: 'Steps that are timed, of each round.',
  });
  flags.DEFINE_integer({ name: 'warmup', default: 3, lowerBound: 0, key, help: 'Steps before that.' });
  flags.DEFINE_integer({
    name: 'rounds',
    default: 3,
    lowerBound: 1,
    key,
    help: 'Of several replicas: turns of steps together, apart, and alone.',
  });
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
  const compares = replicas * (launchedProcess()?.size ?? 1) > 1;
  const args: BenchArguments = {
    plan,
    compares,
    rounds: compares ? (value('rounds') as number) : 1,
    batchSize: value('batch_size') as number,
    steps: value('steps') as number,
    warmup: value('warmup') as number,
    dtype: value('dtype') === 'bf16' ? 'bf16' : 'f32',
    records: dataset === 'cifar10' ? madeUpRecords(RECORDS) : null,
    recordCount: RECORDS,
  };
  const numPacks = value('num_packs') as number | 'auto' | null;
  const workers = openWorkers(flags, replicas, numPacks);
  const results = workers
    ? await runOn(workers, threads, args)
    : await run(replicas, threads, typeof numPacks === 'number' ? numPacks : 1, args);
  const own = summarizeRun(results, args, workers?.numWorkers ?? 1);
  workers?.close();
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
    ...(args.compares && (workers?.isChief ?? true) && compare(results, args, workers?.numWorkers ?? 1)),
  };
}

/** @param workers Processes that are alike, of which this one has the results of its own replicas. */
function compare(results: readonly BenchResult[], { batchSize }: BenchArguments, workers: number) {
  const [first] = results as [BenchResult];
  const rate = (samples: readonly number[]) => (1000 * batchSize) / summarize(samples).median;
  const total = workers * results.length;
  const rounds = first.rounds.map(({ alone }, i) => {
    const of = (kind: 'together' | 'apart') => results.map(({ rounds }) => rounds[i]?.[kind] as readonly number[]);
    const together = total * rate(slowest(of('together')));
    const apart = workers * of('apart').reduce((sum, samples) => sum + rate(samples), 0);
    return { together, apart, alone: rate(alone) };
  });
  const median = (values: number[]) => summarize(values).median;
  return {
    alone_images_per_second: median(rounds.map(({ alone }) => alone)),
    scaling_efficiency: median(rounds.map(({ together, alone }) => together / (total * alone))),
    apart_images_per_second: median(rounds.map(({ apart }) => apart)),
    fraction_of_apart: median(rounds.map(({ together, apart }) => together / apart)),
  };
}

/** Replicas step together, so the slowest one's time is the step's. */
function slowest(samples: readonly (readonly number[])[]): number[] {
  return (samples[0] as number[]).map((_, i) => Math.max(...samples.map((times) => times[i] as number)));
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

function runOn(strategy: Strategy, threads: number | null, args: BenchArguments): Promise<BenchResult[]> {
  const options = threads === null ? {} : { threadsPerReplica: threads };
  return strategy.run<BenchResult>(MODULE, args, options);
}

/** The processes that mpirun started, as workers; null for one process. */
function openWorkers(
  flags: FlagValues,
  replicas: number,
  numPacks: number | 'auto' | null,
): MultiWorkerMirroredStrategy | null {
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
  const [first] = results as [BenchResult];
  const stepMs = slowest(results.map((result) => result.stepMs));
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
      `  scaling       ${(report.scaling_efficiency * report.num_cpus * report.num_workers).toFixed(2)} times one replica alone, ${report.alone_images_per_second?.toFixed(1)} images/s (efficiency ${(100 * report.scaling_efficiency).toFixed(0)} %)`,
    );
  }
  if (report.apart_images_per_second !== undefined) {
    lines.push(
      `  apart         ${report.apart_images_per_second.toFixed(1)} images/s of the same replicas if none waits for another, of which they make ${(100 * (report.fraction_of_apart as number)).toFixed(1)} % together`,
    );
  }
  return `${lines.join('\n')}\n`;
}
