/**
 * Batches: which examples they hold (upstream's shuffle, repeat, batch), that threads, replicas and resuming change nothing,
 * and that the pipeline is ahead of whoever takes from it.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { drawAugmentation, labelOf, prepareImage } from './augment.js';
import { IMAGE_BYTES, RECORD_BYTES } from './cifar10-data.js';
import { InputPipeline, type InputPipelineOptions } from './input-pipeline.js';
import { epochOrder, evaluationBatches, TrainingSchedule } from './schedule.js';

const COUNT = 50;

/** Records whose label and pixels tell them apart; in shared memory, as the pipeline wants them. */
function makeRecords(): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(COUNT * RECORD_BYTES));
  for (let i = 0; i < COUNT; i++) {
    for (let b = 0; b < RECORD_BYTES; b++) bytes[i * RECORD_BYTES + b] = (i * 31 + b * 7) % 251;
    bytes[i * RECORD_BYTES] = i % 10;
  }
  return bytes;
}

const records = makeRecords();
const options = (changes: Partial<InputPipelineOptions> = {}): InputPipelineOptions => ({
  records,
  count: COUNT,
  batchSize: 8,
  replica: 0,
  replicas: 1,
  seed: 5,
  firstEpoch: 0,
  epochs: 2,
  ...changes,
});

/** Copies of all batches, because a batch's memory is used again. */
async function all(changes: Partial<InputPipelineOptions>): Promise<{ labels: number[]; images: Float32Array }[]> {
  const pipeline = new InputPipeline(options(changes));
  const batches = [];
  try {
    for (let batch = pipeline.next(); batch !== null; batch = pipeline.next()) {
      batches.push({ labels: [...batch.labels], images: batch.images.slice() });
      pipeline.release();
    }
  } finally {
    await pipeline.close();
  }
  return batches;
}

describe('the training schedule', () => {
  it('goes through every example once in an epoch, in another order in each', () => {
    const orders = [0, 1].map((epoch) => [...epochOrder(COUNT, 5, epoch)]);
    for (const order of orders)
      assert.deepEqual(
        order.toSorted((a, b) => a - b),
        [...Array(COUNT).keys()],
      );
    assert.notDeepEqual(orders[0], orders[1]);
    assert.deepEqual([...epochOrder(COUNT, 5, 1)], orders[1]);
    assert.notDeepEqual([...epochOrder(COUNT, 6, 0)], orders[0]);
  });

  it('shuffles before it repeats: a batch may span two epochs, and only the last one is smaller', () => {
    const schedule = new TrainingSchedule(options());
    assert.equal(schedule.steps, 13);
    const seen = Array.from({ length: schedule.steps }, (_, step) => schedule.batch(step));
    assert.deepEqual(
      seen.map((batch) => batch.length),
      [...Array(12).fill(8), 4],
    );
    assert.deepEqual(
      seen[6]?.map(({ epoch }) => epoch),
      [0, 0, 1, 1, 1, 1, 1, 1],
    );
    for (const epoch of [0, 1]) {
      const examples = seen.flat().filter((one) => one.epoch === epoch);
      assert.deepEqual(
        examples.map(({ example }) => example),
        [...epochOrder(COUNT, 5, epoch)],
      );
    }
  });

  it('gives replicas, side by side, exactly what one replica gets, in every step work for each', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 4 }),
        (count, replicas, epochs, each) => {
          const common = { count, batchSize: replicas * each, seed: 9, firstEpoch: 2, epochs };
          const one = new TrainingSchedule({ ...common, replica: 0, replicas: 1 });
          const many = Array.from(
            { length: replicas },
            (_, replica) => new TrainingSchedule({ ...common, replica, replicas }),
          );
          for (let step = 0; step < many[0]!.steps; step++) {
            const parts = many.map((schedule) => schedule.batch(step));
            assert.deepEqual(parts.flat(), one.batch(step));
            assert.ok(parts.every((part) => part.length > 0));
          }
          assert.ok(many.every((schedule) => schedule.steps === many[0]!.steps));
        },
      ),
    );
  });

  it('evaluation takes every image once, whatever the number of replicas', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 50 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 5 }),
        (count, size, replicas) => {
          const seen = Array.from({ length: replicas }, (_, replica) =>
            evaluationBatches(count, size, replica, replicas),
          )
            .flat()
            .flatMap(([begin, end]) => Array.from({ length: end - begin }, (_, i) => begin + i));
          assert.deepEqual(
            seen.toSorted((a, b) => a - b),
            [...Array(count).keys()],
          );
        },
      ),
    );
  });

  it('a batch of 0 is an error', () => {
    assert.throws(
      () => new TrainingSchedule(options({ batchSize: 0 })),
      /batch_size must be a positive integer, got 0/,
    );
  });
});

