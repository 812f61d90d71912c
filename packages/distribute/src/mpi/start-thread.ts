/** Threads of this folder that work beside a process's own. */
import { type Transferable, Worker } from 'node:worker_threads';
import { threadFile } from '../host/thread-file.js';

/** One that does not keep the process alive. @param file 'watchdog' */
export function startThread(
  file: string,
  name: string,
  workerData: unknown,
  transferList: Transferable[] = [],
): Worker {
  const thread = new Worker(threadFile(`${file}.js`, import.meta.url), {
    workerData,
    transferList,
    name,
    // Flags such as --input-type or --test belong to the program, not to this thread.
    execArgv: [],
  });
  thread.unref();
  return thread;
}
