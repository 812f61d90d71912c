/**
 * Runs a scene on worker threads as the ranks of a shared-memory group: for the tests of this package.
 *
 * Like a strategy's main thread it aborts the group when a rank throws or exits; it does nothing about a rank that is
 * frozen, that is left to the time-out. Not part of the package's interface.
 */
import { Worker } from 'node:worker_threads';
import { createSharedMemoryGroup, type SharedMemoryGroupHandle } from '../shared-memory-group.js';
import type { RankOutcome } from './communicator.cases.js';

/** What a rank's thread is born with. */
export interface RankData {
  readonly group: SharedMemoryGroupHandle;
  readonly rank: number;
  /** Module with `runScene(communicator, scene, args)`. */
  readonly scenes: string;
  readonly scene: string;
  readonly args: unknown;
}

/**
 * A rank that is frozen is terminated when all others have ended and it had this long to do so too: more than a rank needs that
 * is only kept from the processors by others.
 */
const LINGER_MS = 5000;

/** @param scenes URL of a module that exports `runScene(communicator, scene, args)`. */
export async function runOnThreads(
  scenes: URL,
  size: number,
  scene: string,
  args: unknown,
  { timeoutMs }: { timeoutMs: number },
): Promise<RankOutcome[]> {
  const group = createSharedMemoryGroup(size, { timeoutMs });
  const outcomes: RankOutcome[] = Array.from({ length: size }, () => ({ kind: 'exit' as const }));
  const workers = Array.from({ length: size }, (_, rank) => {
    const workerData: RankData = { group, rank, scenes: scenes.href, scene, args };
    return new Worker(new URL('./rank.js', import.meta.url), { workerData });
  });
  let running = size;
  const ends = workers.map(
    (worker, rank) =>
      new Promise<void>((resolve) => {
        worker.on('message', (outcome: RankOutcome) => {
          outcomes[rank] = outcome;
          if (outcome.kind === 'error' && outcome.name !== 'CommunicatorError') {
            group.abort(`Rank ${rank} failed: ${outcome.message}`, rank);
          }
        });
        worker.on('error', (error) => group.abort(`Rank ${rank} failed: ${error.message}`, rank));
        worker.on('exit', (code) => {
          if (outcomes[rank]?.kind === 'exit') group.abort(`Rank ${rank} ended by process.exit(${code}).`, rank);
          running--;
          if (running === 1) setTimeout(() => workers.map((other) => other.terminate()), LINGER_MS).unref();
          resolve();
        });
      }),
  );
  await Promise.all(ends);
  return outcomes;
}
