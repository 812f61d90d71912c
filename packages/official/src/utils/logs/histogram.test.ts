/** Histograms against TensorFlow's rules, and against values counted by hand. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { histogramOf } from './histogram.js';

describe('a histogram', () => {
  it('counts what is in each bucket, and has the sums', () => {
    const { min, max, num, sum, sumSquares, limits, counts } = histogramOf([
      1,
      1.05,
      -2,
      0,
      0,
      3e20,
      Number.NaN,
      -1e300,
    ]);
    assert.deepEqual([min, max, num], [-1e300, 3e20, 7]);
    assert.equal(sum, 1 + 1.05 - 2 + 3e20 - 1e300);
    assert.ok(sumSquares === Number.POSITIVE_INFINITY);
    assert.equal(
      counts.reduce((total, count) => total + count, 0),
      7,
    );
    assert.equal(limits.length, counts.length);
    for (const value of [1, 1.05, -2, 0, 3e20, -1e300]) {
      const bucket = limits.findIndex((limit) => limit > value);
      assert.ok((counts[bucket] as number) > 0, `${value} is not counted below ${limits[bucket]}`);
      // A bucket's limits are a tenth apart, but for those next to zero and the outermost.
      if (Math.abs(value) > 0 && Math.abs(value) < 1e20) {
        assert.ok(Math.abs((limits[bucket] as number) - value) <= 0.1 * Math.abs(value) + 1e-12);
      }
    }
    assert.equal(counts[limits.indexOf(1e-12)], 2);
    assert.equal(limits.at(-1), Number.MAX_VALUE);
  });

  it('has limits that grow by a tenth from 1e-12, and one for each run of empty buckets', () => {
    const { limits, counts } = histogramOf([1.05e-12, 1.2e-12]);
    // Everything up to 1e-12 is empty; then [1e-12, 1.1e-12) and [1.1e-12, 1.21e-12); the rest is empty.
    assert.deepEqual(counts, [0, 1, 1, 0]);
    assert.deepEqual(limits, [1e-12, 1e-12 * 1.1, 1e-12 * 1.1 * 1.1, Number.MAX_VALUE]);
  });

  it('of nothing is empty, and values may be scaled', () => {
    assert.deepEqual(histogramOf([]), {
      ...{ min: 0, max: 0, num: 0, sum: 0, sumSquares: 0, limits: [Number.MAX_VALUE], counts: [0] },
    });
    const { min, max, sum, sumSquares } = histogramOf(Float32Array.of(8, -4), 0.25);
    assert.deepEqual([min, max, sum, sumSquares], [-1, 2, 1, 5]);
  });
});
