/**
 * The communication thread's entry. It imports next to nothing before it can say what went wrong: the thread that waits for it
 * sleeps in Atomics.wait, and hears no event of a worker that fails to start.
 */
import { workerData } from 'node:worker_threads';
import { type CommunicationData, type Failure, HAS_ENDED } from './communication-protocol.js';

const data = workerData as CommunicationData;
try {
  const { communicate } = await import('./communicate.js');
  communicate(data);
} catch (error) {
  data.port.postMessage({ slot: -1, text: (error as Error).message } satisfies Failure);
  Atomics.store(data.words, HAS_ENDED, 1);
}
