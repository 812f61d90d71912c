/**
 * The replica module that MultiWorkerMirroredStrategy runs: joins the workers' group, then calls the user's module with a
 * context that spans all workers.
 */
import { MpiCommunicator } from '../mpi/mpi-communicator.js';
import type { MpiGroupHandle } from '../mpi/mpi-group.js';
import type { Context } from '../replica/context.js';
import { loadReplica } from '../replica/replica-module.js';
import { asWorkerError, HierarchicalCommunicator } from './hierarchical-communicator.js';
import { workerContext } from './worker-context.js';

/** What the strategy hands to its replicas. */
export interface MultiWorkerArguments {
  /** URL of the user's module, and its arguments. */
  readonly module: string;
  readonly args: unknown;
  readonly group: MpiGroupHandle;
  /** Null: by size. */
  readonly numPacks: number | null | 'auto';
  readonly wire: 'f32' | 'bf16';
  readonly algorithm: 'auto' | 'ring';
}

/** Entry point of every replica. */
export default async function run(inner: Context, args: MultiWorkerArguments): Promise<unknown> {
  const train = await loadReplica(args.module);
  const { wire, algorithm, numPacks, group } = args;
  const workers = new MpiCommunicator(group);
  const communicator = new HierarchicalCommunicator(inner.communicator, workers, { wire, algorithm });
  const timeoutMs = group.timeoutMs + 60_000;
  const context = workerContext(inner, { communicator, numPacks, wire, algorithm, timeoutMs });
  try {
    return await train(context, args.args);
  } catch (error) {
    throw asWorkerError(error);
  }
}
