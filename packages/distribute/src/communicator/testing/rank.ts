/** The thread of one rank, for ranks.ts: one scene after another. */
import { parentPort } from 'node:worker_threads';
import { type Communicator, CommunicatorError } from '../communicator.js';
import { joinSharedMemoryGroup } from '../shared-memory-communicator.js';
import type { RankOutcome } from './communicator.cases.js';
import type { RankTask } from './ranks.js';

async function outcomeOf({ group, rank, scenes, scene, args }: RankTask): Promise<RankOutcome> {
  try {
    const { runScene } = (await import(scenes)) as {
      runScene(communicator: Communicator, scene: string, args: unknown): unknown;
    };
    const communicator = joinSharedMemoryGroup(group, rank);
    const value = runScene(communicator, scene, args);
    communicator.close();
    return { kind: 'value', value };
  } catch (thrown) {
    const error = thrown as Error;
    const blamed = error instanceof CommunicatorError ? error.rank : undefined;
    return { kind: 'error', name: error.name, message: error.message, ...(blamed !== undefined && { rank: blamed }) };
  }
}

parentPort?.on('message', async (order: RankTask | { readonly prepare: string }) => {
  if ('prepare' in order) {
    // What fails to load says so when it is to be played.
    await import(order.prepare).catch(() => {});
    parentPort?.postMessage('ready');
  } else parentPort?.postMessage(await outcomeOf(order));
});
