/**
 * Metrics that decide something (a plateau, an early stop, the best checkpoint) must be the same number on all replicas, or replicas
 * decide differently: their mean. What Horovod's MetricAverageCallback does.
 */
import * as tf from '@tensorflow/tfjs-core';
import { describe } from '../describe.js';
import { readNow } from '../devices/host-access.js';
import { whoHasWhat } from '../mirror/fingerprint.js';

/** Metrics by name, as callbacks of `model.fit` get them. */
export type Metrics = Record<string, number | tf.Scalar>;

/** The part of a callback that averages; an argument of `new CustomCallback(…)`, or a callback of `model.fit` as it is. */
export interface MetricAverageCallback {
  onEpochEnd(epoch: number, logs?: Metrics): Promise<void>;
}

/**
 * Sets each metric to its mean over replicas, in f64 and in replica order, in place. Collective.
 * @throws Error if replicas have different metrics; TypeError for what is no number.
 */
export function averageMetrics<M extends Metrics>(metrics: M, gather: <T>(value: T) => T[]): M {
  const own = Object.entries(metrics).map(([name, metric]) => [name, numberOf(name, metric)] as const);
  own.sort(([a], [b]) => (a < b ? -1 : 1));
  const all = gather(own);
  const names = all.map((list) => list.map(([name]) => name).join(', '));
  if (names.some((list) => list !== names[0])) {
    throw new Error(
      `Replicas have different metrics: ${whoHasWhat(names)}.\nhelp: average at the same moment, with the same metrics, on every replica.`,
    );
  }
  for (const [i, [name]] of own.entries()) {
    let sum = 0;
    for (const list of all) sum += (list[i] as readonly [string, number])[1];
    (metrics as Metrics)[name] = sum / all.length;
  }
  return metrics;
}

function numberOf(name: string, metric: unknown): number {
  if (typeof metric === 'number') return metric;
  if (metric instanceof tf.Tensor && metric.size === 1) return readNow(metric)[0] as number;
  throw new TypeError(`Metric '${name}' must be a number, got ${describe(metric)}.`);
}
