/**
 * Batches: which examples they hold (upstream's shuffle, repeat, batch), that threads, replicas and resuming change nothing,
 * and that the pipeline is ahead of whoever takes from it.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { cifar10DataSet, IMAGE_BYTES, RECORD_BYTES } from './cifar10-data.js';
import { drawAugmentation, labelOf, prepareImage } from './cifar10-reader.js';
import type { DataSet } from './data-set.js';
import { type InputPipelineOptions, openPipeline } from './input-pipeline.js';
import { epochOrder, evaluationRanges, TrainingSchedule, type TrainingScheduleOptions } from './schedule.js';

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
const SCHEDULE: TrainingScheduleOptions = {
  count: COUNT,
  batchSize: 8,
  replica: 0,
  replicas: 1,
  seed: 5,
  firstEpoch: 0,
  epochs: 2,
};
const options = (changes: Partial<InputPipelineOptions> = {}): InputPipelineOptions => ({
  dataSet: cifar10DataSet({ records, count: COUNT }),
  schedule: { kind: 'training', ...SCHEDULE },
  reading: { seed: 5, isTraining: true, randomFlip: true },
  ...changes,
});

/** Copies of all batches, because a batch's memory is used again. */
async function all(changes: Partial<InputPipelineOptions>): Promise<{ labels: number[]; images: Float32Array }[]> {
  const pipeline = await openPipeline(options(changes));
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
    const schedule = new TrainingSchedule(SCHEDULE);
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
            evaluationRanges(count, size, replica, replicas),
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
      () => new TrainingSchedule({ ...SCHEDULE, batchSize: 0 }),
      /batch_size must be a positive integer, got 0/,
    );
  });
});

describe('the pipeline', () => {
  it('gives what the schedule says, augmented as drawn for (seed, epoch, example)', async () => {
    const schedule = new TrainingSchedule(SCHEDULE);
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
    const schedule = new TrainingSchedule(SCHEDULE);
    const [{ images } = { images: new Float32Array() }] = await all({
      threads: 1,
      reading: { seed: 5, isTraining: true, randomFlip: false },
    });
    const image = new Float32Array(IMAGE_BYTES);
    for (const [i, { example, epoch }] of schedule.batch(0).entries()) {
      prepareImage(records, example, image, 0, { ...drawAugmentation(5, epoch, example), flip: false });
      assert.deepEqual(images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES), image);
    }
  });

  it('does not make the step wait: while a batch is worked on, the next ones are prepared', async () => {
    const schedule = { kind: 'training', ...SCHEDULE, batchSize: 16, epochs: 20 } as const;
    const pipeline = await openPipeline(options({ schedule, threads: 1, ahead: 2 }));
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

  it('reads ranges as they lie, not distorted, for evaluation', async () => {
    const image = new Float32Array(IMAGE_BYTES);
    const schedule = { kind: 'ranges', ranges: evaluationRanges(COUNT, 8, 1, 3) } as const;
    for (const threads of [0, 2]) {
      const batches = await all({ schedule, threads, reading: { seed: 5, isTraining: false, randomFlip: true } });
      assert.deepEqual(
        batches.map(({ labels }) => labels.length),
        [8, 8],
      );
      for (const [step, { labels, images }] of batches.entries()) {
        for (const [i, label] of labels.entries()) {
          const example = 8 * (1 + 3 * step) + i;
          prepareImage(records, example, image, 0);
          assert.equal(label, labelOf(records, example));
          assert.deepEqual(images.subarray(i * IMAGE_BYTES, (i + 1) * IMAGE_BYTES), image);
        }
      }
    }
  });

  it('takes another data set, of other images, whose reader waits', async () => {
    const dataSet: DataSet = {
      name: 'numbers',
      count: COUNT,
      numClasses: 3,
      imageShape: [1, 2, 1],
      reader: new URL('./testing/slow-reader.js', import.meta.url).href,
      source: { times: 10 },
    };
    const batches = await all({
      dataSet,
      threads: 2,
      schedule: {
        kind: 'ranges',
        ranges: [
          [0, 3],
          [7, 9],
        ],
      },
    });
    assert.deepEqual(
      batches.map(({ labels, images }) => [labels, [...images]]),
      [
        [
          [0, 1, 2],
          [0, 0, 10, 1, 20, 2],
        ],
        [
          [1, 2],
          [70, 7, 80, 8],
        ],
      ],
    );
    await assert.rejects(
      all({ dataSet, threads: 0 }),
      /The examples of numbers cannot be read without threads: their reader has to wait\.\nhelp: --datasets_num_private_threads=1/,
    );
  });

  it('a thread that fails says why, and one that gives nothing does not hang the run', async () => {
    const failing = await openPipeline(options({ dataSet: { ...options().dataSet, source: {} }, threads: 1 }));
    try {
      assert.throws(() => failing.next(), /^Error: The input pipeline failed: TypeError: /);
    } finally {
      await failing.close();
    }
    // A thread needs some milliseconds to start.
    const late = await openPipeline(options({ threads: 1, timeoutMs: 0 }));
    try {
      assert.throws(() => late.next(), /gave no batch for step 0 within 0 ms\.\nhelp: /);
    } finally {
      await late.close();
    }
  });
});
