/**
 * The official CIFAR-10 ResNet (version 1) as a user of TensorFlow.js writes it: plain `tf.layers`, nothing of ours. What
 * `lockstep bench layers` trains beside the official one.
 */
import * as tf from '@tensorflow/tfjs-core';
import {
  type LayersModel,
  layers,
  model as makeModel,
  regularizers,
  type SymbolicTensor,
} from '@tensorflow/tfjs-layers';

/** The L2 penalty whose gradient is the official network's weight decay. */
const WEIGHT_DECAY = 2e-4;

/**
 * A compiled model: momentum 0.9, softmax cross-entropy of integer labels.
 * @param resnetSize 6n + 2
 */
export function layersResNet(resnetSize: number, learningRate = 0.01): LayersModel {
  const blocks = (resnetSize - 2) / 6;
  const penalty = () => regularizers.l2({ l2: WEIGHT_DECAY / 2 });
  const convolve = (x: SymbolicTensor, filters: number, kernelSize: number, strides: number) =>
    layers
      .conv2d({
        filters,
        kernelSize,
        strides,
        padding: 'same',
        useBias: false,
        kernelInitializer: 'varianceScaling',
        kernelRegularizer: penalty(),
      })
      .apply(x) as SymbolicTensor;
  const normalize = (x: SymbolicTensor) =>
    layers.batchNormalization({ momentum: 0.997, epsilon: 1e-5 }).apply(x) as SymbolicTensor;
  const relu = (x: SymbolicTensor) => layers.activation({ activation: 'relu' }).apply(x) as SymbolicTensor;

  const images = layers.input({ shape: [32, 32, 3] }) as unknown as SymbolicTensor;
  let x = relu(normalize(convolve(images, 16, 3, 1)));
  for (const [stage, filters] of [16, 32, 64].entries()) {
    for (let block = 0; block < blocks; block++) {
      const strides = stage > 0 && block === 0 ? 2 : 1;
      const shortcut = block === 0 ? normalize(convolve(x, filters, 1, strides)) : x;
      let y = relu(normalize(convolve(x, filters, 3, strides)));
      y = normalize(convolve(y, filters, 3, 1));
      x = relu(layers.add().apply([y, shortcut]) as SymbolicTensor);
    }
  }
  const pooled = layers.globalAveragePooling2d({}).apply(x);
  const output = layers.dense({ units: 10, activation: 'softmax' }).apply(pooled) as SymbolicTensor;
  const network = makeModel({ inputs: images, outputs: output });
  network.compile({ optimizer: tf.train.momentum(learningRate, 0.9), loss: 'sparseCategoricalCrossentropy' });
  return network;
}
