/**
 * For tests: the replica function that parameter server tests run: least squares with known data, so that training is checked
 * against closed forms and float64 loops.
 */
import { writeFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs-core';
import type { ReplicaContext } from '../../replica/replica-context.js';
import type { GroupStatus } from '../../trainer/reducer.js';
import { DECAY, example, MOMENTUM, rowsOf } from '../../workers/testing/worker.js';

export interface PsTask {
  readonly steps: number;
  readonly batchPerReplica: number;
  readonly features: number;
  readonly learningRate: number;
  /** Targets lie on a line y = x·w* + b*: the least loss is 0, at w*, b*. */
  readonly exact?: boolean;
  readonly momentum?: number;
  /** Milliseconds that a worker naps in every step. */
  readonly naps?: readonly number[];
  readonly fault?: { readonly how: 'kill' | 'throw'; readonly worker: number; readonly step: number };
  /** Worker 0 makes this file when it comes to this step. */
  readonly signal?: { readonly step: number; readonly file: string };
}

export interface PsOutcome {
  readonly worker: number;
  readonly weights: number[];
  /** All of a short run; the first and the last of a long one, to keep messages short. */
  readonly losses: number[];
  readonly status: GroupStatus | null;
}

export function line(features: number): number[] {
  return Array.from({ length: features + 1 }, (_, j) => ((j * 7) % 5) / 5 - 0.4);
}

/** Entry point of the replicas. */
export default async function train(context: ReplicaContext, task: PsTask): Promise<PsOutcome> {
  const { steps, batchPerReplica, features, exact = false, learningRate, fault, signal } = task;
  const truth = line(features);
  const w = tf.variable(tf.tensor2d(Array.from({ length: features }, (_, j) => [0.1 * (j + 1)])), true, 'w');
  const b = tf.variable(tf.scalar(0.5), true, 'b');
  const trainer = context.trainer([w, b], {
    optimizer: { kind: 'momentum', momentum: task.momentum ?? MOMENTUM },
    ...(!exact && { weightDecay: { rate: DECAY, applies: (variable) => variable === w } }),
  });
  const nap = task.naps?.[context.inputPipelineId] ?? 0;
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    if (fault?.worker === context.inputPipelineId && fault.step === step) {
      if (fault.how === 'kill') process.kill(process.pid, 'SIGKILL');
      throw new Error('a mistake of its own');
    }
    if (signal?.step === step && context.inputPipelineId === 0) writeFileSync(signal.file, '');
    const rows = rowsOf(step, context.inputReplicaId, context.numInputReplicas, batchPerReplica).map((row) => {
      const { x, y } = example(row, features);
      const dot = x.reduce((sum, value, j) => sum + value * (truth[j] as number), truth[features] as number);
      return { x, y: exact ? dot : y };
    });
    const x = tf.tensor2d(rows.map((row) => row.x));
    const y = tf.tensor2d(rows.map((row) => [row.y]));
    const { loss } = await trainer.step(
      () => tf.mean(tf.squaredDifference(tf.add(tf.matMul(x, w as tf.Tensor2D), b), y)) as tf.Scalar,
      learningRate,
    );
    tf.dispose([x, y]);
    losses.push(loss);
    if (nap > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, nap);
    if (context.shouldStop()) break;
  }
  const status = trainer.leave(false);
  trainer.pull();
  const shown = losses.length > 100 ? [losses[0] as number, losses.at(-1) as number] : losses;
  return { worker: context.inputPipelineId, weights: [...trainer.weights], losses: shown, status };
}
