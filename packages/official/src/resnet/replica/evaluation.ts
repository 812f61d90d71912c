/**
 * How a network is evaluated: which images at once, what is added up over them and over the replicas, and what follows from the
 * sums. The figures are those of one device, bit by bit, however the set is spread. Moving statistics are made ready for it
 * here as well. It opens no input and knows no run.
 */
import { hostAccess, observe, type ReplicaContext } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';
import type { Batch, InputSource } from '../../data/data-set.js';
import type { ExampleRange } from '../../data/schedule.js';
import { smoothedCrossEntropy } from '../fused-ops.js';
import { measureStatistics } from './measure-statistics.js';

/** Per-example losses are added as integers of this unit: the sum does not depend on the order, so not on the replicas. */
const LOSS_UNIT = 2 ** -20;
/** Evaluated at once: so many pixels, and not fewer than 16 images of any size. */
const PIECE_PIXELS = 65_536;
const SMALLEST_PIECE = 16;
/** Batches that moving statistics are measured on, where they cannot follow the weights. */
const STATISTICS_BATCHES = 16;

/** [n, height, width, channels] to [n, classes]; `training` uses the batch's statistics, and moves the moving ones. */
export type Network = (images: tf.Tensor4D, training: boolean) => tf.Tensor2D;

/** @param logits [size, classes], valid until it returns */
export type LogitsObserver = (logits: Float32Array, batch: Batch) => void;

/** Sums over examples: they add up over batches and replicas. */
export type Totals = Float64Array;

/** Of no example: images that are right, among the five likeliest, loss in units, and how many there were. */
export function noTotals(): Totals {
  return new Float64Array(4);
}

/**
 * Images that are evaluated at once, whatever the batch size and the number of replicas: kernels may round differently for
 * another number of images, and evaluation is to give the same figures however it is spread.
 */
export function evaluationPiece([height, width]: readonly number[]): number {
  return Math.max(SMALLEST_PIECE, Math.floor(PIECE_PIXELS / ((height as number) * (width as number))));
}

/**
 * Adds up `rounds` batches of an input that may have fewer.
 * @param labelSmoothing of the loss, as in training
 * @param onLogits told of every batch
 * @param shouldStop asked before each round but the first, equally often on every replica
 * @returns null if it was told to stop
 */
export async function evaluateBatches(
  input: InputSource,
  rounds: number,
  imageShape: readonly number[],
  network: Network,
  shouldStop: () => boolean,
  labelSmoothing = 0,
  onLogits?: LogitsObserver,
): Promise<Totals | null> {
  const totals = noTotals();
  for (let round = 0; round < rounds; round++) {
    if (round > 0 && shouldStop()) return null;
    const batch = round < input.steps ? input.next() : null;
    if (batch === null) continue;
    addBatch(totals, batch, imageShape, network, labelSmoothing, onLogits);
    // Before the batch is given up: a device may be read later.
    await hostAccess().settled();
    input.release();
  }
  return totals;
}

function addBatch(
  totals: Totals,
  batch: Batch,
  imageShape: readonly number[],
  network: Network,
  labelSmoothing: number,
  onLogits?: LogitsObserver,
): void {
  tf.tidy(() => {
    const logits = network(imagesOf(batch, imageShape), false);
    const losses = smoothedCrossEntropy(logits, tf.tensor1d(batch.labels, 'int32'), labelSmoothing);
    observe([logits, losses], (scores: Float32Array, each: Float32Array) => {
      const loss = each.reduce((sum, value) => sum + Math.round(value / LOSS_UNIT), 0);
      const found = [countCorrect(scores, batch.labels, 1), countCorrect(scores, batch.labels, 5), loss, batch.size];
      for (const [i, value] of found.entries()) totals[i] = (totals[i] as number) + value;
      onLogits?.(scores, batch);
    });
  });
}

/** @param weightDecayLoss the loss's L2 term */
export function figuresOf(
  totals: Totals,
  weightDecayLoss: number,
): { readonly accuracy: number; readonly accuracyTop5: number; readonly loss: number } {
  const [top1 = 0, top5 = 0, loss = 0, count = 0] = totals;
  return { accuracy: top1 / count, accuracyTop5: top5 / count, loss: (loss * LOSS_UNIT) / count + weightDecayLoss };
}

/** Examples whose label is among the k largest logits (ties count as right, as TensorFlow's in_top_k). */
export function countCorrect(logits: Float32Array, labels: Int32Array, k: number): number {
  const classes = logits.length / labels.length;
  let correct = 0;
  for (let row = 0; row < labels.length; row++) {
    const target = logits[row * classes + (labels[row] as number)] as number;
    let larger = 0;
    for (let c = 0; c < classes; c++) if ((logits[row * classes + c] as number) > target) larger++;
    if (larger < k && Number.isFinite(target)) correct++;
  }
  return correct;
}

/** Moving statistics are each replica's own while it trains; read or saved, they are the mean (upstream: ON_READ, MEAN). */
export function averageStatistics(
  statistics: Float32Array,
  { numReplicasInSync: replicas, communicator }: Pick<ReplicaContext, 'numReplicasInSync' | 'communicator'>,
): void {
  if (replicas === 1) return;
  // In f64 the mean of equal numbers is that number: reading statistics that are averaged already changes no bit.
  const sums = Float64Array.from(statistics);
  communicator.allReduce(sums);
  for (let i = 0; i < statistics.length; i++) statistics[i] = (sums[i] as number) / replicas;
}

/** Images that moving statistics are measured on: spread over `count`, and others on every replica. */
export function statisticsRanges(count: number, batchSize: number, replica: number, replicas: number): ExampleRange[] {
  const size = Math.min(count, batchSize);
  return Array.from({ length: STATISTICS_BATCHES }, (_, i): ExampleRange => {
    const part = (i * replicas + replica) / (STATISTICS_BATCHES * replicas);
    const begin = Math.floor((count - size) * part);
    return [begin, begin + size];
  });
}

/** Measures moving statistics anew on all batches of an input. */
export async function measureOn(
  input: InputSource,
  statistics: Float32Array,
  decay: number,
  imageShape: readonly number[],
  network: Network,
): Promise<void> {
  await measureStatistics(statistics, decay, input.steps, async () => {
    const batch = input.next() as Batch;
    tf.tidy(() => {
      network(imagesOf(batch, imageShape), true);
    });
    await hostAccess().settled();
    input.release();
  });
}

function imagesOf({ images, size }: Batch, imageShape: readonly number[]): tf.Tensor4D {
  return tf.tensor4d(images, [size, ...imageShape] as [number, number, number, number]);
}
