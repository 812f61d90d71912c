/** The thread of one rank, for ranks.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { type Communicator, CommunicatorError } from '../communicator.js';
import { joinSharedMemoryGroup } from '../shared-memory-communicator.js';
import type { RankOutcome } from './communicator.cases.js';
import type { RankData } from './ranks.js';

const { group, rank, scenes, scene, args } = workerData as RankData;
const { runScene } = (await import(scenes)) as {
  runScene(communicator: Communicator, scene: string, args: unknown): unknown;
};

function tell(outcome: RankOutcome): void {
  parentPort?.postMessage(outcome);
}

try {
  const communicator = joinSharedMemoryGroup(group, rank);
  const value = runScene(communicator, scene, args);
  communicator.close();
  tell({ kind: 'value', value });
} catch (thrown) {
  const error = thrown as Error;
  const blamed = error instanceof CommunicatorError ? error.rank : undefined;
  tell({ kind: 'error', name: error.name, message: error.message, ...(blamed !== undefined && { rank: blamed }) });
}
