/**
 * The input pipeline of one replica: batches are prepared ahead by worker threads into a ring of shared memory, and taken
 * synchronously, because a TensorFlow.js training step is synchronous. What is taken is a view, not a copy.
 *
 * With no threads a batch is prepared when it is asked for.
 */
import { Worker } from 'node:worker_threads';
import { drawAugmentation, labelOf, prepareImage } from './augment.js';
import { IMAGE_BYTES } from './cifar10-data.js';
import { TrainingSchedule, type TrainingScheduleOptions } from './schedule.js';

/** A prepared batch. Valid until {@link InputPipeline.release}. */
export interface Batch {
  /** [size, 32, 32, 3] */
  readonly images: Float32Array;
  /** [size] */
  readonly labels: Int32Array;
  readonly size: number;
}

export interface InputPipelineOptions extends TrainingScheduleOptions {
  readonly records: Uint8Array;
  /** Mirror images at random. Default true. */
  readonly randomFlip?: boolean;
  /** Threads that prepare batches; 0 prepares in the caller's. Default 1. */
  readonly threads?: number;
  /** Batches prepared ahead by each thread. Default 2. */
  readonly ahead?: number;
  /** First step to give (0-based), to resume a call. Default 0. */
  readonly firstStep?: number;
  /** How long a batch may take before the pipeline is taken for dead. Default 60,000 ms. */
  readonly timeoutMs?: number;
}

/** Shared memory of a pipeline and its threads. */
export interface Ring {
  /** Per slot: 1 + the step that lies in it, 0 for none yet. */
  readonly filled: Int32Array;
  /** Per slot: 1 + the step that was last released from it. */
  readonly released: Int32Array;
  /** [0]: 1 = stop; [1]: length of an error text. */
  readonly control: Int32Array;
  readonly error: Uint8Array;
  readonly images: Float32Array;
  readonly labels: Int32Array;
  readonly slots: number;
  readonly slotImages: number;
}

/** What an input thread is given. */
export interface InputThreadData {
  readonly ring: Ring;
  readonly schedule: TrainingScheduleOptions;
  readonly records: Uint8Array;
  readonly randomFlip: boolean;
  readonly thread: number;
  readonly threads: number;
  readonly firstStep: number;
}

const ERROR_BYTES = 4096;

/** See the file's head. */
export class InputPipeline {
  readonly steps: number;
  readonly #ring: Ring;
  readonly #workers: Worker[] = [];
  readonly #schedule: TrainingSchedule;
  #step: number;
  #waitMs = 0;

  constructor(private readonly options: InputPipelineOptions) {
    const { threads = 1, ahead = 2, batchSize, replicas, firstStep = 0 } = options;
    this.#schedule = new TrainingSchedule(options);
    this.steps = this.#schedule.steps;
    this.#step = firstStep;
    const slots = Math.max(1, threads * ahead);
    this.#ring = createRing(slots, Math.ceil(batchSize / replicas));
    const { count, replica, seed, firstEpoch, epochs } = options;
    const schedule = { count, batchSize, replica, replicas, seed, firstEpoch, epochs };
    for (let thread = 0; thread < threads; thread++) {
      const workerData: InputThreadData = {
        ring: this.#ring,
        schedule,
        records: options.records,
        randomFlip: options.randomFlip ?? true,
        thread,
        threads,
        firstStep,
      };
      const worker = new Worker(new URL('./input-thread.js', import.meta.url), { workerData });
      worker.unref();
      this.#workers.push(worker);
    }
  }

  /**
   * The next batch, or null after the last.
   * @throws Error with the thread's own message if it failed, or when it takes longer than the limit.
   */
  next(): Batch | null {
    if (this.#step >= this.steps) return null;
    const begin = performance.now();
    const slot = this.#step % this.#ring.slots;
    if (this.#workers.length === 0) {
      const { records, seed, randomFlip = true } = this.options;
      fillSlot(this.#ring, slot, records, this.#schedule, seed, this.#step, randomFlip);
    } else this.#await(slot);
    this.#waitMs += performance.now() - begin;
    const size = this.#ring.labels[slot * (this.#ring.slotImages + 1)] as number;
    const first = slot * (this.#ring.slotImages + 1) + 1;
    const image = slot * this.#ring.slotImages * IMAGE_BYTES;
    return {
      images: this.#ring.images.subarray(image, image + size * IMAGE_BYTES),
      labels: this.#ring.labels.subarray(first, first + size),
      size,
    };
  }

  /** Gives the last batch's memory back; its views are overwritten from now on. */
  release(): void {
    const slot = this.#step % this.#ring.slots;
    this.#step++;
    Atomics.store(this.#ring.released, slot, this.#step);
    Atomics.notify(this.#ring.released, slot);
  }

  /** Milliseconds that next() has waited in all. */
  get waitMs(): number {
    return this.#waitMs;
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    Atomics.store(this.#ring.control, 0, 1);
    for (let slot = 0; slot < this.#ring.slots; slot++) Atomics.notify(this.#ring.released, slot);
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #await(slot: number): void {
    const limit = this.options.timeoutMs ?? 60_000;
    const deadline = performance.now() + limit;
    for (;;) {
      const filled = Atomics.load(this.#ring.filled, slot);
      if (filled === this.#step + 1) return;
      const length = Atomics.load(this.#ring.control, 1);
      if (length > 0) throw new Error(`The input pipeline failed: ${readText(this.#ring.error, length)}`);
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new Error(
          `The input pipeline gave no batch for step ${this.#step} within ${limit} ms.\n` +
            'help: the machine may be overloaded; fewer --datasets_num_private_threads, or 0 to prepare in the training thread.',
        );
      }
      Atomics.wait(this.#ring.filled, slot, filled, Math.min(left, 1000));
    }
  }
}

/** Prepares a step's batch in a slot. */
export function fillSlot(
  ring: Ring,
  slot: number,
  records: Uint8Array,
  schedule: TrainingSchedule,
  seed: number,
  step: number,
  randomFlip: boolean,
): void {
  const batch = schedule.batch(step);
  const labels = slot * (ring.slotImages + 1);
  ring.labels[labels] = batch.length;
  for (const [index, { example, epoch }] of batch.entries()) {
    const offset = (slot * ring.slotImages + index) * IMAGE_BYTES;
    prepareImage(records, example, ring.images, offset, drawAugmentation(seed, epoch, example, randomFlip));
    ring.labels[labels + 1 + index] = labelOf(records, example);
  }
}

function createRing(slots: number, slotImages: number): Ring {
  const words = (length: number) => new Int32Array(new SharedArrayBuffer(4 * length));
  return {
    filled: words(slots),
    released: words(slots),
    control: words(2),
    error: new Uint8Array(new SharedArrayBuffer(ERROR_BYTES)),
    images: new Float32Array(new SharedArrayBuffer(4 * slots * slotImages * IMAGE_BYTES)),
    // Each slot: the batch's size, then its labels.
    labels: words(slots * (slotImages + 1)),
    slots,
    slotImages,
  };
}

function readText(bytes: Uint8Array, length: number): string {
  return new TextDecoder().decode(bytes.slice(0, length));
}
