/** Replicas of several processes are mirrors, and programs that would part them are refused: the scenes, under real mpirun. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deserialize } from 'node:v8';
import { mpirun, whyNoMpirun } from '../mpi/testing-mpirun.js';
import { REFUSED_STEPS } from '../strategy/testing-mirrors.js';

const program = new URL('./testing-mirror-workers.js', import.meta.url);

async function run(workers: number, replicas: number, args: object) {
  return await mpirun(workers, program, { args: [String(replicas), JSON.stringify(args)] });
}

/** What the replicas returned, in order. */
async function resultsOf<T>(workers: number, replicas: number, args: object): Promise<T[]> {
  const result = await run(workers, replicas, args);
  assert.equal(result.status, 0, result.describe());
  return result.results.flatMap((text) => deserialize(Buffer.from(text as string, 'base64')) as T[]);
}

describe('replicas of several processes', { skip: whyNoMpirun() }, () => {
  it('merge: numbers arrive as they are', async () => {
    for (const [workers, replicas] of [
      [2, 1],
      [2, 2],
    ] as const) {
      const count = workers * replicas;
      const rest = [Number.NEGATIVE_INFINITY, -0, undefined, new Float32Array([1.5, Number.NaN])];
      const expected = Array.from({ length: count }, (_, i) => ({
        sent: [i + 1 === count ? Number.NaN : 0.5, ...rest],
      }));
      assert.deepEqual(await resultsOf(workers, replicas, { scene: 'merge' }), Array(count).fill(expected));
    }
  });

  it('what is handed to a step is refused where it is handed over', async () => {
    const results = await resultsOf<{ messages: string[]; weights: number[] }>(2, 2, { scene: 'refusedSteps' });
    for (const { messages, weights } of results) {
      assert.deepEqual(messages, REFUSED_STEPS);
      assert.deepEqual(weights, [1, 1]);
    }
  });
});
