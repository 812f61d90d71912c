/** For tests: what mpirun starts to run <name>-replica.ts. Arguments: name, strategy, replicas per worker, options and task as JSON. */

import { reportResult } from '../mpi/testing/result.js';
import { ParameterServerStrategy } from '../parameter-server/parameter-server-strategy.js';
import { MultiWorkerMirroredStrategy } from '../workers/multi-worker-mirrored-strategy.js';

const [, , module, name, replicas = '1', options = '{}', task = '{}'] = process.argv;
const devices = Array.from({ length: Number(replicas) }, (_, i) => `cpu:${i}`);
const Class = name === 'parameter-server' ? ParameterServerStrategy : MultiWorkerMirroredStrategy;
try {
  const strategy = new Class({ devices, log: () => {}, ...JSON.parse(options) });
  reportResult(await strategy.run(new URL(`./${module}-replica.js`, import.meta.url), JSON.parse(task)));
  strategy.close();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
