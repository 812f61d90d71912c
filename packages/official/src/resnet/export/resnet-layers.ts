/**
 * The official ResNet of a checkpoint as layers that every TensorFlow.js has, from a picture's bytes to probabilities. Layers have the names
 * of the variables that they came from (`conv2d_3`). Three things are not as in training:
 *
 * - The first layers prepare the picture, so that whoever uses the model gives it pixels (0 … 255) and cannot get that wrong.
 * - A batch norm that follows a convolution is part of its kernel and bias: w · γ/√(σ² + ε) and β − μ · γ/√(σ² + ε), which is the same but
 *   for rounding. Version 1 has no other ones; in version 2 those that begin a block and the last one stay, because what they take is
 *   needed without them as well, and a ReLU or the pooling of their output comes next.
 * - A strided convolution pads by its kernel's size alone, as upstream's conv2d_fixed_padding: a ZeroPadding2D of its own.
 */
import type { StoredTensor } from '../../utils/checkpoint/safetensors.js';
import type { Layer, Preprocessing } from '../../utils/export/export.js';
import { BATCH_NORM_EPSILON, type ResNetPlan } from '../resnet-model.js';

/** Weights and moving statistics by upstream's names, of the shapes that the plan has. @throws Error for what is not there */
export type TensorLookup = (name: string, shape: readonly number[]) => Float32Array;

/** Of a CIFAR-10 picture whose pixels are all the same; the deviation is never taken for less (upstream's per_image_standardization). */
const DEVIATION_FLOOR = (size: number) => 1 / Math.sqrt(size);
const LEVELS = 255;

export interface LayersOptions {
  readonly plan: ResNetPlan;
  readonly preprocessing: Preprocessing['inModel'];
  readonly tensors: TensorLookup;
  /** Fold batch norms into convolutions. */
  readonly fold: boolean;
}

/** The layers, in order; the last one's output are the probabilities. */
export function resnetLayers(options: LayersOptions): Layer[] {
  return new Network(options).build();
}

/** A layer's output: its name and how many channels it has. */
interface Output {
  readonly name: string;
  readonly channels: number;
}

class Network {
  readonly #layers: Layer[] = [];
  readonly #counts = new Map<string, number>();

  constructor(private readonly options: LayersOptions) {}

