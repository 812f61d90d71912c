/**
 * `lockstep plan`: what a cluster would make of a run, before anybody rents one. From the steps of this machine (a timeline) and a network
 * (measured, or as its provider says): throughput, efficiency, the best number of packs, what limits, hours and costs.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  ALGORITHMS,
  type Algorithm,
  fitNetwork,
  type Network,
  type StepProfile,
} from '@lockstep/distribute/step-model';
import type { TraceEvent } from '@lockstep/official';
import { FlagValues, UsageError } from '@lockstep/official/utils/flags/core';
import type { AllReduceReport } from '../bench/all-reduce.js';
import { Neighbours } from '../bench/neighbours.js';
import { defineDataset, defineDtype } from '../bench/network-flags.js';
import { flagMain } from '../flag-main.js';
import { type PlanRow, plan } from '../plan/plan.js';
import { planPlot } from '../plan/plot.js';
import { readProfile } from '../plan/step-profile.js';

declare module '@lockstep/official/utils/flags/flag-values' {
  interface FlagTypes {
    timeline: string | null;
    dataset: string;
    workers: readonly string[];
    latency_us: number;
    bandwidth_gbit: number;
    network: string | null;
    wire: 'f32' | 'bf16' | 'both';
    images: number;
    price_per_hour: number | null;
    svg: string | null;
    json: boolean;
  }
}

const run = promisify(execFile);
const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));
/** A step of a large network takes seconds. */
const LIMIT_MS = 1_800_000;
/** Steps that are looked at, after some in which caches fill. */
const [FIRST, LAST] = [9, 24];
const BITS = 8;
const MOST_WORKERS = 65_536;

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    const { FLAGS } = flags;
    const workers = workersOf(FLAGS.workers);
    if (FLAGS.price_per_hour !== null && FLAGS.images === 0) {
      process.stderr.write('--price_per_hour has no effect without --images: how long the run is.\n');
    }
    const network = networkOf(flags);
    const profile =
      FLAGS.timeline === null ? await measureProfile(flags) : readTimeline(FLAGS.timeline, 'flag --timeline');
    const rows = plan({
      ...{ profile, network, workers, batchSize: FLAGS.batch_size },
      ...(typeof FLAGS.num_packs === 'number' && { cuts: [FLAGS.num_packs] }),
      ...(FLAGS.all_reduce_alg !== null && { algorithms: [algorithmOf(FLAGS.all_reduce_alg)] }),
      wires: FLAGS.wire === 'both' ? ['f32', 'bf16'] : [FLAGS.wire],
      images: FLAGS.images === 0 ? null : FLAGS.images,
      pricePerHour: FLAGS.price_per_hour,
    });
    const title = titleOf(flags, network);
    process.stdout.write(FLAGS.json ? `${JSON.stringify({ profile, network, rows })}\n` : format(rows, profile, title));
    // Last: the steps that were measured are not lost to a file that cannot be written.
    if (FLAGS.svg !== null) writeFileSync(FLAGS.svg, planPlot(rows, title));
    return 0;
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep plan',
    summary:
      'Predicts throughput, efficiency, the best num_packs, hours and costs on a cluster, from the steps of this machine and a network.',
    examples: [
      'lockstep plan --resnet_size=20 --bandwidth_gbit=10 --latency_us=30',
      'lockstep plan --dataset=imagenet --resnet_size=50 --batch_size=16 --images=115305030 --price_per_hour=1.5',
      'lockstep plan --timeline=model/timeline-20-40.json --batch_size=64 --workers=1,8,64 --svg=plan.svg',
    ],
  });
  const key = true;
  flags.DEFINE_string({
    name: 'timeline',
    default: null,
    key,
    help: 'A timeline of a run on this machine, by --profile_steps; --batch_size is that run’s. Default: a ResNet is measured now, on made-up images.',
  });
  defineDataset(flags);
  flags.DEFINE_string({ name: 'resnet_size', shortName: 'rs', default: '20', key, help: 'Layers of the network.' });
  flags.DEFINE_integer({
    name: 'batch_size',
    shortName: 'bs',
    default: 128,
    lowerBound: 1,
    key,
    help: 'Images of a step of each worker, all its replicas together.',
  });
  defineDtype(flags);
  flags.DEFINE_integer({
    name: 'num_cpus',
    shortName: 'nc',
    default: 1,
    lowerBound: 1,
    key,
    help: 'Replicas of each worker.',
  });
  flags.DEFINE_list({
    name: 'workers',
    default: ['1', '2', '4', '8', '16', '32', '64', '128', '256', '512', '1024'],
    key,
    help: 'Numbers of workers.',
  });
  flags.DEFINE_float({
    name: 'latency_us',
    default: 50,
    lowerBound: 0,
    key,
    help: 'Time of a short message between two workers, in microseconds.',
  });
  flags.DEFINE_float({
    name: 'bandwidth_gbit',
    default: 10,
    lowerBound: 0.001,
    key,
    help: 'What a worker sends and receives at once, in 10⁹ bits a second.',
  });
  flags.DEFINE_string({
    name: 'network',
    default: null,
    key,
    help: 'Latency and bandwidth as they were measured: a file with what `lockstep launch --hosts a,b -- bench all_reduce --json` printed.',
  });
  flags.DEFINE_string({
    name: 'all_reduce_alg',
    shortName: 'ara',
    default: null,
    key,
    help: `One of ${ALGORITHMS.join(', ')}. Default: the fastest.`,
  });
  flags.DEFINE_integer({
    name: 'num_packs',
    shortName: 'np',
    default: null,
    words: ['auto'],
    lowerBound: 1,
    upperBound: 10_000,
    key,
    help: 'Packs that gradients travel in. Default, and auto: the best number, or by size if that is best.',
  });
  flags.DEFINE_enum({
    name: 'wire',
    default: 'f32',
    enumValues: ['f32', 'bf16', 'both'],
    key,
    help: 'Type in which gradients travel (--gradient_dtype of a run); both: the faster one.',
  });
  flags.DEFINE_integer({
    name: 'images',
    default: 0,
    lowerBound: 0,
    key,
    help: 'Images of the whole run, epochs times images: for its hours. 0: not asked for.',
  });
  flags.DEFINE_float({
    name: 'price_per_hour',
    default: null,
    lowerBound: 0,
    key,
    help: 'Of one worker, in any currency: for the cost of the run, with --images.',
  });
  flags.DEFINE_string({ name: 'svg', default: null, key, help: 'File to draw the plan into.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

function workersOf(words: readonly string[]): number[] {
  const numbers = words.map(Number);
  const wrong = words.find((_, i) => {
    const count = numbers[i] as number;
    return !Number.isInteger(count) || count < 1 || count > MOST_WORKERS;
  });
  if (wrong === undefined && numbers.length > 0) return numbers.toSorted((a, b) => a - b);
  throw new UsageError(`flag --workers=${words.join(',')}: ${wrong ?? 'nothing'} is no number of workers`, {
    ...{
      flag: 'workers',
      value: words.join(','),
      remedy: `Whole numbers from 1 to ${MOST_WORKERS}: --workers=1,2,4,8.`,
    },
  });
}

function algorithmOf(name: string): Algorithm {
  const found = ALGORITHMS.find((one) => one === name);
  if (found) return found;
  throw new UsageError(`flag --all_reduce_alg=${name}: there is no such algorithm between workers`, {
    ...{ flag: 'all_reduce_alg', value: name, remedy: `One of ${ALGORITHMS.join(', ')}, or leave it out.` },
  });
}

function networkOf(flags: FlagValues): Network {
  const { network: file, latency_us: latencyUs, bandwidth_gbit: gbit } = flags.FLAGS;
  if (file === null) return { latencyMs: latencyUs / 1000, bytesPerMs: (gbit * 1e9) / BITS / 1000 };
  const refuse = (why: string): never => {
    throw new UsageError(`flag --network=${file}: ${why}`, {
      ...{ flag: 'network', value: file },
      remedy: 'Write what `lockstep launch --hosts a,b -- bench all_reduce --json` prints into a file.',
    });
  };
  if (flags.isGiven('latency_us') || flags.isGiven('bandwidth_gbit')) {
    refuse('--latency_us and --bandwidth_gbit say something else; one or the other');
  }
  const report = readReport(file, refuse);
  if (report.between !== 'processes')
    refuse('its all-reduces are between replicas of one process, not between workers');
  const algorithm = (['rank_order', 'ring'] as const).find((one) =>
    report.results.some((row) => row.algorithm === one),
  );
  if (!algorithm) return refuse('it has neither rank_order nor ring in it');
  const rows = report.results.filter((row) => row.algorithm === algorithm && row.bytes > 0);
  if (rows.length < 2) refuse('it has one size alone; leave --elements out');
  return fitNetwork(algorithm, report.ranks, rows);
}

function readReport(file: string, refuse: (why: string) => never): AllReduceReport {
  try {
    const text = readFileSync(file, 'utf8').trim();
    const report = JSON.parse(text.split('\n').at(-1) as string) as AllReduceReport;
    if (Array.isArray(report.results)) return report;
  } catch (error) {
    return refuse((error as Error).message);
  }
  return refuse('it is no such report');
}

function readTimeline(file: string, what: string): StepProfile {
  let events: TraceEvent[];
  try {
    events = (JSON.parse(readFileSync(file, 'utf8')) as { traceEvents: TraceEvent[] }).traceEvents;
    if (!Array.isArray(events)) throw new Error('it is no timeline');
  } catch (error) {
    throw new UsageError(`${what}=${file}: ${(error as Error).message}`, {
      ...{ flag: 'timeline', value: file, remedy: 'A run with --profile_steps=20,40 writes one into its model_dir.' },
    });
  }
  return readProfile(events, file);
}

/** Some steps of a ResNet on made-up images, in a process of its own and a folder that is gone afterwards. */
async function measureProfile({ FLAGS }: FlagValues): Promise<StepProfile> {
  const { dataset, resnet_size: size, batch_size: batch, dtype, num_cpus: replicas } = FLAGS;
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-plan-'));
  process.stderr.write(`Measuring steps of ResNet-${size} on this machine …\n`);
  const others = new Neighbours();
  try {
    const flags = [
      ...['--use_synthetic_data', `--model_dir=${folder}`, `--resnet_size=${size}`, `--batch_size=${batch}`],
      ...[`--dtype=${dtype}`, `--num_cpus=${replicas}`, `--distribution_strategy=${replicas > 1 ? 'mirrored' : 'off'}`],
      ...['--train_epochs=1', `--max_train_steps=${LAST + 1}`, `--profile_steps=${FIRST},${LAST}`],
      ...['--hooks=', '--progress=none', '--save_summary_steps=0'],
    ];
    await run(process.execPath, [BIN, dataset, ...flags], { timeout: LIMIT_MS }).catch((error) => {
      throw new Error(`The steps could not be measured: ${String(error.stderr || error.message).trim()}`);
    });
    const { note } = others;
    if (note !== null) process.stderr.write(`${note}\nUnlike steps make a plan worse than it need be.\n`);
    const file = readdirSync(folder).find((name) => name.startsWith('timeline-')) as string;
    return readTimeline(join(folder, file), 'timeline');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function titleOf({ FLAGS }: FlagValues, { latencyMs, bytesPerMs }: Network): string {
  const what = FLAGS.timeline ?? `ResNet-${FLAGS.resnet_size} (${FLAGS.dataset}, ${FLAGS.dtype})`;
  const gbit = (bytesPerMs * 1000 * BITS) / 1e9;
  return `${what}, batch ${FLAGS.batch_size} on each worker, ${Number((latencyMs * 1000).toPrecision(3))} µs, ${Number(gbit.toPrecision(3))} Gbit/s`;
}

function format(rows: readonly PlanRow[], profile: StepProfile, title: string): string {
  const bytes = profile.gradients.reduce((sum, one) => sum + one.bytes, 0);
  const hasHours = rows[0]?.hours !== null;
  const hasCost = rows[0]?.cost !== null;
  const cells = rows.map((row) => [
    String(row.workers),
    row.imagesPerSecond.toFixed(0),
    `${(100 * row.efficiency).toFixed(1)} %`,
    `${row.stepMs.toFixed(1)} ms`,
    row.workers === 1 ? '–' : String(row.numPacks ?? 'by size'),
    row.workers === 1 ? '–' : `${row.algorithm} ${row.wire}`,
    row.limit,
    ...(hasHours ? [(row.hours as number).toFixed((row.hours as number) < 10 ? 2 : 0)] : []),
    ...(hasCost ? [(row.cost as number).toFixed(2)] : []),
  ]);
  const head = [
    ...['workers', 'images/s', 'efficiency', 'step', 'num_packs', 'all-reduce', 'limited by'],
    ...(hasHours ? ['hours'] : []),
    ...(hasCost ? ['cost'] : []),
  ];
  const widths = head.map((name, i) => Math.max(name.length, ...cells.map((row) => (row[i] as string).length)));
  const line = (row: readonly string[]) => row.map((cell, i) => cell.padStart(widths[i] as number)).join('  ');
  return [
    title,
    `A worker computes ${profile.computeMs.toFixed(1)} ms, updates ${profile.updateMs.toFixed(1)} ms, and sends ${(bytes / 1e6).toFixed(2)} MB of gradients.`,
    line(head),
    ...cells.map(line),
    '',
  ].join('\n');
}
