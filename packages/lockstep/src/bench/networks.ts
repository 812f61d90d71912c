/**
 * Six networks that people train, as a user of TensorFlow.js writes them: nothing in them is ours, but for the optimizer that each is
 * given, which the replica's context may have made distributed. `lockstep bench models` trains them beside PyTorch's
 * (peers/pytorch_models.py has the same), `bench busy` trains small ones beside busy programs.
 *
 * Made-up data are numbers that both sides know, so that they have the same losses from the same weights.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type LayersModel, layers, model as makeModel, type SymbolicTensor } from '@tensorflow/tfjs-layers';
import type { MakeOptimizer, Network } from './network.js';
import { transformer } from './transformer.js';

type Build = (distribute: MakeOptimizer) => Network;

const LEARNING_RATE = 1e-3;

/** Numbers in 0..1. */
export function pattern(shape: readonly number[]): tf.Tensor {
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => ((i * 7919) % 1009) / 1009);
  return tf.tensor(values, [...shape]);
}

/** Label i is i modulo 10. */
const classes = (batch: number) =>
  tf.tensor1d(
    Array.from({ length: batch }, (_, i) => i % 10),
    'float32',
  );

type Layer = { apply(x: SymbolicTensor | SymbolicTensor[]): unknown };
const apply = (x: SymbolicTensor | SymbolicTensor[], layer: Layer) => layer.apply(x) as SymbolicTensor;
const chain = (x: SymbolicTensor, ...all: Layer[]) => all.reduce<SymbolicTensor>(apply, x);
const input = (...shape: number[]) => layers.input({ shape }) as unknown as SymbolicTensor;
const dense = (units: number, activation: 'relu' | 'softmax') => layers.dense({ units, activation });
const convolution = (filters: number) =>
  layers.conv2d({ filters, kernelSize: 3, padding: 'same', activation: 'relu', kernelInitializer: 'heNormal' });

/** Compiled with Adam, and trained batch by batch: what `model.fit` does without its bookkeeping. */
function fitted(
  [inputs, outputs]: [SymbolicTensor, SymbolicTensor],
  loss: 'sparseCategoricalCrossentropy' | 'binaryCrossentropy',
  [x, y]: [tf.Tensor, tf.Tensor],
  distribute: MakeOptimizer,
): Network {
  const model: LayersModel = makeModel({ inputs, outputs });
  model.compile({ optimizer: distribute(tf.train.adam(LEARNING_RATE)), loss });
  return {
    batch: x.shape[0] as number,
    weights: () => model.trainableWeights.map((weight) => weight.read().dataSync() as Float32Array),
    step: async () => (await model.trainOnBatch(x, y)) as number,
  };
}

/** Dense layers, ReLU between them, of 784 numbers. @param hidden units @param batch examples */
export function mlp(distribute: MakeOptimizer, hidden: readonly number[] = [512, 256], batch = 128): Network {
  const x = input(784);
  const y = chain(x, ...hidden.map((units) => dense(units, 'relu')), dense(10, 'softmax'));
  return fitted([x, y], 'sparseCategoricalCrossentropy', [pattern([batch, 784]), classes(batch)], distribute);
}

/** Three blocks of two convolutions and pooling, of 32 × 32 pixels. */
function cnn(distribute: MakeOptimizer): Network {
  const x = input(32, 32, 3);
  const block = (filters: number) => [
    convolution(filters),
    convolution(filters),
    layers.maxPooling2d({ poolSize: 2, strides: 2 }),
  ];
  const y = chain(x, ...[32, 64, 128].flatMap(block), layers.flatten(), dense(128, 'relu'), dense(10, 'softmax'));
  return fitted([x, y], 'sparseCategoricalCrossentropy', [pattern([64, 32, 32, 3]), classes(64)], distribute);
}