  build(): Layer[] {
    const { plan } = this.options;
    const { imageShape, resnetVersion, blockSizes, blockStrides, numFilters, bottleneck } = plan;
    let x: Output = { name: 'image', channels: imageShape[2] };
    this.#layers.push({
      className: 'InputLayer',
      name: x.name,
      config: { batch_input_shape: [null, ...imageShape], dtype: 'float32', sparse: false },
      inputs: [],
      weights: {},
    });
    x = this.#prepare(x);
    // Version 2's first block begins with a batch norm of this convolution, and takes nothing else of it.
    let isNormed = resnetVersion === 1 || plan.firstPoolSize === 0;
    x = this.#convolve(x, plan.kernelSize, numFilters, plan.convStride, { norm: isNormed, relu: isNormed });
    if (plan.firstPoolSize > 0) {
      const [size, stride] = [plan.firstPoolSize, plan.firstPoolStride];
      const config = {
        pool_size: [size, size],
        strides: [stride, stride],
        padding: 'same',
        data_format: 'channels_last',
      };
      x = this.#add('MaxPooling2D', 'initial_max_pool', config, [x]);
    }
    for (const [layer, count] of blockSizes.entries()) {
      const filters = numFilters * 2 ** layer;
      for (let index = 0; index < count; index++) {
        const stride = index === 0 ? (blockStrides[layer] as number) : 1;
        const steps: Step[] = bottleneck
          ? [
              [1, filters, 1],
              [3, filters, stride],
              [1, 4 * filters, 1],
            ]
          : [
              [3, filters, stride],
              [3, filters, 1],
            ];
        const where = `block_layer${layer + 1}_${index + 1}`;
        const block = { steps, stride, hasProjection: index === 0, where };
        x = resnetVersion === 1 ? this.#blockV1(x, block) : this.#blockV2(x, block, isNormed);
        isNormed = false;
      }
    }
    if (resnetVersion === 2) x = this.#relu(this.#norm(x), 'final_relu');
    x = this.#add('GlobalAveragePooling2D', 'final_reduce_mean', { data_format: 'channels_last' }, [x]);
    x = this.#dense(x, plan.numClasses);
    this.#add('Activation', 'probabilities', { activation: 'softmax' }, [x]);
    return this.#layers;
  }

  /** From pixels to what the network is trained on. */
  #prepare(x: Output): Output {
    const { preprocessing, plan } = this.options;
    if (preprocessing.kind === 'subtract means') {
      const { means } = preprocessing;
      const config = {
        kernel_size: [1, 1],
        strides: [1, 1],
        padding: 'valid',
        data_format: 'channels_last',
        depth_multiplier: 1,
        use_bias: true,
        activation: 'linear',
      };
      return this.#add('DepthwiseConv2D', 'subtract_means', config, [x], {
        depthwise_kernel: vector(
          means.map(() => 1),
          [1, 1, means.length, 1],
        ),
        bias: vector(means.map((mean) => -mean)),
      });
    }
    // Scaled first: the squares of bytes are too large for devices that compute in half precision.
    const scaled = this.#add('Rescaling', 'scale', { scale: 1 / LEVELS, offset: 0 }, [x]);
    const floor = DEVIATION_FLOOR(plan.imageShape.reduce((a, b) => a * b, 1)) / LEVELS;
    const config = { axis: [1, 2, 3], epsilon: floor ** 2, center: false, scale: false };
    return this.#add('LayerNormalization', 'standardize', config, [scaled]);
  }

  /** conv BN ReLU … conv BN, plus the shortcut, then ReLU. */
  #blockV1(x: Output, { steps, stride, hasProjection, where }: Block): Output {
    const output = (steps.at(-1) as Step)[1];
    const shortcut = hasProjection ? this.#convolve(x, 1, output, stride, { norm: true, relu: false }) : x;
    let h = x;
    for (const [index, [kernel, filters, step]] of steps.entries()) {
      h = this.#convolve(h, kernel, filters, step, { norm: true, relu: index < steps.length - 1 });
    }
    return this.#relu(this.#add('Add', `${where}_add`, {}, [h, shortcut]), `${where}_relu`);
  }

  /** BN ReLU conv …, plus the shortcut: the raw input, or the projection of the pre-activated one. */
  #blockV2(x: Output, { steps, stride, hasProjection, where }: Block, isNormed: boolean): Output {
    const output = (steps.at(-1) as Step)[1];
    let h = isNormed ? x : this.#relu(this.#norm(x), `${where}_preact`);
    const shortcut = hasProjection ? this.#convolve(h, 1, output, stride, { norm: false, relu: false }) : x;
    for (const [index, [kernel, filters, step]] of steps.entries()) {
      const isInner = index < steps.length - 1;
      h = this.#convolve(h, kernel, filters, step, { norm: isInner, relu: isInner });
    }
    return this.#add('Add', `${where}_add`, {}, [h, shortcut]);
  }

  #convolve(
    x: Output,
    size: number,
    filters: number,
    stride: number,
    { norm, relu }: { readonly norm: boolean; readonly relu: boolean },
  ): Output {
    const { tensors, fold } = this.options;
    const name = this.#next('conv2d');
    const shape = [size, size, x.channels, filters];
    const kernel = tensors(`${name}/kernel`, shape);
    const isFolded = norm && fold;
    const weights = isFolded
      ? this.#folded(kernel, shape, this.#next('batch_normalization'))
      : { kernel: { shape, values: kernel } };
    const config = {
      filters,
      kernel_size: [size, size],
      strides: [stride, stride],
      padding: stride === 1 ? 'same' : 'valid',
      data_format: 'channels_last',
      dilation_rate: [1, 1],
      activation: relu && isFolded ? 'relu' : 'linear',
      use_bias: isFolded,
    };
    const padded = stride > 1 && size > 1 ? this.#pad(x, size, name) : x;
    const h = { ...this.#add('Conv2D', name, config, [padded], weights), channels: filters };
    if (!norm || isFolded) return h;
    const normed = this.#norm(h);
    return relu ? this.#relu(normed, `${name}_relu`) : normed;
  }

  #folded(kernel: Float32Array, shape: readonly number[], norm: string): Layer['weights'] {
    const channels = shape.at(-1) as number;
    const { gamma, beta, mean, variance } = this.#normTensors(norm, channels);
    const scale = Float64Array.from(
      gamma,
      (value, c) => value / Math.sqrt((variance[c] as number) + BATCH_NORM_EPSILON),
    );
    return {
      kernel: { shape, values: kernel.map((value, i) => value * (scale[i % channels] as number)) },
      bias: vector(Array.from(beta, (value, c) => value - (mean[c] as number) * (scale[c] as number))),
    };
  }

  #pad(x: Output, size: number, name: string): Output {
    const begin = Math.floor((size - 1) / 2);
    const side = [begin, size - 1 - begin];
    const config = { padding: [side, side], data_format: 'channels_last' };
    return this.#add('ZeroPadding2D', `${name}_padding`, config, [x]);
  }

  #norm(x: Output): Output {
    const name = this.#next('batch_normalization');
    const { gamma, beta, mean, variance } = this.#normTensors(name, x.channels);
    const shape = [x.channels];
    const config = { axis: -1, momentum: 0.997, epsilon: BATCH_NORM_EPSILON, center: true, scale: true };
    return this.#add('BatchNormalization', name, config, [x], {
      gamma: { shape, values: gamma },
      beta: { shape, values: beta },
      moving_mean: { shape, values: mean },
      moving_variance: { shape, values: variance },
    });
  }

  #normTensors(name: string, channels: number) {
    const { tensors } = this.options;
    const [gamma, beta, mean, variance] = ['gamma', 'beta', 'moving_mean', 'moving_variance'].map((part) =>
      tensors(`${name}/${part}`, [channels]),
    ) as [Float32Array, Float32Array, Float32Array, Float32Array];
    return { gamma, beta, mean, variance };
  }

  #relu(x: Output, name: string): Output {
    return this.#add('Activation', name, { activation: 'relu' }, [x]);
  }

  #dense(x: Output, units: number): Output {
    const { tensors } = this.options;
    const name = this.#next('dense');
    const shape = [x.channels, units];
    return this.#add('Dense', name, { units, activation: 'linear', use_bias: true }, [x], {
      kernel: { shape, values: tensors(`${name}/kernel`, shape) },
      bias: { shape: [units], values: tensors(`${name}/bias`, [units]) },
    });
  }

  #add(
    className: string,
    name: string,
    config: Layer['config'],
    inputs: readonly Output[],
    weights: Record<string, StoredTensor> = {},
  ): Output {
    this.#layers.push({
      className,
      name,
      config: { trainable: true, ...config },
      inputs: inputs.map((input) => input.name),
      weights,
    });
    return { name, channels: (inputs[0] as Output).channels };
  }

  /** Names in the order in which upstream's graph makes them: conv2d, conv2d_1, …. */
  #next(kind: string): string {
    const count = this.#counts.get(kind) ?? 0;
    this.#counts.set(kind, count + 1);
    return count === 0 ? kind : `${kind}_${count}`;
  }
}

type Step = [kernel: number, filters: number, stride: number];

interface Block {
  readonly steps: readonly Step[];
  readonly stride: number;
  readonly hasProjection: boolean;
  /** For the names of layers without weights. */
  readonly where: string;
}

function vector(values: readonly number[], shape: readonly number[] = [values.length]): StoredTensor {
  return { shape, values: Float32Array.from(values) };
}
