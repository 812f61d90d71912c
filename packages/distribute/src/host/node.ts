/** The Host that Node is. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { existsSync, readFileSync } from 'node:fs';
// By no name that the banner of a bundle declares as well: `createRequire` is in every esbuild recipe.
import nodeModule from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { parentPort, workerData } from 'node:worker_threads';
import { fitText } from '../progress/progress.js';
import { allowedCpus, bindThread } from './affinity.js';
import type { Host } from './host.js';
import { adviseHugePages } from './huge-pages.js';
import { redirectOutput, writeOutput } from './output.js';
import { startOwnThread, threadFile } from './thread-file.js';

const KERNELS = new URL('../simd/kernels.wasm', import.meta.url);

export const host: Host = {
  allowedCpus,
  bindThread,
  adviseHugePages,
  parallelism: availableParallelism,
  readText(path) {
    try {
      return readFileSync(path, 'utf8').trim();
    } catch {
      return null;
    }
  },
  readKernels() {
    const path = fileURLToPath(KERNELS);
    return existsSync(path) ? readFileSync(path) : null;
  },
  // On a terminal it breaks between words.
  log: (line) => void process.stderr.write(`${fitText(line, process.stderr)}\n`),
  inspect: (value) => inspect(value),
  toBase64: (bytes) => Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength).toString('base64'),
  // A copy: what Buffer hands out need not be aligned.
  fromBase64: (text) => Uint8Array.from(Buffer.from(text, 'base64')),
  scope<T>() {
    const storage = new AsyncLocalStorage<T>();
    return {
      run: <Result>(value: T, body: () => Result) => storage.run(value, body),
      get: () => storage.getStore(),
    };
  },
  canImport(name, from) {
    return [from, process.argv[1], join(process.cwd(), 'program.js')].some((path) => {
      try {
        return path !== undefined && nodeModule.createRequire(path).resolve(name) !== '';
      } catch {
        return false;
      }
    });
  },
  cpuBackend: new URL('../devices/cpu-backend.js', import.meta.url).href,
  importModule: (url) => import(url),
  checkThreads() {},
  startReplica(data, { name, resourceLimits }, { onMessage, onError, onExit }) {
    const worker = startOwnThread(threadFile('../replica/replica-worker.js', import.meta.url), {
      workerData: data,
      name,
      ...(resourceLimits && { resourceLimits: resourceLimits as { stackSizeMb?: number } }),
    });
    worker.on('message', onMessage);
    worker.on('messageerror', onError);
    worker.on('error', onError);
    worker.on('exit', onExit);
    return { terminate: () => void worker.terminate(), unref: () => worker.unref() };
  },
  replicaData: async () => workerData,
  tell: (message) => parentPort?.postMessage(message),
  redirectOutput,
  writeOutput,
};
