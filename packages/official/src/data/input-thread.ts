/**
 * A thread of the input pipeline: prepares every threads-th batch, waits for its slot to be released, and ends when told to.
 * It is loaded by input-pipeline.ts and nothing else.
 */
import { workerData } from 'node:worker_threads';
import { DataError } from './data-error.js';
import { fillSlot, type InputThreadData, loadReader } from './input-pipeline.js';
import { createSchedule } from './schedule.js';

const { ring, dataSet, schedule: options, reading, thread, threads, firstStep } = workerData as InputThreadData;

try {
  const reader = await loadReader(dataSet, reading);
  const schedule = createSchedule(options);
  for (let step = firstStep + thread; step < schedule.steps; step += threads) {
    const slot = step % ring.slots;
    if (!isFree(slot, step)) break;
    const waiting = fillSlot(ring, slot, schedule.batch(step), reader);
    if (waiting) await waiting;
    Atomics.store(ring.filled, slot, step + 1);
    Atomics.notify(ring.filled, slot);
  }
} catch (error) {
  // Of data a person wants to know what is wrong with it, of anything else where it went wrong.
  const { message, stack } = error as Error;
  const words = error instanceof DataError ? message : String(stack ?? error);
  const text = new TextEncoder().encode(words).subarray(0, ring.error.length);
  ring.error.set(text);
  Atomics.store(ring.control, 1, text.length);
  for (let slot = 0; slot < ring.slots; slot++) Atomics.notify(ring.filled, slot);
}

/** Waits until the step that used the slot before is released; false when the pipeline closes. */
function isFree(slot: number, step: number): boolean {
  const previous = step - ring.slots;
  for (;;) {
    if (Atomics.load(ring.control, 0) === 1) return false;
    const released = Atomics.load(ring.released, slot);
    // The first round of a resumed call finds slots that were never used.
    if (previous < firstStep || released === previous + 1) return true;
    Atomics.wait(ring.released, slot, released, 1000);
  }
}
