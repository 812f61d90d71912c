/** Evaluation against figures by hand, on a network that is a table: no thread, no run, no model. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '../../testing/provider.js';
import * as tf from '@tensorflow/tfjs-core';
import type { Batch, InputSource } from '../../data/data-set.js';
import { FAST, on } from '../../testing/provider.js';
import {
  averageStatistics,
  countCorrect,
  evaluateBatches,
  evaluationPiece,
  figuresOf,
  measureOn,
  statisticsRanges,
} from './evaluation.js';

const SHAPE = [1, 1, 3];

/** Batches of given images of three elements, which the network takes for logits of three classes. */
function source(batches: readonly { images: number[]; labels: number[] }[]): InputSource & { released: number } {
  let at = 0;
  return {
    steps: batches.length,
    waitMs: 0,
    released: 0,
    next(): Batch | null {
      const batch = batches[at];
      if (!batch) return null;
      return {
        images: Float32Array.from(batch.images),
        labels: Int32Array.from(batch.labels),
        size: batch.labels.length,
      };
    },
    release() {
      at++;
      this.released++;
    },
    async close() {},
  };
}

const network = (images: tf.Tensor4D) => tf.reshape(images, [images.shape[0], 3]) as tf.Tensor2D;

describe('evaluation', () => {
  it('counts what is right among the k likeliest; ties are right, NaN is not', () => {
    const logits = Float32Array.of(1, 2, 3, 3, 3, 0, Number.NaN, 1, 2);
    assert.equal(countCorrect(logits, Int32Array.of(2, 1, 0), 1), 2);
    assert.equal(countCorrect(logits, Int32Array.of(1, 2, 1), 1), 0);
    assert.equal(countCorrect(logits, Int32Array.of(1, 2, 1), 2), 2);
    assert.equal(countCorrect(logits, Int32Array.of(1, 2, 1), 3), 3);
  });

  it('adds up over batches of any size, and gives means and the L2 term', async () => {
    await on(FAST, async () => {
      const input = source([
        { images: [5, 0, 0, 0, 5, 0], labels: [0, 0] },
        { images: [0, 0, 5], labels: [2] },
      ]);
      const totals = await evaluateBatches(input, 2, SHAPE, network, () => false);
      const { accuracy, accuracyTop5, loss } = figuresOf(totals as Float64Array, 0.25);
      assert.deepEqual([accuracy, accuracyTop5, input.released], [2 / 3, 1, 2]);
      // −log softmax of the right class: twice log(1 + 2e⁻⁵), once 5 more.
      const each = Math.log(1 + 2 * Math.exp(-5));
      assert.ok(Math.abs(loss - (each + 5 / 3 + 0.25)) < 1e-5, String(loss));
    });
  });

  it('asks in every round but the first whether to stop, also without a batch of its own', async () => {
    await on(FAST, async () => {
      const batch = { images: [5, 0, 0], labels: [0] };
      let asked = 0;
      const never = () => {
        asked++;
        return false;
      };
      assert.equal((await evaluateBatches(source([batch]), 3, SHAPE, network, never))?.at(-1), 1);
      assert.equal(asked, 2);
      assert.equal(await evaluateBatches(source([batch, batch]), 2, SHAPE, network, () => true), null);
    });
  });

  it('takes as many images at once as make 65,536 pixels, and 16 of large ones', () => {
    assert.deepEqual(
      [evaluationPiece([32, 32, 3]), evaluationPiece([224, 224, 3]), evaluationPiece([28, 28, 1])],
      [64, 16, 83],
    );
  });
});

describe('moving statistics', () => {
  it('are the mean over replicas, and equal ones are left as they are', () => {
    const statistics = Float32Array.of(1, 0.1);
    const communicator = {
      allReduce(sums: Float64Array) {
        sums[0] = (sums[0] as number) + 4;
        sums[1] = 2 * (sums[1] as number);
      },
    } as never;
    averageStatistics(statistics, { numReplicasInSync: 2, communicator });
    assert.deepEqual([...statistics], [2.5, Math.fround(0.1)]);
    averageStatistics(statistics, { numReplicasInSync: 1, communicator });
    assert.deepEqual([...statistics], [2.5, Math.fround(0.1)]);
  });

  it('are measured on images spread over the set, others on every replica', () => {
    const all = [0, 1].flatMap((replica) => statisticsRanges(1000, 10, replica, 2));
    assert.equal(new Set(all.map(([begin]) => begin)).size, 32);
    assert.ok(all.every(([begin, end]) => begin >= 0 && end === begin + 10 && end <= 1000));
    assert.ok(Math.max(...all.map(([, end]) => end)) > 950);
    assert.deepEqual(new Set(statisticsRanges(4, 10, 0, 1).map(String)), new Set(['0,4']));
  });

  it('are the mean of the batches’, whatever was there before', async () => {
    await on(FAST, async () => {
      const statistics = Float32Array.of(1000);
      const batches = [
        { images: [1, 0, 0], labels: [0] },
        { images: [4, 0, 0], labels: [0] },
      ];
      await measureOn(source(batches), statistics, 0.5, SHAPE, (images, training) => {
        assert.equal(training, true);
        statistics[0] = 0.5 * (statistics[0] as number) + 0.5 * (images.dataSync()[0] as number);
        return network(images);
      });
      assert.deepEqual([...statistics], [2.5]);
    });
  });
});
