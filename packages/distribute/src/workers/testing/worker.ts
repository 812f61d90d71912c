/**
 * For tests: the replica function that multi-worker tests run, and the same model trained by one replica in closed form.
 *
 * A linear model y = x·w + b with squared loss on data that a formula gives: gradients are known exactly, so training over
 * any number of replicas is checked against plain float64 loops, not against Lockstep.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { ReplicaContext } from '../../replica/replica-context.js';
import type { LossScaleState } from '../../trainer/loss-scale.js';

export interface TestTask {
  readonly steps: number;
  readonly batchPerReplica: number;
  readonly features: number;
  /** A dynamic loss scale that begins here. */
  readonly initialLossScale?: number;
  /** The state that another run's dynamic loss scale left. */
  readonly savedLossScale?: LossScaleState;
  readonly fault?: { readonly how: string; readonly replica: number; readonly step: number };
}

export interface TestOutcome {
  readonly replica: number;
  readonly replicas: number;
  readonly weights: number[];
  readonly losses: number[];
  /** Steps that the loss scale skipped. */
  readonly skipped: number[];
  /** At the end. */
  readonly lossScaleState: LossScaleState | null;
}

export const LEARNING_RATE = 0.05;
export const MOMENTUM = 0.9;
export const DECAY = 0.01;

/** Row `index` of the data: features and target. */
export function example(index: number, features: number): { x: number[]; y: number } {
  const x = Array.from({ length: features }, (_, j) => Math.fround(Math.sin(index * 1.7 + j * 0.9)));
  return { x, y: Math.fround(Math.cos(index * 0.3)) };
}

/** Rows of step `step` for one replica: global batch = the replicas' rows one after another. */
export function rowsOf(step: number, replica: number, replicas: number, batch: number): number[] {
  return Array.from({ length: batch }, (_, i) => (step * replicas + replica) * batch + i);
}

/** Momentum SGD with weight decay on w (not on b) over the global batch, in float64; nothing changes in steps `skipped`. */
export function reference(
  { steps, batchPerReplica, features }: TestTask,
  replicas: number,
  skipped: readonly number[] = [],
): { weights: number[]; losses: number[] } {
  const weights = Array.from({ length: features + 1 }, (_, j) => (j < features ? 0.1 * (j + 1) : 0.5));
  const slots = new Array(features + 1).fill(0) as number[];
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const gradients = new Array(features + 1).fill(0) as number[];
    let loss = 0;
    const rows = Array.from({ length: replicas }, (_, replica) =>
      rowsOf(step, replica, replicas, batchPerReplica),
    ).flat();
    for (const row of rows) {
      const { x, y } = example(row, features);
      const error = x.reduce((sum, value, j) => sum + value * (weights[j] as number), weights[features] as number) - y;
      loss += error ** 2 / rows.length;
      for (let j = 0; j <= features; j++) (gradients[j] as number) += (2 * error * (x[j] ?? 1)) / rows.length;
    }
    losses.push(loss);
    if (skipped.includes(step)) continue;
    for (let j = 0; j <= features; j++) {
      const gradient = (gradients[j] as number) + (j < features ? DECAY * (weights[j] as number) : 0);
      slots[j] = MOMENTUM * (slots[j] as number) + gradient;
      (weights[j] as number) -= LEARNING_RATE * (slots[j] as number);
    }
  }
  return { weights, losses };
}

/** Takes memory until there is none. */
export function hoard(): never {
  const kept: number[][] = [];
  for (;;) kept.push(new Array<number>(100_000).fill(kept.length + 0.5));
}

/** Entry point of the replicas. */
export default async function train(context: ReplicaContext, task: TestTask): Promise<TestOutcome> {
  const { steps, batchPerReplica, features, initialLossScale, savedLossScale, fault } = task;
  const { replicaIdInSyncGroup: replica, numReplicasInSync: replicas } = context;
  // Every replica starts with other values: replica 0's have to win.
  const w = tf.variable(tf.tensor2d(Array.from({ length: features }, (_, j) => [0.1 * (j + 1) + replica])), true, 'w');
  const b = tf.variable(tf.scalar(0.5 + replica), true, 'b');
  const trainer = context.trainer([w, b], {
    optimizer: { kind: 'momentum', momentum: MOMENTUM },
    weightDecay: { rate: DECAY, applies: (variable) => variable === w },
    ...(initialLossScale !== undefined && { lossScale: { initial: initialLossScale } }),
  });
  if (savedLossScale) trainer.restoreLossScale(savedLossScale);
  const losses: number[] = [];
  const skips: number[] = [];
  for (let step = 0; step < steps; step++) {
    if (fault && fault.replica === replica && fault.step === step) {
      if (fault.how === 'kill') process.kill(process.pid, 'SIGKILL');
      if (fault.how === 'stop') process.kill(process.pid, 'SIGSTOP');
      if (fault.how === 'throw') throw new Error('a mistake of its own');
      if (fault.how === 'heap') hoard();
      // The main thread hoards then, and V8 ends the whole process.
      if (fault.how === 'process heap') context.report('hoard');
    }
    const rows = rowsOf(step, replica, replicas, batchPerReplica).map((row) => example(row, features));
    const x = tf.tensor2d(rows.map((row) => row.x));
    const y = tf.tensor2d(rows.map((row) => [row.y]));
    const { loss, skipped } = await trainer.step(
      () => tf.mean(tf.squaredDifference(tf.add(tf.matMul(x, w as tf.Tensor2D), b), y)) as tf.Scalar,
      LEARNING_RATE,
    );
    tf.dispose([x, y]);
    losses.push(loss);
    if (skipped) skips.push(step);
    if (context.shouldStop()) break;
  }
  const { lossScaleState } = trainer;
  return { replica, replicas, weights: [...trainer.weights], losses, skipped: skips, lossScaleState };
}
