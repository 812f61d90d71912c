/** For tests: what mpirun starts. Arguments: replicas per worker, options of the strategy as JSON, the task as JSON. */
import { reportResult } from '../../mpi/testing/result.js';
import { ParameterServerStrategy } from '../parameter-server-strategy.js';

const [, , replicas = '1', options = '{}', task = '{}'] = process.argv;
try {
  const strategy = new ParameterServerStrategy({
    devices: Array.from({ length: Number(replicas) }, (_, i) => `cpu:${i}`),
    ...JSON.parse(options),
  });
  const results = await strategy.run(new URL('./ps-worker.js', import.meta.url), JSON.parse(task));
  reportResult(results);
  strategy.close();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
