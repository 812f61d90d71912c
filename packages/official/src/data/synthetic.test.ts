/** Made-up input against upstream's distribution: a normal one cut off at two deviations, and uniform labels without the last class. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SyntheticInput } from './synthetic.js';

const PLAN = { imageShape: [32, 32, 3], numClasses: 11 } as const;
const BATCH = 512;

/** Of a standard normal variable cut off at ±2: 1 − 4φ(2) ÷ (2Φ(2) − 1), by the closed form. */
const CUT_VARIANCE = 1 - (4 * (Math.exp(-2) / Math.sqrt(2 * Math.PI))) / 0.9544997361036416;

describe('synthetic input', () => {
  const make = (stream = 0, seed = 7) => new SyntheticInput({ plan: PLAN, batchSize: BATCH, seed, stream });
  const { images, labels, size } = make().next();

  it('has pixels of mean 127 and deviation 60, cut off at two deviations', () => {
    assert.equal(size, BATCH);
    assert.equal(images.length, BATCH * 32 * 32 * 3);
    const mean = images.reduce((sum, value) => sum + value, 0) / images.length;
    const variance = images.reduce((sum, value) => sum + (value - mean) ** 2, 0) / images.length;
    // Five standard errors.
    const error = 5 / Math.sqrt(images.length);
    assert.ok(Math.abs(mean - 127) < 60 * error, `${mean}`);
    assert.ok(Math.abs(variance / 3600 - CUT_VARIANCE) < 2 * error, `${variance / 3600} instead of ${CUT_VARIANCE}`);
    assert.ok(images.every((value) => value >= 127 - 120 && value <= 127 + 120));
    // Both tails are there.
    assert.ok(images.some((value) => value < 10) && images.some((value) => value > 244));
  });

  it('has labels that are uniform, and never the last class', () => {
    const counts = new Array<number>(PLAN.numClasses).fill(0);
    for (const label of labels) counts[label] = (counts[label] as number) + 1;
    assert.equal(counts.at(-1), 0);
    const expected = BATCH / (PLAN.numClasses - 1);
    const chiSquare = counts.slice(0, -1).reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // Nine degrees of freedom: 27.9 is passed once in a thousand draws.
    assert.ok(chiSquare < 27.9, `${chiSquare}`);
  });

  it('is the same batch for ever, the same for a seed, and another one on each replica', () => {
    const input = make();
    assert.equal(input.steps, Number.POSITIVE_INFINITY);
    assert.equal(input.next(), input.next());
    assert.deepEqual(input.next().images, images);
    assert.notDeepEqual(make(1).next().images, images);
    assert.notDeepEqual(make(0, 8).next().images, images);
  });
});