/** One layer of 128 units over 32 steps of 64 features. */
function lstm(distribute: MakeOptimizer): Network {
  const x = input(32, 64);
  const recurrent = layers.lstm({
    units: 128,
    // TensorFlow.js' default is an approximation of it, which PyTorch has not.
    recurrentActivation: 'sigmoid',
    recurrentInitializer: 'glorotUniform',
  });
  const y = chain(x, recurrent, dense(10, 'softmax'));
  return fitted([x, y], 'sparseCategoricalCrossentropy', [pattern([64, 32, 64]), classes(64)], distribute);
}

/**
 * Depthwise separable convolutions with batch norm, as in MobileNet (Howard et al. 2017), to 512 channels. Of 97 × 97 pixels: where the
 * stride is 2, an odd size is padded alike by both sides.
 */
function mobilenet(distribute: MakeOptimizer): Network {
  const x = input(97, 97, 3);
  const common = { padding: 'same', useBias: false } as const;
  const normalized = (layer: Layer) => [
    layer,
    layers.batchNormalization({ axis: -1, epsilon: 1e-3 }),
    layers.activation({ activation: 'relu' }),
  ];
  const separable = ([filters, strides]: readonly [number, number]) => [
    ...normalized(
      layers.depthwiseConv2d({ kernelSize: 3, strides, depthwiseInitializer: 'heNormal', ...common } as never),
    ),
    ...normalized(layers.conv2d({ filters, kernelSize: 1, kernelInitializer: 'heNormal', ...common })),
  ];
  const stem = layers.conv2d({ filters: 32, kernelSize: 3, strides: 2, kernelInitializer: 'heNormal', ...common });
  const y = chain(
    x,
    ...normalized(stem),
    ...MOBILENET.flatMap(separable),
    layers.globalAveragePooling2d({}),
    dense(10, 'softmax'),
  );
  return fitted([x, y], 'sparseCategoricalCrossentropy', [pattern([16, 97, 97, 3]), classes(16)], distribute);
}

/** Channels and stride of each. */
const MOBILENET = [
  [64, 1],
  [128, 2],
  [128, 1],
  [256, 2],
  [256, 1],
  [512, 2],
  [512, 1],
] as const;

/** U-Net (Ronneberger et al. 2015) of three levels, 16 to 64 channels, on 64 × 64 pixels: each is in a mask or not. */
function unet(distribute: MakeOptimizer): Network {
  const x = input(64, 64, 3);
  const pool = (value: SymbolicTensor) => apply(value, layers.maxPooling2d({ poolSize: 2, strides: 2 }));
  const twice = (value: SymbolicTensor, filters: number) => chain(value, convolution(filters), convolution(filters));
  const up = (value: SymbolicTensor, beside: SymbolicTensor, filters: number) => {
    const larger = apply(value, layers.conv2dTranspose({ filters, kernelSize: 2, strides: 2 }));
    return twice(apply([beside, larger], layers.concatenate({})), filters);
  };
  const first = twice(x, 16);
  const second = twice(pool(first), 32);
  const bottom = twice(pool(second), 64);
  const last = up(up(bottom, second, 32), first, 16);
  const y = apply(last, layers.conv2d({ filters: 1, kernelSize: 1, activation: 'sigmoid' }));
  const masks = Float32Array.from({ length: 8 * 64 * 64 }, (_, i) => (i % 3 === 0 ? 1 : 0));
  return fitted([x, y], 'binaryCrossentropy', [pattern([8, 64, 64, 3]), tf.tensor(masks, [8, 64, 64, 1])], distribute);
}

/** By name. */
export const NETWORKS = {
  mlp: (distribute) => mlp(distribute),
  cnn,
  lstm,
  transformer: (distribute) =>
    transformer(distribute, { vocabulary: 256, length: 64, width: 128, heads: 4, inner: 512, blocks: 2, batch: 16 }),
  mobilenet,
  unet,
} as const satisfies Readonly<Record<string, Build>>;

export type NetworkName = keyof typeof NETWORKS;
