/**
 * What a dropout layer multiplies with: 0 with probability `rate`, else 1 / (1 − rate). A kernel, because a recorded step must
 * draw anew in each replay, which it cannot if the numbers are made by the host outside of kernels, as TensorFlow.js makes them.
 *
 * The generator is Chris Doty-Humphrey's sfc32, seeded from `Math.random` in each run: no two masks are the same.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { type Kernel, kernel } from './kernel.js';
import { viewOf } from './tools.js';

const RANGE = 2 ** 32;
/** Numbers until the seed is spread over the whole state. */
const MIXING = 15;

/** Fills `mask` with 0 or `scale`; a share of about `keep` is `scale`. */
function draw(mask: Float32Array, keep: number, scale: number): void {
  const limit = keep * RANGE;
  let a = (Math.random() * RANGE) | 0;
  let b = (Math.random() * RANGE) | 0;
  let c = (Math.random() * RANGE) | 0;
  let counter = 1;
  for (let i = -MIXING; i < mask.length; i++) {
    const number = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + number) | 0;
    if (i >= 0) mask[i] = number >>> 0 < limit ? scale : 0;
  }
}

/** A mask of `shape`; 0 < rate < 1. */
const dropoutMask = kernel<object, { shape: number[]; rate: number }>(
  'DropoutMask',
  ({ attrs: { shape, rate }, backend }): TensorInfo => {
    const mask = backend.allocate([...shape]);
    const values = viewOf(backend, mask) as Float32Array;
    const keep = 1 - rate;
    // Rounded as TensorFlow.js rounds it.
    const scale = Math.fround(1 / Math.fround(keep));
    if (util.sizeFromShape(shape) > 0) backend.runtime.host(() => draw(values, keep, scale), keep);
    return mask;
  },
);

export const dropoutKernels: readonly Kernel[] = [dropoutMask];
