/** measureStatistics against the mean of the batches that it is shown. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { measureStatistics } from './measure-statistics.js';

describe('measureStatistics', () => {
  for (const decay of [0, 0.9, 0.997]) {
    it(`finds the mean of the batches, with a decay of ${decay}`, async () => {
      const batches = [
        [1, 40, -3],
        [2, 10, 0],
        [6, 10, 9],
      ] as const;
      // What was there before belongs to other weights.
      const statistics = Float32Array.of(1000, -1000, 77);
      await measureStatistics(statistics, decay, batches.length, (i) => {
        for (const [channel, value] of (batches[i] as readonly number[]).entries()) {
          statistics[channel] = decay * (statistics[channel] as number) + (1 - decay) * value;
        }
      });
      for (const [channel, mean] of [3, 20, 2].entries()) {
        assert.ok(Math.abs((statistics[channel] as number) - mean) < 1e-5 * Math.abs(mean), `${statistics}`);
      }
    });
  }
});
