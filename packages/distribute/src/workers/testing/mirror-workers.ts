/** For tests: what mpirun starts to run a scene of strategy/testing/mirrors.ts. Arguments: replicas per worker, the scene's as JSON. */
import { serialize } from 'node:v8';
import { reportResult } from '../../mpi/testing/result.js';
import { MultiWorkerMirroredStrategy } from '../multi-worker-mirrored-strategy.js';

const [, , replicas = '1', args = '{}'] = process.argv;
const devices = Array.from({ length: Number(replicas) }, (_, i) => `cpu:${i}`);
const strategy = new MultiWorkerMirroredStrategy({ devices });
try {
  const results = await strategy.run(new URL('../../strategy/testing/mirrors.js', import.meta.url), JSON.parse(args));
  // Not as JSON, which has no NaN.
  reportResult(serialize(results).toString('base64'));
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
