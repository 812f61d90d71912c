/**
 * The input pipeline of one replica: batches are prepared ahead by worker threads into a ring of shared memory, and taken
 * synchronously, because a TensorFlow.js training step is synchronous. What is taken is a view, not a copy. Training and
 * evaluation read through it alike; which examples make a batch is the schedule's business, and what an example looks like the
 * data set's reader's.
 *
 * With no threads a batch is prepared when it is asked for.
 */
import { Worker } from 'node:worker_threads';
import type { Batch, DataSet, ExampleReader, ExampleReaderFactory, InputSource, ReaderOptions } from './data-set.js';
import { createSchedule, type Schedule, type ScheduleOptions } from './schedule.js';

export interface InputPipelineOptions {
  readonly dataSet: DataSet;
  readonly schedule: ScheduleOptions;
  readonly reading: ReaderOptions;
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
  /** Elements of an image. */
  readonly imageElements: number;
}

/** What an input thread is given. */
export interface InputThreadData {
  readonly ring: Ring;
  readonly dataSet: DataSet;
  readonly schedule: ScheduleOptions;
  readonly reading: ReaderOptions;
  readonly thread: number;
  readonly threads: number;
  readonly firstStep: number;
}

const ERROR_BYTES = 4096;

/**
 * Opens a pipeline. Its threads begin at once.
 * @throws Error if the reader's module cannot be loaded (with no threads; a thread's own error comes with the first batch).
 */
export async function openPipeline(options: InputPipelineOptions): Promise<InputSource> {
  const { threads = 1, dataSet, reading } = options;
  return new InputPipeline(options, threads === 0 ? await loadReader(dataSet, reading) : null);
}

/** The data set's reader, in this thread. */
export async function loadReader({ reader, source }: DataSet, options: ReaderOptions): Promise<ExampleReader> {
  const { default: create } = (await import(reader)) as { default: ExampleReaderFactory };
  return await create(source, options);
}

/** See the file's head. */
class InputPipeline implements InputSource {
  readonly steps: number;
  readonly #ring: Ring;
  readonly #workers: Worker[] = [];
  readonly #schedule: Schedule;
  #step: number;
  #waitMs = 0;

  constructor(
    private readonly options: InputPipelineOptions,
    /** In this thread, where there are no others. */
    private readonly reader: ExampleReader | null,
  ) {
    const { dataSet, schedule, reading, threads = 1, ahead = 2, firstStep = 0 } = options;
    this.#schedule = createSchedule(schedule);
    this.steps = this.#schedule.steps;
    this.#step = firstStep;
    const elements = dataSet.imageShape.reduce((a, b) => a * b, 1);
    this.#ring = createRing(Math.max(1, threads * ahead), this.#schedule.largest, elements);
    for (let thread = 0; thread < threads; thread++) {
      const workerData: InputThreadData = { ring: this.#ring, dataSet, schedule, reading, thread, threads, firstStep };
      const worker = new Worker(new URL('./input-thread.js', import.meta.url), { workerData });
      worker.unref();
      this.#workers.push(worker);
    }
  }

  /** @throws Error with the thread's own message if it failed, or when it takes longer than the limit. */
  next(): Batch | null {
    if (this.#step >= this.steps) return null;
    const begin = performance.now();
    const { slots, slotImages, imageElements, labels, images } = this.#ring;
    const slot = this.#step % slots;
    if (this.reader) this.#fill(this.reader, slot);
    else this.#await(slot);
    this.#waitMs += performance.now() - begin;
    const size = labels[slot * (slotImages + 1)] as number;
    const first = slot * (slotImages + 1) + 1;
    const image = slot * slotImages * imageElements;
    return {
      images: images.subarray(image, image + size * imageElements),
      labels: labels.subarray(first, first + size),
      size,
    };
  }

  release(): void {
    const slot = this.#step % this.#ring.slots;
    this.#step++;
    Atomics.store(this.#ring.released, slot, this.#step);
    Atomics.notify(this.#ring.released, slot);
  }

  get waitMs(): number {
    return this.#waitMs;
  }

  /** Ends the threads. */
  async close(): Promise<void> {
    Atomics.store(this.#ring.control, 0, 1);
    for (let slot = 0; slot < this.#ring.slots; slot++) Atomics.notify(this.#ring.released, slot);
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #fill(reader: ExampleReader, slot: number): void {
    if (fillSlot(this.#ring, slot, this.#schedule.batch(this.#step), reader) === null) return;
    throw new Error(
      `The examples of ${this.options.dataSet.name} cannot be read without threads: their reader has to wait.\n` +
        'help: --datasets_num_private_threads=1, or more.',
    );
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
            'help: the machine may be overloaded; fewer --datasets_num_private_threads may help.',
        );
      }
      Atomics.wait(this.#ring.filled, slot, filled, Math.min(left, 1000));
    }
  }
}

/**
 * Prepares a batch in a slot.
 * @returns null when it lies there; a promise where the reader has to wait, for all examples at once
 */
export function fillSlot(
  ring: Ring,
  slot: number,
  batch: ReturnType<Schedule['batch']>,
  reader: ExampleReader,
): Promise<unknown> | null {
  const { labels, slotImages, imageElements, images } = ring;
  const first = slot * (slotImages + 1);
  labels[first] = batch.length;
  const waiting: Promise<unknown>[] = [];
  for (const [index, example] of batch.entries()) {
    const label = reader.read(example, images, (slot * slotImages + index) * imageElements);
    const at = first + 1 + index;
    if (typeof label === 'number') labels[at] = label;
    else {
      waiting.push(
        label.then((value) => {
          labels[at] = value;
        }),
      );
    }
  }
  return waiting.length > 0 ? Promise.all(waiting) : null;
}

function createRing(slots: number, slotImages: number, imageElements: number): Ring {
  const words = (length: number) => new Int32Array(new SharedArrayBuffer(4 * length));
  return {
    filled: words(slots),
    released: words(slots),
    control: words(2),
    error: new Uint8Array(new SharedArrayBuffer(ERROR_BYTES)),
    images: new Float32Array(new SharedArrayBuffer(4 * slots * slotImages * imageElements)),
    // Each slot: the batch's size, then its labels.
    labels: words(slots * (slotImages + 1)),
    slots,
    slotImages,
    imageElements,
  };
}

function readText(bytes: Uint8Array, length: number): string {
  return new TextDecoder().decode(bytes.slice(0, length));
}
