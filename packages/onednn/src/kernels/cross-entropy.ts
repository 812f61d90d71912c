/**
 * Softmax cross-entropy of integer labels and its gradient in one pass, under the name of TensorFlow's operation
 * SparseSoftmaxCrossEntropyWithLogits. Logits are few (batch × classes), so this is a loop in f64, not a primitive.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { isFloat, kernel } from './kernel.js';

/** logits [n, c] f32, labels [n] int32 → loss [n], gradient of the loss with respect to the logits [n, c]. */
const sparseSoftmaxCrossEntropy = kernel<{ logits: TensorInfo; labels: TensorInfo }, object>(
  'SparseSoftmaxCrossEntropyWithLogits',
  ({ inputs: { logits, labels }, backend }) => {
    if (!isFloat(logits) || logits.shape.length !== 2) return null;
    const [count, classes] = logits.shape as [number, number];
    const loss = backend.allocate([count]);
    const gradient = backend.allocate([count, classes]);
    const x = backend.storage(logits).peek() as Float32Array;
    const target = backend.storage(labels).peek() as Int32Array;
    const losses = backend.storage(loss).peek() as Float32Array;
    const dx = backend.storage(gradient).peek() as Float32Array;
    for (let row = 0; row < count; row++) {
      const start = row * classes;
      const label = target[row] as number;
      if (!(label >= 0 && label < classes)) {
        backend.disposeData(loss.dataId);
        backend.disposeData(gradient.dataId);
        throw new RangeError(
          `SparseSoftmaxCrossEntropyWithLogits: label ${label} of example ${row} is not in 0..${classes - 1}.`,
        );
      }
      let maximum = Number.NEGATIVE_INFINITY;
      for (let c = 0; c < classes; c++) maximum = Math.max(maximum, x[start + c] as number);
      let sum = 0;
      for (let c = 0; c < classes; c++) sum += Math.exp((x[start + c] as number) - maximum);
      for (let c = 0; c < classes; c++) dx[start + c] = Math.exp((x[start + c] as number) - maximum) / sum;
      losses[row] = Math.log(sum) + maximum - (x[start + label] as number);
      dx[start + label] = (dx[start + label] as number) - 1;
    }
    return [loss, gradient];
  },
);

export const crossEntropyKernels = [sparseSoftmaxCrossEntropy];
