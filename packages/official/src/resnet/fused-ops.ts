/**
 * The operations of a residual network that a backend may have in one piece: batch normalization with ReLU, addition with
 * ReLU, softmax cross-entropy, each with its gradient. They are looked up by TensorFlow's own operation names
 * (FusedBatchNormV3, …), so this file knows no backend; where a backend lacks one, it is composed of TensorFlow.js operations
 * and TensorFlow.js finds the gradient.
 */
import { observe } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';

/** Whether the current backend has a kernel of this name. */
function has(name: string): boolean {
  return Boolean(tf.getKernel(name, tf.getBackend()));
}

function run(name: string, inputs: Record<string, tf.Tensor>, attrs: Record<string, unknown> = {}): tf.Tensor[] {
  const result = tf.engine().runKernel(name, inputs, attrs as tf.NamedAttrMap) as tf.Tensor | tf.Tensor[];
  return Array.isArray(result) ? result : [result];
}

/** Receives a batch's mean and biased variance, one number for each channel; valid during the call only. */
export type StatisticsListener = (mean: Float32Array, variance: Float32Array) => void;

export interface BatchNormOptions {
  readonly epsilon: number;
  readonly relu: boolean;
}

/**
 * Normalizes x over all axes but the last with the batch's own statistics, then scales and shifts, then applies ReLU if asked.
 * @param x [n, h, w, c] @param scale [c] @param offset [c]
 * @returns the same shape as x.
 */
export function batchNormTraining(
  x: tf.Tensor4D,
  scale: tf.Tensor1D,
  offset: tf.Tensor1D,
  { epsilon, relu }: BatchNormOptions,
  listen: StatisticsListener,
): tf.Tensor4D {
  if (!has('FusedBatchNormV3')) {
    const { mean, variance } = tf.moments(x, [0, 1, 2]);
    observe([mean, variance], listen);
    const y = tf.batchNorm4d(x, mean as tf.Tensor1D, variance as tf.Tensor1D, offset, scale, epsilon);
    return relu ? tf.relu(y) : y;
  }
  const attrs = { epsilon, activation: relu ? 'relu' : 'linear' };
  return tf.customGrad((a, b, c, save) => {
    const [input, gamma, beta] = [a, b, c] as tf.Tensor[];
    const [y, mean, variance] = run(
      'FusedBatchNormV3',
      {
        x: input as tf.Tensor,
        scale: gamma as tf.Tensor,
        offset: beta as tf.Tensor,
      },
      attrs,
    ) as [tf.Tensor, tf.Tensor, tf.Tensor];
    observe([mean, variance], listen);
    // The gradient looks at y for what ReLU let through, and at nothing of it without one: then the memory is not held for it.
    (save as tf.GradSaveFunc)([input, gamma, relu ? y : input, mean, variance] as tf.Tensor[]);
    return {
      value: y,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [sx, sScale, sMask, sMean, sVariance] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
        return run(
          'FusedBatchNormGradV3',
          { dy, x: sx, scale: sScale, y: sMask, mean: sMean, variance: sVariance },
          attrs,
        );
      },
    };
  })(x, scale, offset) as tf.Tensor4D;
}

/** Normalizes x [n, h, w, c] with given statistics, each [c]. */
export function batchNormInference(
  x: tf.Tensor4D,
  scale: tf.Tensor1D,
  offset: tf.Tensor1D,
  mean: tf.Tensor1D,
  variance: tf.Tensor1D,
  { epsilon, relu }: BatchNormOptions,
): tf.Tensor4D {
  const y = tf.batchNorm4d(x, mean, variance, offset, scale, epsilon);
  return relu ? tf.relu(y) : y;
}

/** max(a + b, 0) of two tensors of one shape. */
export function addRelu<T extends tf.Tensor>(a: T, b: T): T {
  if (!has('AddRelu') || !has('ReluGrad')) return tf.relu(tf.add(a, b)) as T;
  return tf.customGrad((left, right, save) => {
    const [y] = run('AddRelu', { a: left as tf.Tensor, b: right as tf.Tensor }) as [tf.Tensor];
    (save as tf.GradSaveFunc)([y]);
    return {
      value: y,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => {
        const [gradient] = run('ReluGrad', { dy, y: saved[0] as tf.Tensor }) as [tf.Tensor];
        // Two tensors over the same data: whoever sums gradients disposes each on its own.
        return [gradient, gradient.clone()];
      },
    };
  })(a, b) as T;
}

/**
 * Softmax cross-entropy of each example with smoothed labels: the label has probability 1 − s + s/classes, every other class s/classes,
 * so (1 − s) times the plain one and s times its mean over all classes.
 * @param logits [n, classes] f32 @param labels [n] int32, each in 0..classes−1 @param smoothing s, 0..1
 * @returns [n] f32
 */
export function smoothedCrossEntropy(logits: tf.Tensor2D, labels: tf.Tensor1D, smoothing: number): tf.Tensor1D {
  const plain = sparseSoftmaxCrossEntropy(logits, labels);
  if (smoothing === 0) return plain;
  const spread = tf.sub(tf.logSumExp(logits, 1), tf.mean(logits, 1));
  return tf.add(tf.mul(plain, 1 - smoothing), tf.mul(spread, smoothing)) as tf.Tensor1D;
}

/**
 * Softmax cross-entropy of each example.
 * @param logits [n, classes] f32 @param labels [n] int32, each in 0..classes−1
 * @returns [n] f32
 */
export function sparseSoftmaxCrossEntropy(logits: tf.Tensor2D, labels: tf.Tensor1D): tf.Tensor1D {
  if (!has('SparseSoftmaxCrossEntropyWithLogits')) {
    const oneHot = tf.oneHot(labels, logits.shape[1]);
    return tf.neg(tf.sum(tf.mul(oneHot, tf.logSoftmax(logits)), 1)) as tf.Tensor1D;
  }
  return tf.customGrad((x, save) => {
    const [loss, gradient] = run('SparseSoftmaxCrossEntropyWithLogits', { logits: x as tf.Tensor, labels }) as [
      tf.Tensor,
      tf.Tensor,
    ];
    (save as tf.GradSaveFunc)([gradient]);
    return {
      value: loss,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.mul(saved[0] as tf.Tensor, tf.expandDims(dy, 1)),
    };
  })(logits) as tf.Tensor1D;
}
