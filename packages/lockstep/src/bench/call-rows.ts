/**
 * What `lockstep bench kernels` measures of kernels that TensorFlow.js does not have: the call of a user that runs them here,
 * and that TensorFlow.js composes of others, forward and backward. A row's name ends with the kernels that it is about.
 */
import { sparseSoftmaxCrossEntropy } from '@lockstep/official/resnet/fused-ops';
import * as tf from '@tensorflow/tfjs-core';
import { layers, regularizers } from '@tensorflow/tfjs-layers';
import { type KernelRow, numbers, type Prepare } from './kernel-row.js';

type Function = (...inputs: tf.Tensor[]) => tf.Tensor;

/** A function's value and the gradients of its sum with respect to all inputs. */
function withGradients(f: Function, shapes: number[][]): Prepare {
  return () => {
    const inputs = shapes.map((shape) => numbers(shape));
    const gradients = tf.grads((...x: tf.Tensor[]) => tf.sum(f(...x)));
    return () => gradients(inputs);
  };
}

/** The same at a small and a large size. */
function training(name: string, family: string, f: Function, small: number[][], large: number[][]): KernelRow {
  const side = (shapes: number[][]) => ({
    what: shapes.map((shape) => `[${shape}]`).join(' '),
    prepare: withGradients(f, shapes),
  });
  return { name, family, small: side(small), large: side(large) };
}

/** The part of a layer that is used here. */
interface Layer {
  apply(x: tf.Tensor, options?: object): unknown;
}

/** A layer's value, and with `isTraining` the gradients of its weights. */
function layer(make: () => Layer, shape: number[], isTraining: boolean): Prepare {
  return () => {
    const one = make();
    const x = numbers(shape);
    if (!isTraining) return () => one.apply(x);
    const loss = () => tf.sum(one.apply(x, { training: true }) as tf.Tensor) as tf.Scalar;
    // Weights exist from the first call on.
    loss().dispose();
    return () => {
      const { value, grads } = tf.variableGrads(loss);
      return [value, ...Object.values(grads)];
    };
  };
}

function recurrent(kind: 'lstm' | 'gru' | 'simpleRNN', kernel: string): KernelRow[] {
  const make = (units: number) => (): Layer =>
    (layers[kind] as (args: object) => Layer)({ units, recurrentInitializer: 'glorotNormal' });
  const side = (batch: number, steps: number, units: number, isTraining: boolean) => ({
    what: `batch ${batch}, ${steps} steps, ${units} units`,
    prepare: layer(make(units), [batch, steps, units], isTraining),
  });
  const row = (name: string, isTraining: boolean): KernelRow => ({
    name,
    family: 'recurrent',
    small: side(1, 4, 8, isTraining),
    large: side(32, 16, 64, isTraining),
  });
  return [row(`tf.layers.${kind} (${kernel})`, false), row(`tf.layers.${kind}, training (${kernel}Grad)`, true)];
}

/** An optimizer's step of one variable. */
function optimizer(name: string, make: () => tf.Optimizer): KernelRow {
  const side = (size: number) => ({
    what: `${size} weights`,
    prepare: () => {
      const optimizer = make();
      const variable = tf.variable(numbers([size]));
      const gradients = { [variable.name]: numbers([size]) };
      return () => optimizer.applyGradients(gradients);
    },
  });
  return { name, family: 'optimizers', small: side(100), large: side(200_000) };
}

function normalization(name: string, make: () => Layer, small: number[], large: number[]): KernelRow {
  const side = (shape: number[]) => ({ what: `[${shape}]`, prepare: layer(make, shape, true) });
  return { name, family: 'normalization', small: side(small), large: side(large) };
}

