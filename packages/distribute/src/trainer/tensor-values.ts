/** Values of tensors, read without allocating and again in every replay, where the backend knows how. */
import * as tf from '@tensorflow/tfjs-core';

/** What a backend may offer to that end. */
interface ReadingBackend {
  readInto?(dataId: object, target: Float32Array): boolean;
  observe?(tensors: readonly tf.Tensor[], observer: (...values: never[]) => void): void;
}

/** Copies a float32 tensor's values; also when the step that is running is replayed, if the backend replays steps. */
export function copyValues(tensor: tf.Tensor, target: Float32Array): void {
  const backend = tf.backend() as ReadingBackend;
  if (backend.readInto?.(tensor.dataId, target)) return;
  target.set(tensor.dataSync() as Float32Array);
}

/**
 * Calls `observer` with the values of `tensors`, now and whenever a backend replays the step that is running. The values are
 * valid during the call only.
 */
export function observe(tensors: readonly tf.Tensor[], observer: (...values: never[]) => void): void {
  const backend = tf.backend() as ReadingBackend;
  if (backend.observe) backend.observe(tensors, observer);
  else observer(...(tensors.map((tensor) => tensor.dataSync()) as never[]));
}
