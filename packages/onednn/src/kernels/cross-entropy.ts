/**
 * Softmax cross-entropy of integer labels and its gradient in one pass, under the name of TensorFlow's operation
 * SparseSoftmaxCrossEntropyWithLogits. Logits are few (batch × classes), so this is a loop in f64, not a primitive.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { isFloat, kernel } from './kernel.js';
import { viewOf } from './tools.js';

/** logits [n, c] f32, labels [n] int32 → loss [n], gradient of the loss with respect to the logits [n, c]. */
const sparseSoftmaxCrossEntropy = kernel<{ logits: TensorInfo; labels: TensorInfo }, object>(
  'SparseSoftmaxCrossEntropyWithLogits',
  ({ inputs: { logits, labels }, backend }) => {
    if (!isFloat(logits) || logits.shape.length !== 2) return null;
    const [count, classes] = logits.shape as [number, number];
    const loss = backend.allocate([count]);
    const gradient = backend.allocate([count, classes]);
    const [x, target, losses, dx] = [logits, labels, loss, gradient].map((tensor) => viewOf(backend, tensor)) as [
      Float32Array,
      Int32Array,
      Float32Array,
      Float32Array,
    ];
    // Whoever called frees the outputs if this throws.
    backend.runtime.host(() => crossEntropy(x, target, losses, dx, classes));
    return [loss, gradient];
  },
);

function crossEntropy(x: Float32Array, labels: Int32Array, losses: Float32Array, dx: Float32Array, classes: number) {
  for (let row = 0; row < losses.length; row++) {
    const start = row * classes;
    const label = labels[row] as number;
    if (!(label >= 0 && label < classes)) {
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
}

export const crossEntropyKernels = [sparseSoftmaxCrossEntropy];
