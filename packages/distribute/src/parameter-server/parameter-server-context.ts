/**
 * The context of a replica whose worker trains with parameter servers: collectives span the worker's own replicas, as
 * upstream's do, and only input is divided among all workers. There is one trainer, and no other way to train.
 */
import { Context } from '../replica/context.js';
import { SharedStop } from '../replica/shared-stop.js';
import { ServerLinks } from './server-links.js';
import { ServerReducer, type ServerReducerOptions } from './server-reducer.js';

export interface ServedWorker {
  readonly context: Context;
  /** After the user's function: nobody leaves before the chief has ended the job. Collective within the worker. */
  finish(): void;
}

export function serverContext(
  { parts }: Context,
  { processes, servers, workers }: Pick<ServerReducerOptions, 'processes' | 'servers'> & { workers: number },
): ServedWorker {
  const { rank, size } = parts.local;
  let reducer: ServerReducer | null = null;
  let steps = 0;
  const context = new Context({
    ...parts,
    isInStep: false,
    input: {
      ...{ pipelineId: processes.rank, pipelines: workers },
      ...{ replicaId: processes.rank * size + rank, replicas: workers * size },
    },
    makeReducer(layout) {
      if (reducer) throw new Error('ParameterServerStrategy has one trainer per run, and this run has it already.');
      const { communicator: local } = parts;
      reducer = new ServerReducer(layout, { local, processes, servers, memory: parts.local.memory });
      return reducer;
    },
    beginStep() {
      steps++;
      if (rank === 0) processes.setStep(steps);
    },
    // True once this worker was asked to stop, or the chief has asked all: the same on all replicas of the worker.
    stop: new SharedStop(() => (reducer?.isStopped ?? false) || parts.shouldStop(), parts.shouldStop),
    noOptimizer:
      'ParameterServerStrategy trains with context.trainer(): the optimizer runs on the parameter servers.\n' +
      'help: context.trainer(variables, { optimizer: … }), or MultiWorkerMirroredStrategy for any other optimizer.',
  });
  const finish = () => {
    if (reducer) reducer.end();
    // Servers wait for the end also where nobody has made a trainer.
    else if (rank === 0) new ServerLinks(processes, servers, []).finish(processes.rank === 0);
  };
  return { context, finish };
}