describe('the pipeline', () => {
  it('gives what the schedule says, augmented as drawn for (seed, epoch, example)', async () => {
    const schedule = new TrainingSchedule(options());
    const image = new Float32Array(IMAGE_BYTES);
    for (const [step, { labels, images }] of (await all({ threads: 0 })).entries()) {
      for (const [i, { example, epoch }] of schedule.batch(step).entries()) {
        assert.equal(labels[i], labelOf(records, example));
        prepareImage(records, example, image, 0, drawAugmentation(5, epoch, example));
        assert.deepEqual(images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES), image);
      }
    }
  });

  it('gives the same batches for any number of threads and batches ahead', async () => {
    const expected = await all({ threads: 0 });
    for (const [threads, ahead] of [
      [1, 1],
      [1, 3],
      [2, 2],
      [3, 1],
    ] as const) {
      assert.deepEqual(await all({ threads, ahead }), expected, `${threads} threads, ${ahead} ahead`);
    }
  });

  it('goes on from any step as if it had not stopped', async () => {
    const expected = await all({ threads: 0 });
    for (const firstStep of [1, 5, 12, 13]) {
      assert.deepEqual(await all({ threads: 2, firstStep }), expected.slice(firstStep), `from step ${firstStep}`);
    }
  });

  it('mirrors nothing when told not to', async () => {
    const schedule = new TrainingSchedule(options());
    const [{ images } = { images: new Float32Array() }] = await all({ threads: 1, randomFlip: false });
    const image = new Float32Array(IMAGE_BYTES);
    for (const [i, { example, epoch }] of schedule.batch(0).entries()) {
      prepareImage(records, example, image, 0, { ...drawAugmentation(5, epoch, example), flip: false });
      assert.deepEqual(images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES), image);
    }
  });

  it('does not make the step wait: while a batch is worked on, the next ones are prepared', async () => {
    const pipeline = new InputPipeline(options({ batchSize: 16, epochs: 20, threads: 1, ahead: 2 }));
    try {
      pipeline.next();
      pipeline.release();
      const first = pipeline.waitMs;
      let step = 1;
      for (let batch = pipeline.next(); batch !== null && step < 40; batch = pipeline.next(), step++) {
        // What a step of a small network takes; a batch of 16 is prepared in about a millisecond.
        await sleep(20);
        pipeline.release();
      }
      assert.equal(step, 40);
      const each = (pipeline.waitMs - first) / step;
      assert.ok(each < 10, `waited ${each} ms a step for batches that take far less than the 20 ms between them`);
    } finally {
      await pipeline.close();
    }
  });

  it('a thread that fails says why, and one that gives nothing does not hang the run', async () => {
    const failing = new InputPipeline(options({ records: null as never, threads: 1 }));
    try {
      assert.throws(() => failing.next(), /^Error: The input pipeline failed: TypeError: /);
    } finally {
      await failing.close();
    }
    // A thread needs some milliseconds to start.
    const late = new InputPipeline(options({ threads: 1, timeoutMs: 0 }));
    try {
      assert.throws(() => late.next(), /gave no batch for step 0 within 0 ms\.\nhelp: /);
    } finally {
      await late.close();
    }
  });
});
