/**
 * `lockstep bench all_reduce`: how long replicas take to add up their gradients, for every algorithm and over sizes from 1 KB
 * to 256 MB, beside MPI_Allreduce between as many processes of this machine. Started by mpirun it measures the ranks of the
 * job instead. Time and bandwidths are defined as nccl-tests define them.
 */
import { execFile, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  createCrossDeviceOps,
  isMpiAvailable,
  launchedProcess,
  MirroredStrategy,
  physicalCores,
} from '@lockstep/distribute';
import { FlagValues, UsageError } from '@lockstep/official/utils/flags/core';
import { flagMain } from '../flag-main.js';
import { MPI_ALGORITHMS, MPI_ALLREDUCE, measureMpi } from './all-reduce-mpi.js';
import { type AllReduceBenchArguments, type AllReduceSamples, FUSED } from './all-reduce-replica.js';
import {
  type AllReduceResult,
  allReduceResult,
  FITTED,
  fitOf,
  type NetworkFit,
  notFitted,
  TABLE_ELEMENTS,
} from './all-reduce-result.js';

const run = promisify(execFile);
const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));
/** Algorithms of replicas that share memory; nccl needs other devices, and says so. */
const ALGORITHMS = ['sharded', 'hierarchical_copy', 'reduction_to_one_device'];
const MPI_LIMIT_MS = 300_000;

/** What `--json` prints. With one size and one algorithm the result's members stand at the top as well. */
export interface AllReduceReport extends Partial<AllReduceResult> {
  /** Replicas of one process, or ranks of an MPI job. */
  readonly between: 'replicas' | 'processes';
  readonly ranks: number;
  readonly num_packs: number;
  readonly results: readonly AllReduceResult[];
  /** MPI_Allreduce between as many processes, measured right after; empty with the reason in `mpi_skipped`. */
  readonly mpi: readonly AllReduceResult[];
  readonly mpi_skipped?: string;
  /** With `--fit`: what each algorithm's all-reduces say of the network; none where its times do not grow with the bytes. */
  readonly fit?: NetworkFit;
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    const job = launchedProcess();
    const report = job && job.size > 1 ? measureJob(flags) : await measureReplicas(flags);
    if (report === null) return 0;
    process.stdout.write(flags.get('json' as never) ? `${JSON.stringify(report)}\n` : format(report));
    return 0;
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench all_reduce',
    summary: 'Measures the sum of gradients over replicas, or over the ranks of an MPI job.',
  });
  const key = true;
  flags.DEFINE_integer({
    name: 'elements',
    default: null,
    lowerBound: 0,
    key,
    help: 'Float32 elements of each replica. Default: a table from 1 KB to 256 MB.',
  });
  flags.DEFINE_integer({
    name: 'num_cpus',
    shortName: 'nc',
    default: 2,
    lowerBound: 1,
    key,
    help: 'Replicas. Under mpirun its processes count instead.',
  });
  flags.DEFINE_string({
    name: 'all_reduce_alg',
    shortName: 'ara',
    default: null,
    key,
    help: `One of ${ALGORITHMS.join(', ')}; under mpirun one of ${MPI_ALGORITHMS.join(', ')}. Default: all of them.`,
  });
  flags.DEFINE_integer({
    name: 'num_packs',
    shortName: 'np',
    default: 1,
    lowerBound: 1,
    key,
    help: 'Packs that a buffer is cut into, each reduced by itself.',
  });
  flags.DEFINE_integer({
    name: 'max_bytes',
    default: 2 ** 28,
    lowerBound: 4096,
    key,
    help: 'Where the table ends: on a slow network less than 256 MB is enough.',
  });
  flags.DEFINE_integer({
    name: 'iterations',
    default: null,
    lowerBound: 1,
    key,
    help: 'Timed iterations of each size. Default: by size, 7 to 200.',
  });
  flags.DEFINE_bool({
    name: 'mpi',
    default: true,
    key,
    help: 'Measure MPI_Allreduce between as many processes as well, where Open MPI is installed.',
  });
  flags.DEFINE_bool({
    name: 'fit',
    default: false,
    key,
    help: 'Under mpirun: latency and bandwidth of the network by least squares, as `lockstep plan` takes them.',
  });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

interface Settings {
  readonly elements: readonly number[];
  readonly replicas: number;
  readonly algorithm: string | null;
  readonly numPacks: number;
  readonly iterations: number | null;
}

