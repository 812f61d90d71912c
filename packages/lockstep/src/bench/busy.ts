/**
 * `lockstep bench busy`: training steps beside programs that want the processors as well, as on a laptop, a build server or a shared
 * machine: with OpenMP's threads waiting as they do by default and as Lockstep lets them, alone and beside busy loops, in turns.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { FlagValues, UsageError } from '@lockstep/official/utils/flags/core';
import { flagMain } from '../flag-main.js';
import { Neighbours } from './neighbours.js';
import { summarize } from './statistics.js';

const run = promisify(execFile);
const STEP = fileURLToPath(new URL('./busy-step.js', import.meta.url));
const LIMIT_MS = 300_000;
/** As libgomp's documentation and source have it where nothing is set. */
const UNBOUNDED = { GOMP_SPINCOUNT: '300000' };

const NETWORKS = ['transformer', 'mlp', 'resnet'] as const;

/** Milliseconds a step. */
export interface BusyRow {
  readonly network: string;
  readonly alone_default_ms: number;
  readonly alone_ms: number;
  readonly busy_default_ms: number;
  readonly busy_ms: number;
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    const value = <T>(name: string) => flags.get(name as never) as unknown as T;
    const rows: BusyRow[] = [];
    const networks = value<string[]>('networks');
    checkNetworks(networks);
    for (const network of networks) {
      rows.push(await measure(network, value<number>('neighbours'), value<number>('rounds'), value<number>('steps')));
    }
    process.stdout.write(
      value<boolean>('json') ? `${JSON.stringify({ rows })}\n` : format(rows, value<number>('neighbours')),
    );
    return 0;
  });
}

function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench busy',
    summary: 'Small training steps beside busy programs: with OpenMP as it is, and with its waiting bounded.',
  });
  const key = true;
  flags.DEFINE_list({
    name: 'networks',
    default: [...NETWORKS],
    key,
    help: `Which of ${NETWORKS.join(', ')}: a small decoder, a small MLP, ResNet-20.`,
  });
  flags.DEFINE_integer({
    name: 'neighbours',
    default: availableParallelism(),
    lowerBound: 1,
    key,
    help: 'Busy loops beside it. Default: one for each core.',
  });
  flags.DEFINE_integer({ name: 'steps', default: 30, lowerBound: 1, key, help: 'Steps that are timed, each turn.' });
  flags.DEFINE_integer({ name: 'rounds', default: 3, lowerBound: 1, key, help: 'Turns of each.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

/** @throws UsageError for a network that there is not. */
function checkNetworks(networks: readonly string[]): void {
  const unknown = networks.find((name) => !(NETWORKS as readonly string[]).includes(name));
  if (unknown === undefined) return;
  throw new UsageError(`flag --networks: there is no '${unknown}'`, {
    flag: 'networks',
    value: unknown,
    remedy: `One or several of ${NETWORKS.join(',')}.`,
  });
}

async function measure(network: string, neighbours: number, rounds: number, steps: number): Promise<BusyRow> {
  const times = {
    alone_default: [] as number[],
    alone: [] as number[],
    busy_default: [] as number[],
    busy: [] as number[],
  };
  const others = new Neighbours();
  for (let round = 0; round < rounds; round++) {
    times.alone_default.push(await stepMs(network, steps, UNBOUNDED));
    times.alone.push(await stepMs(network, steps));
  }
  const { note } = others;
  if (note !== null) process.stderr.write(`${network}, alone: ${note}\n`);
  const loops = Array.from({ length: neighbours }, startLoop);
  try {
    for (let round = 0; round < rounds; round++) {
      times.busy_default.push(await stepMs(network, steps, UNBOUNDED));
      times.busy.push(await stepMs(network, steps));
    }
  } finally {
    for (const loop of loops) loop.kill('SIGKILL');
  }
  const median = (samples: readonly number[]) => summarize(samples).median;
  return {
    network,
    alone_default_ms: median(times.alone_default),
    alone_ms: median(times.alone),
    busy_default_ms: median(times.busy_default),
    busy_ms: median(times.busy),
  };
}

/** A program that wants a core. It ends by itself should nobody end it. */
function startLoop(): ChildProcess {
  const program = `const end = Date.now() + ${LIMIT_MS}; while (Date.now() < end);`;
  return spawn(process.execPath, ['-e', program], { stdio: 'ignore' });
}

async function stepMs(network: string, steps: number, environment: NodeJS.ProcessEnv = {}): Promise<number> {
  const { GOMP_SPINCOUNT: _, OMP_WAIT_POLICY: __, ...inherited } = process.env;
  const env = { ...inherited, ...environment };
  const { stdout } = await run(process.execPath, [STEP, network, String(steps)], { env, timeout: LIMIT_MS });
  return Number(stdout.trim().split('\n').at(-1));
}

function format(rows: readonly BusyRow[], neighbours: number): string {
  const cell = (ms: number) => `${ms.toFixed(1)} ms`.padStart(10);
  const ratio = (before: number, after: number) => `${(before / after).toFixed(2)} ×`.padStart(8);
  return [
    `A training step, median; OpenMP's own waiting, then bounded waiting; beside ${neighbours} busy loop${neighbours === 1 ? '' : 's'} on the right`,
    ...rows.map(
      (row) =>
        `  ${row.network.padEnd(12)}${cell(row.alone_default_ms)}${cell(row.alone_ms)}${ratio(row.alone_default_ms, row.alone_ms)}` +
        `   |${cell(row.busy_default_ms)}${cell(row.busy_ms)}${ratio(row.busy_default_ms, row.busy_ms)}`,
    ),
    '',
  ].join('\n');
}
