/** Limits on finished mean gradients that are tensors; {@link Clip} of the flat path, for optimizers that apply gradients by themselves. */
import * as tf from '@tensorflow/tfjs-core';
import { readNow } from '../devices/host-access.js';
import type { Clip } from './reducer.js';

/** @returns new tensors: every element within ±value, or all together within a global norm (as tf.clip_by_global_norm). */
export function clipGradients(gradients: readonly tf.Tensor[], clip: Clip): tf.Tensor[] {
  return tf.tidy(() => {
    if ('value' in clip) return gradients.map((gradient) => tf.clipByValue(gradient, -clip.value, clip.value));
    const squares = gradients.map((gradient) => readNow(tf.sum(tf.square(gradient)))[0] as number);
    const norm = Math.sqrt(squares.reduce((sum, square) => sum + square, 0));
    return gradients.map((gradient) => tf.mul(gradient, norm > clip.globalNorm ? clip.globalNorm / norm : 1));
  });
}
