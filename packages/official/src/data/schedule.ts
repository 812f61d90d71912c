/**
 * Which examples make a batch. Training walks through shuffled epochs, one after another, and cuts the stream into batches
 * (upstream: shuffle, repeat, batch), so a batch may span two epochs; each replica takes its contiguous share of every global
 * batch. Evaluation takes ranges of the set as it lies. Everything is a function of (seed, epoch, step): a run resumes at any
 * step without replaying.
 */
import { Philox } from '../utils/random/philox.js';
import { shuffle } from '../utils/random/shuffle.js';
import type { ExampleReference } from './data-set.js';

const SHUFFLE_STREAM = 1;

/** Batches of one replica. */
export interface Schedule {
  readonly steps: number;
  /** Examples of the largest batch. */
  readonly largest: number;
  /** This replica's examples of step `step` (0-based), in order. */
  batch(step: number): readonly ExampleReference[];
}

/** What a schedule is made of: plain data that crosses threads. */
export type ScheduleOptions =
  | ({ readonly kind: 'training' } & TrainingScheduleOptions)
  | { readonly kind: 'ranges'; readonly ranges: readonly ExampleRange[] };

/** Examples begin … end − 1. */
export type ExampleRange = readonly [begin: number, end: number];

export function createSchedule(options: ScheduleOptions): Schedule {
  return options.kind === 'training' ? new TrainingSchedule(options) : new RangeSchedule(options.ranges);
}

/** The order of an epoch's examples. */
export function epochOrder(count: number, seed: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  return shuffle(order, new Philox(seed, [SHUFFLE_STREAM, epoch]));
}

export interface TrainingScheduleOptions {
  /** Examples of the data set. */
  readonly count: number;
  /** Images of a global batch. */
  readonly batchSize: number;
  readonly replica: number;
  readonly replicas: number;
  readonly seed: number;
  /** First epoch of this train call, and how many it has. */
  readonly firstEpoch: number;
  readonly epochs: number;
}

/** Batches of one train call, for one replica. */
export class TrainingSchedule implements Schedule {
  /** Steps of the call: every global batch, the last one perhaps smaller. The same on every replica. */
  readonly steps: number;
  readonly largest: number;
  readonly #orders = new Map<number, Uint32Array>();

  constructor(private readonly options: TrainingScheduleOptions) {
    const { count, batchSize, replicas, epochs } = options;
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new RangeError(`batch_size must be a positive integer, got ${batchSize}.`);
    }
    const examples = count * epochs;
    const rest = examples % batchSize;
    // A last batch with fewer images than replicas would leave one without work.
    this.steps = Math.floor(examples / batchSize) + (rest >= replicas ? 1 : 0);
    this.largest = Math.ceil(batchSize / replicas);
  }

  batch(step: number): ExampleReference[] {
    const { count, batchSize, replica, replicas, firstEpoch, epochs } = this.options;
    const begin = step * batchSize;
    const size = Math.min(batchSize, count * epochs - begin);
    const from = begin + Math.floor((size * replica) / replicas);
    const to = begin + Math.floor((size * (replica + 1)) / replicas);
    return Array.from({ length: to - from }, (_, i) => {
      const epoch = firstEpoch + Math.floor((from + i) / count);
      return { epoch, example: this.#order(epoch)[(from + i) % count] as number };
    });
  }

  #order(epoch: number): Uint32Array {
    let order = this.#orders.get(epoch);
    if (!order) {
      order = epochOrder(this.options.count, this.options.seed, epoch);
      this.#orders.clear();
      this.#orders.set(epoch, order);
    }
    return order;
  }
}

/** Given ranges of the set, a batch each. */
export class RangeSchedule implements Schedule {
  readonly steps: number;
  readonly largest: number;

  constructor(private readonly ranges: readonly ExampleRange[]) {
    this.steps = ranges.length;
    this.largest = ranges.reduce((most, [begin, end]) => Math.max(most, end - begin), 0);
  }

  batch(step: number): ExampleReference[] {
    const [begin, end] = this.ranges[step] as ExampleRange;
    return Array.from({ length: end - begin }, (_, i) => ({ epoch: 0, example: begin + i }));
  }
}

/** Evaluation's batches for one replica: every replicas-th batch of the whole set, in order, each image once. */
export function evaluationRanges(count: number, batchSize: number, replica: number, replicas: number): ExampleRange[] {
  const ranges: ExampleRange[] = [];
  for (let index = replica; index * batchSize < count; index += replicas) {
    ranges.push([index * batchSize, Math.min(count, (index + 1) * batchSize)]);
  }
  return ranges;
}
