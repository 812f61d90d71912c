/**
 * Makes a backend that cannot be made an error. TensorFlow.js prints a warning with a stack, takes the next backend in the list, here
 * `cpu`, and a program goes on thousands of times slower. Who wants `cpu` says so: `await tf.setBackend('cpu')` before the first
 * tensor, which never asks for this backend at all.
 */
import { engine, type KernelBackend } from '@tensorflow/tfjs-core';

/** What is used of TensorFlow.js' engine beside its public methods. */
interface Initializer {
  initializeBackend(name: string): unknown;
}

/**
 * @param name of a backend of this thread's engine
 * @param create makes it, or throws what `tf.ready()`, `tf.setBackend(name)` and the first operation are to throw
 * @returns the factory to register it with.
 */
export function withoutFallback<Backend extends KernelBackend>(name: string, create: () => Backend): () => Backend {
  const initializer = engine() as unknown as Initializer;
  const initialize = initializer.initializeBackend;
  let made: Backend | null = null;
  initializer.initializeBackend = function (this: Initializer, asked) {
    // Here, because what a factory throws is caught.
    if (asked === name) made = create();
    return initialize.call(this, asked);
  };
  return () => {
    const backend = made ?? create();
    made = null;
    return backend;
  };
}
