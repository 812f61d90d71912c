/** The cases of mirror-cases.ts for replicas of several processes, under real mpirun. */
import assert from 'node:assert/strict';
import { after, describe } from 'node:test';
import { deserialize } from 'node:v8';
import { SceneJob, whyNoMpirun } from '../mpi/testing/mpirun.js';
import { mirrorCases } from '../strategy/testing/mirror-cases.js';

const program = new URL('./testing/mirror-workers.js', import.meta.url);

for (const [workers, replicas] of [
  [2, 1],
  [2, 2],
] as const) {
  describe(`${workers} workers with ${replicas} replica(s) each`, { skip: whyNoMpirun() }, () => {
    const job = new SceneJob(workers, program, { args: [String(replicas)] });
    // Whatever the scenes did, the job is whole to its end.
    after(async () => {
      const result = await job.close();
      assert.equal(result?.status ?? 0, 0, result?.describe());
    });
    mirrorCases({
      count: workers * replicas,
      processes: workers,
      run: async <T>(args: object) =>
        (await job.play(args)).flatMap((text) => deserialize(Buffer.from(text as string, 'base64')) as T[]),
    });
  });
}
