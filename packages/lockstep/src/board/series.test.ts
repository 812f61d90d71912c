/** Series: order, restarts, and thinning out, each against a plain list. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Series } from './series.js';

const stepsOf = (series: Series) => Array.from(series.steps.subarray(0, series.length));
const valuesOf = (series: Series) => Array.from(series.values.subarray(0, series.length));

describe('a series', () => {
  it('is sorted by step whatever the order of one file, and a later value of a step counts', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer()), { maxLength: 300 }), (points) => {
        const series = new Series();
        for (const [step, value] of points) series.append(step, 1, value, 0);
        const expected = [...new Map(points)].sort((a, b) => a[0] - b[0]);
        assert.deepEqual(
          stepsOf(series),
          expected.map(([step]) => step),
        );
        assert.deepEqual(
          valuesOf(series),
          expected.map(([, value]) => value),
        );
      }),
    );
  });

  it('drops what an earlier file has of steps that a run takes again', () => {
    const series = new Series();
    for (const step of [10, 20, 30, 40]) series.append(step, 1, step, 0);
    for (const step of [30, 50]) series.append(step, 2, -step, 1);
    assert.deepEqual(stepsOf(series), [10, 20, 30, 50]);
    assert.deepEqual(valuesOf(series), [10, 20, -30, -50]);
  });

  it('keeps every peak when it is thinned out, and both ends', () => {
    const series = new Series();
    for (let step = 0; step < 10_000; step++) series.append(step, step / 2, step === 7777 ? 100 : step % 10, 0);
    const { count, steps, times, values, low, high } = series.sample(50);
    assert.equal(count, 10_000);
    assert.equal(steps.length, 50);
    assert.deepEqual([steps[0], steps.at(-1), times.at(-1)], [0, 9999, 4999.5]);
    assert.equal(Math.max(...(high as number[])), 100);
    assert.equal(Math.min(...(low as number[])), 0);
    // Of 200 points each, 0 to 9 in turns; one has 100 in the place of 7.
    const means = values as number[];
    assert.ok(
      means.every((mean, i) => Math.abs(mean - (i === 38 ? 4.5 + 93 / 200 : 4.5)) < 1e-9),
      String(means),
    );
  });

  it('gives a range with a neighbour at each side, and every point where there are few', () => {
    const series = new Series();
    for (let step = 0; step < 100; step++) series.append(10 * step, step, step, 0);
    assert.deepEqual(series.sample(50, 200, 240).steps, [190, 200, 210, 220, 230, 240, 250]);
    assert.equal(series.sample(50, 200, 240).low, undefined);
    assert.deepEqual(series.sample(50, 5000, 6000).steps, [990]);
    assert.deepEqual(new Series().sample(50), { count: 0, steps: [], times: [], values: [] });
  });

  it('says null for what is no finite number, and leaves it out of means and peaks', () => {
    const series = new Series();
    for (const [i, value] of [1, Number.NaN, 3, Number.POSITIVE_INFINITY].entries()) series.append(i, i, value, 0);
    assert.deepEqual(series.sample(10).values, [1, null, 3, null]);
    assert.deepEqual(series.sample(2).values, [1, 3]);
    assert.deepEqual([series.highest, series.last], [3, null]);
  });
});
