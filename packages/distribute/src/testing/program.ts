/**
 * For tests: what mpirun starts to run <name>-replica.ts. Arguments: name, strategy, replicas per worker, options and task as JSON, and
 * the URL of a module that has a device provider, if it is not to be `cpu`. With 'scenes' in the task's place the job stays, and a
 * SceneJob's scenes are the tasks.
 */
import { type DeviceProvider, registerDeviceProvider } from '../devices/device.js';
import { playScenes, reportResult } from '../mpi/testing/result.js';
import { ParameterServerStrategy } from '../parameter-server/parameter-server-strategy.js';
import { MultiWorkerMirroredStrategy } from '../workers/multi-worker-mirrored-strategy.js';

const [, , module, name, replicas = '1', options = '{}', task = '{}', provider] = process.argv;
if (provider) registerDeviceProvider(((await import(provider)) as { deviceProvider: DeviceProvider }).deviceProvider);
const devices = Array.from({ length: Number(replicas) }, (_, i) => `cpu:${i}`);
const Class = name === 'parameter-server' ? ParameterServerStrategy : MultiWorkerMirroredStrategy;
try {
  const strategy = new Class({ devices, log: () => {}, ...JSON.parse(options) });
  const run = (args: unknown) => strategy.run(new URL(`./${module}-replica.js`, import.meta.url), args);
  if (task === 'scenes') await playScenes(run);
  else reportResult(await run(JSON.parse(task)));
  strategy.close();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
