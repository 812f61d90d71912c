/**
 * What a replica's thread runs: bind to the cores, set the backend, join the group, call the replica function.
 *
 * It is the entry of a worker thread and exports nothing. Whatever ends the replica function is told to the main thread,
 * which decides what becomes of the others.
 */
import { host } from '#host';
import { joinSharedMemoryGroup } from '../communicator/shared-memory-communicator.js';
import { createCrossDeviceOpsFromConfig } from '../cross-device-ops/create.js';
import type { BackendSetupFunction } from '../devices/device.js';
import { adoptHostAccess } from '../devices/host-access.js';
import { checkMessage } from './check-message.js';
import { Context } from './context.js';
import { ControlBlock } from './control-block.js';
import { localParts } from './local-parts.js';
import type { ReplicaMessage, ReplicaWorkerData } from './protocol.js';
import { importDefault, loadReplica } from './replica-module.js';
import { toFailureReport } from './transferred-error.js';

const data = (await host.replicaData()) as ReplicaWorkerData;
const control = new ControlBlock(data.control);
let isStarting = true;
host.redirectOutput(tell, new Int32Array(data.underWay));

try {
  const value = await run();
  checkMessage(value, 'what the replica function returned');
  control.setState(data.replica, 'finished');
  tell({ type: 'result', value });
} catch (error) {
  control.setState(data.replica, 'failed');
  tell({ type: 'error', error: toFailureReport(error, isStarting) });
}

async function run(): Promise<unknown> {
  const { replica, device } = data;
  if (data.bindThreads) host.bindThread(device.cores);
  const setup = await importDefault<BackendSetupFunction>(device.backendModule, 'backend module');
  const { type, index, threads, cores, name } = device;
  adoptHostAccess(await setup({ type, index, threads, cores, device: name }), device.backendModule);
  const replicaFunction = await loadReplica(data.module);

  const context = new Context(
    localParts({
      device,
      local: joinSharedMemoryGroup(data.group, replica),
      control,
      crossDeviceOps: createCrossDeviceOpsFromConfig(data.crossDeviceOps),
      report: (message) => {
        checkMessage(message, 'what was given to context.report()');
        tell({ type: 'report', message });
      },
      summarize: data.hasSummary ? (event) => tell({ type: 'summary', event }) : null,
    }),
  );
  isStarting = false;
  control.setState(replica, 'running');
  return await replicaFunction(context, data.args);
}

function tell(message: ReplicaMessage): void {
  host.tell(message);
}
