/** For tests: what mpirun starts. Arguments: replicas per worker, options of the strategy as JSON, the task as JSON. */
import { reportResult } from '../../mpi/testing/result.js';
import { MultiWorkerMirroredStrategy } from '../multi-worker-mirrored-strategy.js';
import { hoard, type TestOutcome } from './worker.js';

const [, , replicas = '1', options = '{}', task = '{}'] = process.argv;
const strategy = new MultiWorkerMirroredStrategy({
  devices: Array.from({ length: Number(replicas) }, (_, i) => `cpu:${i}`),
  ...JSON.parse(options),
  ...(options.includes('"differ"') && { facts: { flags: { batch_size: 8, seed: process.env.OMPI_COMM_WORLD_RANK } } }),
});
try {
  const module = new URL('./worker.js', import.meta.url);
  const outcomes = await strategy.run<TestOutcome>(module, JSON.parse(task), {
    ...(task.includes('"heap"') && { resourceLimits: { maxOldGenerationSizeMb: 64 } }),
    onReport: (_replica, message) => {
      if (message === 'hoard') hoard();
    },
  });
  reportResult(outcomes);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
