/**
 * The replica module that ParameterServerStrategy runs. On a worker it calls the user's module with a context that trains with
 * the servers; on a ps task it serves.
 */

import { MpiCommunicator } from '../mpi/mpi-communicator.js';
import type { MpiGroupHandle } from '../mpi/mpi-group.js';
import type { Context } from '../replica/context.js';
import { loadReplica } from '../replica/replica-module.js';
import { asWorkerError } from '../workers/hierarchical-communicator.js';
import { serverContext } from './parameter-server-context.js';
import { ParameterServer } from './server.js';

/** What the strategy hands to its replicas. */
export interface ParameterServerArguments {
  readonly role: 'worker' | 'ps';
  /** URL of the user's module, and its arguments. */
  readonly module: string;
  readonly args: unknown;
  readonly group: MpiGroupHandle;
  readonly workers: number;
  readonly servers: number;
}

/** What a ps task's replica reports; a worker's reports are the user's. */
export interface ServerLine {
  readonly parameterServer: string;
}

/** Entry point of every replica. */
export default async function run(inner: Context, args: ParameterServerArguments): Promise<unknown> {
  const processes = new MpiCommunicator(args.group);
  try {
    if (args.role === 'ps') {
      const log = (line: string) => inner.report({ parameterServer: line } satisfies ServerLine);
      return new ParameterServer(processes, args.workers, inner.sharedMemory.memory, log).serve();
    }
    const train = await loadReplica(args.module);
    const servers = Array.from({ length: args.servers }, (_, i) => args.workers + i);
    const { context, finish } = serverContext(inner, { processes, servers, workers: args.workers });
    const result = await train(context, args.args);
    finish();
    return result;
  } catch (error) {
    throw asWorkerError(error);
  }
}
