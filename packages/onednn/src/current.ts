/**
 * This thread's backend with its own type: what `tf.backend()` and `tf.memory()` give once this package is imported, and `onednn()`, which
 * makes sure of it.
 *
 * The two are overloads, which a compiler tries before TensorFlow.js' own: other backends' classes stay what they are. A program that sets
 * another backend has that one, whatever the types say.
 */
import { backend, getBackend, type MemoryInfo } from '@tensorflow/tfjs-core';
import { OneDnnBackend } from './backend.js';
import type { PoolStatistics } from './memory/pool.js';

declare module '@tensorflow/tfjs-core/dist/globals.js' {
  /** The backend 'onednn', unless another one was set. */
  export function backend(): OneDnnBackend;
  /** With the pool's figures if 'onednn' is the backend. */
  export function memory(): MemoryInfo & Partial<PoolStatistics>;
}

/**
 * The backend of this thread, made if nothing has needed it yet: `precision`, `runtime.threads`, and `memory()` with the pool's figures in
 * bytes. For code that may meet other backends.
 *
 * @throws Error if another backend is set, OneDnnNotFoundError if oneDNN is not installed.
 * @example
 * ```ts
 * onednn().precision = 'bf16';
 * console.log(onednn().memory().peakBytes);
 * ```
 */
export function onednn(): OneDnnBackend {
  const current: unknown = backend();
  if (current instanceof OneDnnBackend) return current;
  throw new Error(
    `The backend of TensorFlow.js is '${getBackend()}' in this thread, not 'onednn'.\n` +
      "help: await tf.setBackend('onednn') before, or look at tf.getBackend() where several backends are possible.",
  );
}
