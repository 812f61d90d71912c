/** For tests: what mpirun starts to run scenes of strategy/testing/mirrors.ts, one after another. Argument: replicas per worker. */
import { serialize } from 'node:v8';
import { playScenes } from '../../mpi/testing/result.js';
import { MultiWorkerMirroredStrategy } from '../multi-worker-mirrored-strategy.js';

const [, , replicas = '1'] = process.argv;
const devices = Array.from({ length: Number(replicas) }, (_, i) => `cpu:${i}`);
const strategy = new MultiWorkerMirroredStrategy({ devices });
try {
  await playScenes(async (args) => {
    const results = await strategy.run(new URL('../../strategy/testing/mirrors.js', import.meta.url), args);
    // Not as JSON, which has no NaN.
    return serialize(results).toString('base64');
  });
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
