/**
 * This thread's backend with its own type.
 *
 * `tf.backend()` is declared as what all backends have in common, and TensorFlow.js' `MemoryInfo` is a type alias, to which nothing can be
 * added from outside. Declaring more of every backend would be untrue of the others; a function that looks and says so is not.
 */
import { backend, getBackend } from '@tensorflow/tfjs-core';
import { OneDnnBackend } from './backend.js';

/**
 * The backend of this thread, made if nothing has needed it yet: `precision`, `runtime.threads`, and `memory()` with the pool's figures in
 * bytes.
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
