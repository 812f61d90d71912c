/**
 * One step of a moving average, MovingAverage: waits until somebody reads it, because it must not be what makes a batch norm
 * compute its mean before a ReLU could be fused with it (fusion.ts). A few hundred elements, so a loop.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { isFloat, kernel } from './kernel.js';

/** target[i] ← from[i]·momentum + batch[i]·(1 − momentum); `target` may be `from`. */
export function moveAverage(from: Float32Array, batch: Float32Array, target: Float32Array, momentum: number): void {
  for (let i = 0; i < target.length; i++) {
    const value = from[i] as number;
    target[i] = value - (value - (batch[i] as number)) * (1 - momentum);
  }
}

/** average, batch of one shape → average·momentum + batch·(1 − momentum). */
const movingAverage = kernel<{ average: TensorInfo; batch: TensorInfo }, { momentum: number }>(
  'MovingAverage',
  ({ inputs: { average, batch }, attrs: { momentum }, backend }) => {
    if (!isFloat(average, batch)) return null;
    // The old average is made now: a chain of waiting averages would grow with every step.
    const old = backend.storage(average);
    const mean = backend.unresolved(batch);
    const result = backend.unmade(average.shape);
    const storage = backend.unresolved(result);
    storage.defer([old, mean], () => {
      const [from, values] = [old.view() as Float32Array, mean.view() as Float32Array];
      storage.place(from.length, null);
      const target = storage.view() as Float32Array;
      backend.runtime.host(() => moveAverage(from, values, target, momentum), momentum);
    });
    return result;
  },
);

export const movingAverageKernels = [movingAverage];
