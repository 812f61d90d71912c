/**
 * The context of a replica that is one of several processes' replicas: ids and counts are global, shared memory ends at the process.
 * It is made of the parts of the process's own context.
 */

import { evenBounds } from '../cross-device-ops/pack-bounds.js';
import { sayOnce } from '../log.js';
import { Context } from '../replica/context.js';
import { SharedStop } from '../replica/shared-stop.js';
import { CollectiveReducer, type CollectiveReducerOptions } from './collective-reducer.js';

export function workerContext({ parts }: Context, options: Omit<CollectiveReducerOptions, 'memory' | 'say'>): Context {
  const { communicator, numPacks } = options;
  const { rank, size, workers } = communicator;
  let steps = 0;
  const say = sayOnce(communicator);
  return new Context({
    ...parts,
    communicator,
    input: { pipelineId: workers.rank, pipelines: workers.size, replicaId: rank, replicas: size },
    sum(flat) {
      const bounds = evenBounds(flat.length, typeof numPacks === 'number' ? numPacks : 1);
      const packs = bounds.slice(1).map((end, i) => flat.subarray(bounds[i] as number, end));
      for (const work of packs.map((pack) => communicator.allReduceGradients(pack))) work.wait();
    },
    makeReducer: (layout) => new CollectiveReducer(layout, { ...options, memory: parts.local.memory, say }),
    beginStep: () => workers.setStep(++steps),
    stop: new SharedStop(parts.shouldStop, () => {
      const stop = Int32Array.of(parts.shouldStop() ? 1 : 0);
      communicator.allReduce(stop, 'max');
      return stop[0] === 1;
    }),
  });
}
