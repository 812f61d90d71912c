/** For tests: a replica that trains three steps, of which the second and third are traced, with sleeps where time is to be seen. */
import * as tf from '@tensorflow/tfjs-core';
import { clockOffsets, collectTrace, type ReplicaTrace } from '../replica/collect-trace.js';
import type { ReplicaContext } from '../replica/replica-context.js';
import { startTrace, traceClock, traceLayer } from '../trace/trace.js';

/** Milliseconds that the clock of another worker is said to be ahead. */
export const AHEAD_MS = 5000;

export interface TraceOutcome {
  readonly traces: ReplicaTrace[];
  /** What the second and third step took by the trainer's own account. */
  readonly phases: Record<string, number>[];
  /** Of the steps, on the clock of the trace: before and after. */
  readonly steps: { readonly begin: number; readonly end: number }[];
  /** Of each worker, by clocks that are {@link AHEAD_MS} ahead for each worker before. */
  readonly offsets: (readonly [number, { readonly offset: number; readonly error: number }])[];
  /** Traces when none was on. */
  readonly nothing: number;
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

export default async function train(context: ReplicaContext): Promise<TraceOutcome> {
  const first = tf.variable(tf.ones([3000]), true, 'first/kernel');
  const second = tf.variable(tf.ones([5000]), true, 'second/kernel');
  const trainer = context.trainer([first, second], { optimizer: { kind: 'momentum', momentum: 0.9 } });
  const loss = () => {
    traceLayer('first');
    sleep(20);
    const a = tf.sum(first);
    traceLayer('second');
    sleep(10);
    return tf.add(a, tf.sum(second)) as tf.Scalar;
  };
  await trainer.step(loss, 0.1);
  const nothing = collectTrace(context).reduce((total, { spans }) => total + spans.length, 0);
  startTrace();
  const steps: { begin: number; end: number }[] = [];
  const phases: Record<string, number>[] = [];
  for (let step = 0; step < 2; step++) {
    const begin = traceClock();
    const result = await trainer.step(loss, 0.1);
    steps.push({ begin, end: traceClock() });
    phases.push({ ...result.phases });
  }
  const traces = collectTrace(context);
  const workers = context.merge(context.inputPipelineId, (all) => all);
  const clock = () => traceClock() + AHEAD_MS * context.inputPipelineId;
  return { traces, phases, steps, offsets: [...clockOffsets(context.communicator, workers, clock)], nothing };
}
