/**
 * `lockstep bench kernels`: each kernel of the backend beside TensorFlow.js' own `cpu` kernel, in one process, in turns, at a
 * small and a large size; prints the Markdown table of docs/kernels.md.
 *
 * A time is that of a call through TensorFlow.js' engine, whose own cost (a few microseconds) is in it on both sides. What the
 * call returns is disposed within the time, because reusing memory is part of the work. It is the fastest of many short
 * samples, taken in two turns on each side: whatever else the machine does can only add to a sample.
 */
import { FlagValues } from '@lockstep/official/utils/flags/core';
import * as tf from '@tensorflow/tfjs-core';
import { flagMain } from '../flag-main.js';
import type { KernelRow, Prepare } from './kernel-row.js';
import { ROWS } from './kernel-rows.js';

/** Milliseconds that a sample should take: many of the clock's steps, and few of the system's time slices. */
const SAMPLE_MS = 0.3;
const SAMPLES = 60;
/** Milliseconds after which the samples that there are have to do, if they are three. */
const SAMPLING_MS = 80;
const TURNS = 2;
/** V8 compiles what ran often; before that a small kernel is ten times as slow. */
const WARM_UP_MS = 25;
/** A kernel that takes this long is measured by few samples of a single call. */
const SLOW_MS = 60;

interface Side {
  /** Microseconds a call. */
  readonly cpu: number;
  readonly onednn: number;
  /** 'oneDNN (jit:…)' or 'loop'. */
  readonly implementation: string;
}

export interface KernelResult {
  readonly name: string;
  readonly family: string;
  readonly small: Side & { readonly what: string };
  readonly large: Side & { readonly what: string };
}

export function main(argv: readonly string[]): Promise<number> {
  const flags = defineFlags();
  return flagMain(argv, flags, async () => {
    const value = <T>(name: string) => flags.get(name as never) as unknown as T;
    return compare(value('only'), value('threads'), value('json'));
  });
}

export function defineFlags(): FlagValues {
  const flags = new FlagValues({
    program: 'lockstep bench kernels',
    summary: "Every kernel of the backend beside TensorFlow.js' own cpu kernel.",
  });
  const key = true;
  flags.DEFINE_string({ name: 'only', default: '', key, help: 'Kernels and families whose name contains this.' });
  flags.DEFINE_integer({ name: 'threads', default: 0, lowerBound: 0, key, help: 'OpenMP threads; 0 is every core.' });
  flags.DEFINE_bool({ name: 'json', default: false, key, help: 'Print one JSON object as the last line.' });
  return flags;
}

async function compare(only: string, threads: number, json: boolean): Promise<number> {
  const { configure, loadLibrary } = await import('@lockstep/onednn');
  loadLibrary();
  if (threads > 0) configure({ threads });
  const rows = ROWS.filter(({ name, family }) => `${family} ${name}`.toLowerCase().includes(only.toLowerCase()));
  if (rows.length === 0) {
    process.stderr.write(`lockstep bench kernels: no kernel's name contains '${only}'.\n`);
    return 2;
  }
  process.stdout.write(
    '| kernel | implementation, large | small | `cpu`, µs | ours, µs | times | large | `cpu`, µs | ours, µs | times |\n' +
      '|---|---|---|---:|---:|---:|---|---:|---:|---:|\n',
  );
  const results: KernelResult[] = [];
  for (const row of rows) {
    const result = await measureRow(row);
    results.push(result);
    process.stdout.write(`${format(result)}\n`);
  }
  if (json) process.stdout.write(`${JSON.stringify({ rows: results })}\n`);
  return 0;
}

async function measureRow({ name, family, small, large }: KernelRow): Promise<KernelResult> {
  return {
    name,
    family,
    small: { what: small.what, ...(await measureBoth(small.prepare)) },
    large: { what: large.what, ...(await measureBoth(large.prepare)) },
  };
}

async function measureBoth(prepare: Prepare): Promise<Side> {
  let [cpu, onednn] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  let implementation = '';
  for (let turn = 0; turn < TURNS; turn++) {
    cpu = Math.min(cpu, (await measure('cpu', prepare)).microseconds);
    const ours = await measure('onednn', prepare);
    onednn = Math.min(onednn, ours.microseconds);
    implementation = ours.implementation;
  }
  return { cpu, onednn, implementation };
}

async function measure(backend: string, prepare: Prepare): Promise<{ microseconds: number; implementation: string }> {
  await tf.setBackend(backend);
  tf.engine().startScope();
  try {
    const work = prepare();
    const call = () => {
      tf.engine().startScope();
      resolve(work());
      tf.engine().endScope();
    };
    // Not the very first call: a new algorithm is tried out in it.
    const cold = time(call, 1);
    const implementation = watch(call);
    const first = Math.min(cold, time(call, 1));
    // A call that is slow cold may be fast warm; one that stays slow is measured as it is.
    if (first > SLOW_MS) return { microseconds: 1000 * first, implementation };
    const warm = performance.now() + WARM_UP_MS;
    while (performance.now() < warm) call();
    const once = Math.max(1e-4, time(call, 3) / 3);
    const calls = Math.max(1, Math.ceil(SAMPLE_MS / once));
    let best = Number.POSITIVE_INFINITY;
    const end = performance.now() + SAMPLING_MS;
    for (let sample = 0; sample < SAMPLES && (sample < 3 || performance.now() < end); sample++) {
      best = Math.min(best, time(call, calls) / calls);
    }
    return { microseconds: 1000 * best, implementation };
  } finally {
    tf.engine().endScope();
  }
}

/** Some kernels compute when their result is read; a benchmark wants it now. */
function resolve(result: unknown): void {
  const backend = tf.backend() as { storage?(tensor: tf.Tensor): unknown };
  if (!backend.storage) return;
  // No list is made of a single result: that takes a tenth of the time of a small kernel, and of ours alone.
  if (result instanceof tf.Tensor) backend.storage(result);
  else if (Array.isArray(result)) for (const tensor of result) if (tensor instanceof tf.Tensor) backend.storage(tensor);
}

function time(call: () => void, calls: number): number {
  const begin = performance.now();
  for (let i = 0; i < calls; i++) call();
  return performance.now() - begin;
}

/** Runs `call` once and says which of oneDNN's implementations it ran. */
function watch(call: () => void): string {
  const { runtime } = tf.backend() as { runtime?: { observer: unknown } };
  const seen = new Set<string>();
  if (runtime) {
    runtime.observer = ({ label, implementation }: { label: string; implementation: string }) => {
      if (!label.startsWith('all_finite')) seen.add(implementation);
    };
  }
  try {
    call();
  } finally {
    if (runtime) runtime.observer = null;
  }
  return seen.size === 0 ? 'loop' : `oneDNN ${[...seen].join(', ')}`;
}

function format({ name, small, large }: KernelResult): string {
  const side = ({ what, cpu, onednn }: Side & { what: string }) =>
    [what, round(cpu), round(onednn), round(cpu / onednn)].join(' | ');
  return `| ${name} | ${large.implementation} | ${side(small)} | ${side(large)} |`;
}

/** Two digits are what a time on a shared machine is worth. */
function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(2);
}
