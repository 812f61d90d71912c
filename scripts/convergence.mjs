// How well ResNet-20 learns real CIFAR-10 in f32, in f32 without Winograd, and in bf16: the accuracy on the test images after
// every epoch, several seeds each, as a table, and whether one kind's mean lies within the spread of another's seeds.
//
//   node scripts/convergence.mjs --data_dir=FOLDER --out=FOLDER [--epochs=5] [--seeds=1,2,3] [--only=f32,direct,bf16]
//        [--batch_norm_decay=0.9] [--threads=2] [--jobs=1]
//
// Each run is one `lockstep cifar10` with a folder of its own under --out, where it logs its evaluations; a run that is whole
// there is not run again. Ctrl-C lets the runs save and stop, and the same command goes on with them. --jobs runs that many
// at a time, each with --threads: on a machine that is busy, two runs of one thread get much further than one of two.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const BIN = join(dirname(dirname(fileURLToPath(import.meta.url))), 'packages', 'lockstep', 'dist', 'bin.js');

const KINDS = {
  f32: { title: 'f32', flags: ['--dtype=fp32'], winograd: '1' },
  direct: { title: 'f32 without Winograd', flags: ['--dtype=fp32'], winograd: '0' },
  bf16: { title: 'bf16', flags: ['--dtype=bf16'], winograd: '1' },
};
/** Whose mean has to lie within whose spread. */
const COMPARED = [
  ['bf16', 'f32'],
  ['f32', 'direct'],
  ['bf16', 'direct'],
];

function usage(line) {
  console.error(
    `${line}\nhelp: node scripts/convergence.mjs --data_dir=FOLDER --out=FOLDER; the file's head lists the rest.`,
  );
  process.exit(2);
}

function readFlags() {
  const text = (value) => ({ type: 'string', default: value });
  const options = {
    data_dir: { type: 'string' },
    out: { type: 'string' },
    epochs: text('5'),
    seeds: text('1,2,3'),
    only: text('f32,direct,bf16'),
    batch_norm_decay: text('0.9'),
    threads: text('2'),
    jobs: text('1'),
  };
  let values;
  try {
    ({ values } = parseArgs({ options }));
  } catch (error) {
    usage(error.message);
  }
  for (const name of ['data_dir', 'out']) if (!values[name]) usage(`flag --${name} is missing.`);
  const whole = (name, least, value = values[name]) => {
    if (!/^\d+$/.test(value) || Number(value) < least)
      usage(`flag --${name}=${value}: not a whole number from ${least}.`);
    return Number(value);
  };
  const kinds = values.only.split(',');
  for (const kind of kinds) if (!KINDS[kind]) usage(`flag --only=${kind}: not one of ${Object.keys(KINDS)}.`);
  return {
    dataDir: values.data_dir,
    out: values.out,
    epochs: whole('epochs', 1),
    seeds: values.seeds.split(',').map((seed) => whole('seeds', 0, seed)),
    kinds,
    // Its range is the main's to check.
    decay: values.batch_norm_decay,
    threads: whole('threads', 1),
    jobs: whole('jobs', 1),
  };
}

const flags = readFlags();

/** A run's folder says everything that its figures depend on. */
function folderOf({ kind, seed }) {
  return join(flags.out, `${kind}-seed${seed}-epochs${flags.epochs}-decay${flags.decay}`);
}

/** Accuracies in the order of steps; a step that was evaluated twice counts once. */
function accuracies(run) {
  const log = join(folderOf(run), 'log', 'metric.log');
  if (!existsSync(log)) return [];
  const bySteps = new Map();
  for (const line of readFileSync(log, 'utf8').split('\n').filter(Boolean)) {
    const { name, value, global_step: step } = JSON.parse(line);
    if (name === 'accuracy') bySteps.set(step, value);
  }
  return [...bySteps].sort(([a], [b]) => a - b).map(([, value]) => value);
}

const isWhole = (run) => accuracies(run).length === flags.epochs;

const children = new Set();
let stopping = false;