/** Softmax cross-entropy of labels; a backend without the kernel composes it. */
function crossEntropy(): KernelRow {
  const side = (examples: number, classes: number) => ({
    what: `[${examples},${classes}]`,
    prepare: () => {
      const logits = numbers([examples, classes]) as tf.Tensor2D;
      const labels = numbers([examples], 'int32', classes) as tf.Tensor1D;
      const gradient = tf.grad((x) => tf.sum(sparseSoftmaxCrossEntropy(x as tf.Tensor2D, labels)));
      return () => gradient(logits);
    },
  });
  return {
    name: 'softmax cross-entropy, training (SparseSoftmaxCrossEntropyWithLogits)',
    family: 'softmax',
    small: side(32, 10),
    large: side(128, 1000),
  };
}

/** A dropout layer's value in training. */
function dropout(): KernelRow {
  const side = (shape: number[]) => ({
    what: `[${shape}]`,
    prepare: () => {
      const one = layers.dropout({ rate: 0.5 }) as Layer;
      const x = numbers(shape);
      return () => one.apply(x, { training: true });
    },
  });
  return {
    name: 'tf.layers.dropout, in training (DropoutMask)',
    family: 'regularizers',
    small: side(channels),
    large: side([4096, 64]),
  };
}

const channels = [32, 10];
const image = [8, 32, 32, 32];

/** In families: {@link ROWS} of kernel-rows.ts puts them beside their own. */
export const CALL_ROWS: readonly KernelRow[] = [
  training(
    'tf.sigmoid, training (SigmoidGrad)',
    'element-wise',
    (x) => tf.sigmoid(x as tf.Tensor),
    [channels],
    [image],
  ),
  training('tf.tanh, training (TanhGrad)', 'element-wise', (x) => tf.tanh(x as tf.Tensor), [channels], [image]),
  training('tf.relu, training (ReluGrad)', 'element-wise', (x) => tf.relu(x as tf.Tensor), [channels], [image]),
  training(
    'tf.relu of tf.add, training (AddRelu)',
    'element-wise',
    (a, b) => tf.relu(tf.add(a as tf.Tensor, b as tf.Tensor)),
    [channels, channels],
    [image, image],
  ),
  training(
    'tf.logSoftmax, training (LogSoftmax)',
    'softmax',
    (x) => tf.logSoftmax(x as tf.Tensor),
    [channels],
    [[256, 1000]],
  ),
  crossEntropy(),
  training(
    'regularizers.l2, training (L2Penalty)',
    'regularizers',
    (x) => regularizers.l2({ l2: 1e-4 }).apply(x as tf.Tensor),
    [channels],
    [[3, 3, 64, 64]],
  ),
  dropout(),
  normalization(
    'tf.layers.batchNormalization, training (FusedBatchNormV3, FusedBatchNormGradV3, MovingAverage)',
    () => layers.batchNormalization() as Layer,
    [1, 4, 4, 8],
    image,
  ),
  normalization(
    'tf.layers.layerNormalization, training (LayerNorm, LayerNormGrad)',
    () => layers.layerNormalization() as Layer,
    channels,
    [256, 512],
  ),
  ...recurrent('lstm', 'LSTMBlockCell'),
  ...recurrent('gru', 'GRUBlockCell'),
  ...recurrent('simpleRNN', 'SimpleRNNBlockCell'),
  optimizer('tf.train.sgd (ResourceApplyGradientDescent)', () => tf.train.sgd(0.1)),
  optimizer('tf.train.momentum (ResourceApplyMomentum)', () => tf.train.momentum(0.1, 0.9)),
  optimizer('tf.train.adam (ResourceApplyAdam)', () => tf.train.adam(0.001)),
  optimizer('tf.train.rmsprop (ResourceApplyRMSProp)', () => tf.train.rmsprop(0.001)),
  optimizer('tf.train.rmsprop, centered (ResourceApplyCenteredRMSProp)', () =>
    tf.train.rmsprop(0.001, 0.9, 0, 1e-7, true),
  ),
  optimizer('tf.train.adagrad (ResourceApplyAdagrad)', () => tf.train.adagrad(0.1)),
];
