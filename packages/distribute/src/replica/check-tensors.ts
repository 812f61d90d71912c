/** What `allReduce` is given: a list of float32 tensors. */
import * as tf from '@tensorflow/tfjs-core';
import { describe } from '../describe.js';

/** @throws TypeError for anything else, naming the first one that is no float32 tensor. */
export function checkTensors(tensors: readonly tf.Tensor[]): void {
  if (!Array.isArray(tensors)) {
    throw new TypeError(
      `allReduce() takes a list of tensors, got ${describe(tensors)}.\nhelp: const [sum] = context.allReduce('SUM', [tensor])`,
    );
  }
  for (const [i, tensor] of tensors.entries()) {
    if (!(tensor instanceof tf.Tensor)) {
      throw new TypeError(
        `allReduce() takes float32 tensors, got ${describe(tensor)} as number ${i}.\n` +
          'help: context.merge() gathers numbers and plain data; tf.scalar(number) makes a tensor.',
      );
    }
    if (tensor.dtype !== 'float32') throw new TypeError(`allReduce() takes float32 tensors, got ${tensor.dtype}.`);
  }
}