function settingsOf(flags: FlagValues): Settings {
  const value = (name: string) => flags.get(name as never) as unknown;
  const elements = value('elements') as number | null;
  const maxBytes = value('max_bytes') as number;
  return {
    elements: elements === null ? TABLE_ELEMENTS.filter((count) => 4 * count <= maxBytes) : [elements],
    replicas: value('num_cpus') as number,
    algorithm: value('all_reduce_alg') as string | null,
    numPacks: value('num_packs') as number,
    iterations: value('iterations') as number | null,
  };
}

async function measureReplicas(flags: FlagValues): Promise<AllReduceReport> {
  if (flags.get('fit' as never)) throw refuseFit('between the replicas of one process there is no network');
  const { elements, replicas, algorithm, numPacks, iterations } = settingsOf(flags);
  const devices = Array.from({ length: replicas }, (_, i) => `cpu:${i}`);
  // Refuses algorithms that there are not, and those that these devices cannot run.
  if (algorithm !== null) new MirroredStrategy({ devices, crossDeviceOps: createCrossDeviceOps(algorithm, numPacks) });
  const args: AllReduceBenchArguments = {
    algorithms: algorithm === null ? ALGORITHMS : [algorithm],
    elements,
    numPacks,
    iterations,
    fused: algorithm === null,
  };
  const strategy = new MirroredStrategy({ devices, log: () => {} });
  const module = new URL('./all-reduce-replica.js', import.meta.url);
  const samples = await strategy.run<AllReduceSamples[]>(module, args);
  const results = (samples[0] as AllReduceSamples[]).map(({ algorithm: name, elements: count }, i) =>
    allReduceResult(
      name,
      count,
      samples.map((of) => (of[i] as AllReduceSamples).ms),
    ),
  );
  const why = flags.get('mpi' as never) ? whyNoMpi(replicas) : '--nompi was given';
  const mpi = why === null ? await measureMpiBeside(replicas, elements, numPacks, iterations) : [];
  return report('replicas', replicas, numPacks, results, mpi, why);
}

/** A rank of an MPI job. Null on all ranks but the first. */
function measureJob(flags: FlagValues): AllReduceReport | null {
  const { elements, algorithm, numPacks, iterations } = settingsOf(flags);
  const isFitted = flags.get('fit' as never) as unknown as boolean;
  if (isFitted && elements.length < 2) throw refuseFit('--elements measures one size, and two things are asked for');
  if (isFitted && algorithm !== null && !FITTED.some((one) => one === algorithm)) {
    throw refuseFit(`there is no model of ${algorithm}; there is one of ${FITTED.join(' and ')}`);
  }
  if (algorithm !== null && !MPI_ALGORITHMS.includes(algorithm)) {
    throw new RangeError(
      `There is no all-reduce algorithm '${algorithm}' between processes.\nhelp: choose one of ${MPI_ALGORITHMS.join(', ')}.`,
    );
  }
  const algorithms = algorithm === null ? MPI_ALGORITHMS : [algorithm];
  const results = measureMpi({ algorithms, elements, numPacks, iterations });
  if (results === null) return null;
  const { ranks } = results[0] as AllReduceResult;
  return {
    ...report('processes', ranks, numPacks, results, [], null),
    ...(isFitted && { fit: fitOf(results, ranks) }),
  };
}

function refuseFit(why: string): UsageError {
  return new UsageError(`flag --fit=true: ${why}`, {
    ...{ flag: 'fit', value: 'true', remedy: 'mpirun -np 2 lockstep bench all_reduce --fit' },
  });
}

function report(
  between: AllReduceReport['between'],
  ranks: number,
  numPacks: number,
  results: readonly AllReduceResult[],
  mpi: readonly AllReduceResult[],
  skipped: string | null,
): AllReduceReport {
  return {
    ...(results.length === 1 ? results[0] : {}),
    between,
    ranks,
    num_packs: numPacks,
    results,
    mpi,
    ...(skipped !== null && { mpi_skipped: skipped }),
  };
}

function whyNoMpi(replicas: number): string | null {
  if (replicas === 1) return 'one replica has nobody to compare with';
  if (spawnSync('mpirun', ['--version']).status !== 0) return 'mpirun is not installed';
  return isMpiAvailable() ? null : 'libmpi cannot be loaded';
}

