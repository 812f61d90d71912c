/** CollectiveReducer: its counters beyond what a word holds. Training between real processes is in multi-worker.test.ts. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runOnThreads } from '../communicator/testing/ranks.js';

const SCENES = new URL('./testing/collective-reducer.scenes.js', import.meta.url);

describe('CollectiveReducer', () => {
  it('counts gradients and steps right beyond what a word holds', async () => {
    // Two replicas with two segments in each of two packs: 4 gradients a step.
    for (const edge of [2, 2 ** 29, 2 ** 30, 2 ** 31, 2 ** 32, 2 ** 33]) {
      const args = { countFrom: edge - 2, steps: 4, numPacks: 2 };
      const outcomes = await runOnThreads(SCENES, 2, 'steps', args, { timeoutMs: 20_000 });
      for (const [rank, outcome] of outcomes.entries()) {
        const early = rank === 0 ? [2, 2, 2, 2] : [0, 0, 0, 0];
        const value = { weights: [-3], early, finite: [true, false, true, true] };
        assert.deepEqual(outcome, { kind: 'value', value }, `from ${edge} − 2, replica ${rank}`);
      }
    }
  });
});
