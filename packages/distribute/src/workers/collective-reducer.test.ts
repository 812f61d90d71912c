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

  interface Chosen {
    weights: number[];
    scalars: Record<string, number>;
    said: string[];
  }
  /** Over a mock of a network that takes the time it says. */
  async function choose(args: object): Promise<Chosen> {
    const outcomes = await runOnThreads(SCENES, 2, 'auto', { steps: 16, ...args }, { timeoutMs: 60_000 });
    const values = outcomes.map((outcome) => (outcome as { kind: string; value: Chosen }).value);
    const [first] = values as [Chosen];
    for (const value of values) assert.deepEqual(value, first, 'replicas differ');
    // Two gradients of 1, half of their sum, in each of so many steps.
    assert.deepEqual(first.weights, [-16]);
    return first;
  }

  it('chooses many packs where they hide a slow network, one where each costs a round, and counts on', async () => {
    // 2 MB take 21 ms behind 40 ms of backward, which one pack would not use.
    const slow = await choose({ latencyMs: 0.05, bytesPerMs: 100_000, backwardMs: 10 });
    const { numPacks, ...others } = slow.scalars;
    assert.deepEqual(others, { updates: 16, numPacksWorkers: 2 });
    assert.ok((numPacks as number) > 1, `${slow.said}`);
    assert.match(slow.said.join(), /^num_packs=auto: \d+ packs, a step of [\d.]+ ms by the model \(.*1 pack [\d.]+ ms/);
    // There is nothing to hide behind, and a round is 60 ms.
    const far = await choose({ latencyMs: 30, bytesPerMs: 1e9, backwardMs: 0 });
    assert.deepEqual(far.scalars, { updates: 16, numPacks: 1, numPacksWorkers: 2 }, `${far.said}`);
  });

  it('goes on with the packs that a checkpoint names, if it was of as many workers', async () => {
    const network = { latencyMs: 0, bytesPerMs: 1e9, backwardMs: 0 };
    const restored = { updates: 100, numPacks: 3, numPacksWorkers: 2 };
    const same = await choose({ ...network, restored });
    assert.deepEqual(same.scalars, { ...restored, updates: 116 });
    assert.deepEqual(same.said, ['num_packs=auto: 3, as chosen before.']);
    const other = await choose({ ...network, restored: { ...restored, numPacksWorkers: 5 } });
    assert.equal(other.scalars.numPacksWorkers, 2);
    assert.match(other.said.join(), /a step of/);
  });
});