/** The same program as the ranks of a job on this machine, bound to cores where there are enough, as replicas are. */
async function measureMpiBeside(
  processes: number,
  elements: readonly number[],
  numPacks: number,
  iterations: number | null,
): Promise<AllReduceResult[]> {
  const binding =
    processes <= physicalCores().length
      ? ['--map-by', 'core', '--bind-to', 'core']
      : ['--oversubscribe', '--bind-to', 'none'];
  const results: AllReduceResult[] = [];
  const sizes = elements.length === 1 ? elements : [null];
  for (const count of sizes) {
    const { stdout } = await run(
      'mpirun',
      [
        ...(process.getuid?.() === 0 ? ['--allow-run-as-root'] : []),
        ...binding,
        ...['-np', `${processes}`, process.execPath, BIN, 'bench', 'all_reduce', '--json'],
        ...[`--all_reduce_alg=${MPI_ALLREDUCE}`, `--num_packs=${numPacks}`],
        ...(count === null ? [`--max_bytes=${4 * Math.max(...elements)}`] : [`--elements=${count}`]),
        ...(iterations === null ? [] : [`--iterations=${iterations}`]),
      ],
      { timeout: MPI_LIMIT_MS },
    );
    results.push(...(JSON.parse(stdout.trim().split('\n').at(-1) as string) as AllReduceReport).results);
  }
  return results;
}

/** A table: a row for each size, a column for each algorithm with time, bus bandwidth, and how it compares with MPI. */
function format(report: AllReduceReport): string {
  const { between, ranks, num_packs: numPacks, results, mpi, mpi_skipped: skipped, fit = {} } = report;
  const columns = [...new Set([...results, ...mpi].map(({ algorithm }) => algorithm))];
  const sizes = [...new Set(results.map(({ elements }) => elements))];
  const cell = (algorithm: string, elements: number): string => {
    const is = (result: AllReduceResult) => result.algorithm === algorithm && result.elements === elements;
    const found = results.find(is) ?? mpi.find(is);
    if (!found) return '–';
    const base = mpi.find((result) => result.elements === elements);
    const ratio = base && base !== found && base.ms > 0 ? `, ${(found.ms / base.ms).toFixed(2)}×` : '';
    return `${found.ms.toFixed(3)} ms, ${found.busbw_gb_s.toFixed(1)} GB/s${ratio}`;
  };
  const lines = [
    `All-reduce (sum of float32) over ${ranks} ${between}, ${numPacks} pack${numPacks === 1 ? '' : 's'}: time, bus bandwidth${mpi.length > 0 ? ', time ÷ time of MPI_Allreduce' : ''}`,
    '',
    `| bytes | ${columns.join(' | ')} |`,
    `|---|${columns.map(() => '---').join('|')}|`,
    ...sizes.map(
      (elements) => `| ${bytesText(4 * elements)} | ${columns.map((name) => cell(name, elements)).join(' | ')} |`,
    ),
    '',
  ];
  const fused = Object.keys(FUSED).filter((name) => results.some(({ algorithm }) => algorithm === name));
  if (fused.length > 0) {
    lines.push(`${fused.join(', ')}: the sum and the optimizer's update in one pass, as a training step does it.`);
  }
  for (const [name, { latency_us: latency, bandwidth_gbit: bandwidth }] of Object.entries(fit)) {
    const text = (value: number) => String(Number(value.toPrecision(3)));
    lines.push(`${name}: lockstep plan --latency_us=${text(latency)} --bandwidth_gbit=${text(bandwidth)}`);
  }
  for (const name of report.fit ? notFitted(results, fit) : []) {
    lines.push(
      `${name}: no bandwidth to be had, its times do not grow with the bytes; --iterations or --max_bytes is too small.`,
    );
  }
  if (skipped !== undefined) lines.push(`MPI_Allreduce was not measured: ${skipped}.`);
  return `${lines.join('\n').trimEnd()}\n`;
}

function bytesText(bytes: number): string {
  if (bytes > 0 && bytes % 2 ** 20 === 0) return `${bytes / 2 ** 20} MB`;
  if (bytes > 0 && bytes % 2 ** 10 === 0) return `${bytes / 2 ** 10} KB`;
  return bytes.toLocaleString('en');
}
