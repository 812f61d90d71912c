/**
 * What a replica's thread runs: bind to the cores, set the backend, join the group, call the replica function.
 *
 * It is the entry of a worker thread and exports nothing. Whatever ends the replica function is told to the main thread,
 * which decides what becomes of the others.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { CommunicatorError } from '../communicator/communicator.js';
import { joinSharedMemoryGroup } from '../communicator/shared-memory-communicator.js';
import { createCrossDeviceOpsFromConfig } from '../cross-device-ops/create.js';
import { bindThread } from '../devices/affinity.js';
import type { BackendSetupFunction } from '../devices/device.js';
import { ControlBlock } from './control-block.js';
import { CountingCommunicator } from './counting-communicator.js';
import type { ReplicaMessage, ReplicaWorkerData, TransferredError } from './protocol.js';
import { ReplicaContext } from './replica-context.js';

/** The default export of a module that strategies run. */
type ReplicaFunction = (context: ReplicaContext, args: unknown) => unknown;

const data = workerData as ReplicaWorkerData;
const control = new ControlBlock(data.control);
let isStarting = true;

try {
  const value = await run();
  control.setState(data.replica, 'finished');
  tell({ type: 'result', value });
} catch (error) {
  control.setState(data.replica, 'failed');
  tell({ type: 'error', error: transferable(error) });
}

async function run(): Promise<unknown> {
  const { replica, replicas, device } = data;
  if (data.bindThreads) bindThread(device.cores);
  const setup = await importDefault<BackendSetupFunction>(device.backendModule, 'backend module');
  await setup({ threads: device.threads, cores: device.cores, device: device.name });
  const replicaFunction = await importDefault<ReplicaFunction>(data.module, 'replica module');

  const group = joinSharedMemoryGroup(data.group, replica);
  const communicator = new CountingCommunicator(group, control, replica);
  const context = new ReplicaContext({
    replica,
    replicas,
    device,
    communicator,
    control,
    crossDeviceOps: createCrossDeviceOpsFromConfig(data.crossDeviceOps),
    report: (message) => tell({ type: 'report', message }),
  });
  isStarting = false;
  control.setState(replica, 'running');
  return await replicaFunction(context, data.args);
}

async function importDefault<T>(url: string, what: string): Promise<T> {
  const module = (await import(url)) as { default?: T };
  if (typeof module.default !== 'function') {
    throw new TypeError(`The ${what} ${url} has no function as its default export.`);
  }
  return module.default;
}

function tell(message: ReplicaMessage): void {
  parentPort?.postMessage(message);
}

function transferable(thrown: unknown): TransferredError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const isCommunicatorError = error instanceof CommunicatorError;
  return {
    name: error.name,
    message: error.message,
    ...(error.stack !== undefined && { stack: error.stack }),
    isCommunicatorError,
    ...(isCommunicatorError && error.rank !== undefined && { blamedRank: error.rank }),
    whileStarting: isStarting,
  };
}