/** One run to its end. @returns its exit status, null if a signal ended it. */
function train(run) {
  const { flags: own, winograd } = KINDS[run.kind];
  const folder = folderOf(run);
  mkdirSync(folder, { recursive: true });
  const output = openSync(join(folder, 'output.txt'), 'a');
  const argv = [
    BIN,
    'cifar10',
    `--data_dir=${flags.dataDir}`,
    `--model_dir=${join(folder, 'model')}`,
    '--benchmark_logger_type=BenchmarkFileLogger',
    `--benchmark_log_dir=${join(folder, 'log')}`,
    '--resnet_size=20',
    '--batch_size=128',
    `--train_epochs=${flags.epochs}`,
    '--epochs_between_evals=1',
    `--batch_norm_decay=${flags.decay}`,
    `--seed=${run.seed}`,
    `--intra_op_parallelism_threads=${flags.threads}`,
    '--progress=plain',
    ...own,
  ];
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', output, output],
    env: { ...process.env, LOCKSTEP_WINOGRAD: winograd },
  });
  children.add(child);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (status) => {
      children.delete(child);
      resolve(status);
    });
  });
}

async function complete(run) {
  const name = folderOf(run);
  if (isWhole(run)) return;
  const begun = Date.now();
  let status = await train(run);
  if (status === 0 && !isWhole(run)) {
    // Killed between a checkpoint and its evaluation, so that one is missing: only a new beginning has it.
    console.error(`${name}: an evaluation is missing; this run begins anew.`);
    rmSync(name, { recursive: true });
    status = await train(run);
  }
  if (stopping) return;
  if (status !== 0) throw new Error(`${name}: status ${status}.\nhelp: its output is in ${join(name, 'output.txt')}.`);
  const percent = accuracies(run).map((value) => (100 * value).toFixed(2));
  console.error(`${name}: ${percent.join(', ')} % (${((Date.now() - begun) / 60_000).toFixed(1)} min)`);
}

// Ctrl-C at a terminal reaches the runs by itself; told twice they would stop at once, without saving.
process.on('SIGINT', () => {
  stopping = true;
});
process.on('SIGTERM', () => {
  stopping = true;
  for (const child of children) child.kill('SIGINT');
});

// Seed by seed, so that whatever is there after a stop can be compared.
const runs = flags.seeds.flatMap((seed) => flags.kinds.map((kind) => ({ kind, seed })));
const waiting = [...runs];
let failure = null;
await Promise.all(
  Array.from({ length: flags.jobs }, async () => {
    while (!stopping && failure === null && waiting.length > 0) {
      await complete(waiting.shift()).catch((error) => {
        failure = error;
      });
    }
  }),
);

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const percent = (value) => (100 * value).toFixed(2);

const epochs = Array.from({ length: flags.epochs }, (_, i) => i + 1);
console.log(`| | seed | ${epochs.map((epoch) => `epoch ${epoch}`).join(' | ')} |`);
console.log(`|---|---|${'---|'.repeat(epochs.length)}`);
const last = {};
for (const kind of flags.kinds) {
  const whole = flags.seeds.map((seed) => ({ kind, seed })).filter(isWhole);
  const curves = whole.map(accuracies);
  const row = (seed, curve) => console.log(`| ${KINDS[kind].title} | ${seed} | ${curve.map(percent).join(' | ')} |`);
  curves.forEach((curve, i) => {
    row(whole[i].seed, curve);
  });
  if (curves.length > 1)
    row(
      'mean',
      epochs.map((_, i) => mean(curves.map((curve) => curve[i]))),
    );
  if (curves.length > 0) last[kind] = curves.map((curve) => curve.at(-1));
}
console.log();
for (const [kind, reference] of COMPARED) {
  if (!last[kind] || !last[reference] || last[reference].length < 2) continue;
  const [value, low, high] = [mean(last[kind]), Math.min(...last[reference]), Math.max(...last[reference])];
  const verdict = value >= low && value <= high ? 'within' : 'outside';
  console.log(
    `${KINDS[kind].title}: mean ${percent(value)} % of ${last[kind].length} seeds, ${verdict} the spread of ${KINDS[reference].title}, ` +
      `${percent(low)} to ${percent(high)} % of ${last[reference].length} seeds`,
  );
}
if (failure) console.error(failure.message);
const missing = runs.filter((run) => !isWhole(run)).length;
if (missing > 0) console.error(`${missing} of ${runs.length} runs are not whole; the same command goes on with them.`);
process.exitCode = stopping ? 130 : failure ? 1 : 0;
