/**
 * The networks of upstream's Keras variant (official/resnet/keras: resnet_cifar_model.py, resnet_model.py, trivial_model.py) in plain
 * tf.layers: what a user of TensorFlow.js would write, nothing of ours. They differ from the Estimator's: penalties are part of the model,
 * CIFAR-10's convolutions have offsets, ImageNet's batch norm averages over fewer steps, and padding is a layer before the pooling, too.
 */
import {
  initializers,
  type LayersModel,
  layers,
  model as makeModel,
  regularizers,
  type SymbolicTensor,
} from '@tensorflow/tfjs-layers';

export interface KerasModelOptions {
  readonly numClasses: number;
  /** Initial weights are a function of it, so that they are the same on every replica. */
  readonly seed: number;
}

/** What tells the two networks apart. */
interface Style {
  readonly useBias: boolean;
  readonly weightDecay: number;
  readonly momentum: number;
}

const CIFAR10_STYLE: Style = { useBias: true, weightDecay: 2e-4, momentum: 0.997 };
const IMAGENET_STYLE: Style = { useBias: false, weightDecay: 1e-4, momentum: 0.9 };
const EPSILON = 1e-5;

class Builder {
  #seed: number;

  constructor(
    private readonly style: Style,
    seed: number,
  ) {
    this.#seed = seed;
  }

  convolve(
    x: SymbolicTensor,
    filters: number,
    kernelSize: number,
    strides: number,
    padding: 'same' | 'valid' = 'same',
  ) {
    const { useBias } = this.style;
    const config = {
      filters,
      kernelSize,
      strides,
      padding,
      useBias,
      kernelInitializer: this.#heNormal(),
      kernelRegularizer: this.#penalty(),
      ...(useBias && { biasRegularizer: this.#penalty() }),
    };
    return layers.conv2d(config).apply(x) as SymbolicTensor;
  }

  normalize(x: SymbolicTensor): SymbolicTensor {
    return layers.batchNormalization({ momentum: this.style.momentum, epsilon: EPSILON }).apply(x) as SymbolicTensor;
  }

  relu(x: SymbolicTensor): SymbolicTensor {
    return layers.activation({ activation: 'relu' }).apply(x) as SymbolicTensor;
  }

  /** conv BN ReLU … conv BN, plus the shortcut, then ReLU. @param steps kernel, filters and stride of each convolution */
  block(x: SymbolicTensor, steps: readonly (readonly [number, number, number])[], projects: boolean): SymbolicTensor {
    let y = x;
    for (const [index, [kernel, filters, stride]] of steps.entries()) {
      y = this.normalize(this.convolve(y, filters, kernel, stride));
      if (index < steps.length - 1) y = this.relu(y);
    }
    const filters = (steps.at(-1) as readonly [number, number, number])[1];
    const stride = Math.max(...steps.map(([, , one]) => one));
    const shortcut = projects ? this.normalize(this.convolve(x, filters, 1, stride)) : x;
    return this.relu(layers.add().apply([y, shortcut]) as SymbolicTensor);
  }

  head(x: SymbolicTensor, units: number): SymbolicTensor {
    const pooled = layers.globalAveragePooling2d({}).apply(x) as SymbolicTensor;
    return this.dense(pooled, units);
  }

  dense(x: SymbolicTensor, units: number): SymbolicTensor {
    const config = {
      units,
      activation: 'softmax' as const,
      kernelInitializer: this.#heNormal(),
      kernelRegularizer: this.#penalty(),
      biasRegularizer: this.#penalty(),
    };
    return layers.dense(config).apply(x) as SymbolicTensor;
  }

  #heNormal() {
    return initializers.heNormal({ seed: this.#seed++ });
  }

  #penalty() {
    return regularizers.l2({ l2: this.style.weightDecay });
  }
}

const inputOf = (shape: readonly number[]) => layers.input({ shape: [...shape] }) as unknown as SymbolicTensor;

/** A ResNet of size 6n + 2 for CIFAR-10, version 1 without bottlenecks; upstream's is of size 56. */
export function kerasCifar10Model({ numClasses, seed }: KerasModelOptions, size: number): LayersModel {
  const build = new Builder(CIFAR10_STYLE, seed);
  const images = inputOf([32, 32, 3]);
  let x = build.relu(build.normalize(build.convolve(images, 16, 3, 1)));
  for (const [stage, filters] of [16, 32, 64].entries()) {
    for (let block = 0; block < (size - 2) / 6; block++) {
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const steps = [
        [3, filters, stride],
        [3, filters, 1],
      ] as const;
      x = build.block(x, steps, block === 0);
    }
  }
  return makeModel({ inputs: images, outputs: build.head(x, numClasses) });
}

/** ResNet-50 v1.5 for ImageNet. @param imageSize height and width */
export function kerasImagenetModel({ numClasses, seed }: KerasModelOptions, imageSize: number): LayersModel {
  const build = new Builder(IMAGENET_STYLE, seed);
  const images = inputOf([imageSize, imageSize, 3]);
  const pad = (x: SymbolicTensor, size: number) =>
    layers.zeroPadding2d({ padding: [size, size] }).apply(x) as SymbolicTensor;
  let x = build.relu(build.normalize(build.convolve(pad(images, 3), 64, 7, 2, 'valid')));
  x = layers.maxPooling2d({ poolSize: 3, strides: 2 }).apply(pad(x, 1)) as SymbolicTensor;
  for (const [stage, blocks] of [3, 4, 6, 3].entries()) {
    const filters = 64 * 2 ** stage;
    for (let block = 0; block < blocks; block++) {
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const steps = [
        [1, filters, 1],
        [3, filters, stride],
        [1, 4 * filters, 1],
      ] as const;
      x = build.block(x, steps, block === 0);
    }
  }
  return makeModel({ inputs: images, outputs: build.head(x, numClasses) });
}

/** One dense layer: whatever time its steps take is that of the input. */
export function trivialModel({ numClasses, seed }: KerasModelOptions, imageShape: readonly number[]): LayersModel {
  const images = inputOf(imageShape);
  const flat = layers.flatten().apply(images) as SymbolicTensor;
  return makeModel({ inputs: images, outputs: new Builder(IMAGENET_STYLE, seed).dense(flat, numClasses) });
}
