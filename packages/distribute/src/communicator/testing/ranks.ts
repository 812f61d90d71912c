/**
 * Runs a scene on worker threads as the ranks of a shared-memory group: for the tests of this package.
 *
 * Like a strategy's main thread it aborts the group when a rank throws or exits; it does nothing about a rank that is
 * frozen, that is left to the time-out. Threads whose scene came to a value play the next one, too: a start takes longer than most
 * scenes. Not part of the package's interface.
 */
import { Worker } from 'node:worker_threads';
import { createSharedMemoryGroup, type SharedMemoryGroupHandle } from '../shared-memory-group.js';
import type { RankOutcome } from './communicator.cases.js';

/** What a rank's thread is to do. */
export interface RankTask {
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

/** Threads that are between two scenes. They do not keep the process. */
const idle: Worker[] = [];

function aThread(): Worker {
  const worker = idle.pop() ?? new Worker(new URL('./rank.js', import.meta.url));
  worker.ref();
  return worker;
}

function prepared(worker: Worker, scenes: URL): Promise<void> {
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('message', () => {
      worker.removeListener('error', reject);
      resolve();
    });
    worker.postMessage({ prepare: scenes.href });
  });
}

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
  const workers = Array.from({ length: size }, aThread);
  // The ranks' time-out runs from the first one that joins, so all have loaded by then.
  await Promise.all(workers.map((worker) => prepared(worker, scenes)));
  let running = size;
  let linger: NodeJS.Timeout | undefined;
  const ends = workers.map(
    (worker, rank) =>
      new Promise<void>((resolve) => {
        const end = () => {
          running--;
          if (running === 1) linger = setTimeout(() => workers.map((other) => other.terminate()), LINGER_MS);
          resolve();
        };
        worker.once('message', (outcome: RankOutcome) => {
          outcomes[rank] = outcome;
          if (outcome.kind === 'error' && outcome.name !== 'CommunicatorError') {
            group.abort(`Rank ${rank} failed: ${outcome.message}`, rank);
          }
          if (outcome.kind === 'value') end();
          else void worker.terminate();
        });
        worker.once('error', (error) => group.abort(`Rank ${rank} failed: ${error.message}`, rank));
        worker.once('exit', (code) => {
          if (outcomes[rank]?.kind === 'exit') group.abort(`Rank ${rank} ended by process.exit(${code}).`, rank);
          end();
        });
        worker.postMessage({ group, rank, scenes: scenes.href, scene, args } satisfies RankTask);
      }),
  );
  await Promise.all(ends);
  clearTimeout(linger);
  const isWhole = outcomes.every(({ kind }) => kind === 'value');
  for (const worker of workers) {
    for (const event of ['message', 'error', 'exit']) worker.removeAllListeners(event);
    if (isWhole) {
      worker.unref();
      idle.push(worker);
    } else void worker.terminate();
  }
  return outcomes;
}
