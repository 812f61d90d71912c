/** The cases of mirror-cases.ts for replicas of several processes, under real mpirun. */
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { deserialize } from 'node:v8';
import { mpirun, whyNoMpirun } from '../mpi/testing/mpirun.js';
import { mirrorCases } from '../strategy/testing/mirror-cases.js';

const program = new URL('./testing/mirror-workers.js', import.meta.url);

for (const [workers, replicas] of [
  [2, 1],
  [2, 2],
] as const) {
  describe(`${workers} workers with ${replicas} replica(s) each`, { skip: whyNoMpirun() }, () => {
    mirrorCases({
      count: workers * replicas,
      processes: workers,
      run: async <T>(args: object) => {
        const result = await mpirun(workers, program, { args: [String(replicas), JSON.stringify(args)] });
        assert.equal(result.status, 0, result.describe());
        return result.results.flatMap((text) => deserialize(Buffer.from(text as string, 'base64')) as T[]);
      },
    });
  });
}
