/**
 * ResNet v1 and v2 as the Model Garden builds them (official/resnet/resnet_model.py), with plain TensorFlow.js operations over
 * variables: v1 is He et al. 2015 (arXiv:1512.03385; bottlenecks with the stride on the 3×3, called v1.5), v2 is He et al.
 * 2016 (arXiv:1603.05027). Variables have upstream's names and order.
 *
 * Not a tf.LayersModel: the training step wants batch norm, ReLU and residual additions in one piece (fused-ops.ts). Moving
 * statistics live in one flat array, one per replica, because they are averaged over replicas and saved together.
 */
import { hostAccess, traceLayer } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';
import { Philox } from '../utils/random/philox.js';
import { addRelu, batchNormInference, batchNormTraining } from './fused-ops.js';
import type { ResNetPlan } from './resnet-plan.js';

export { cifar10Plan, DEFAULT_VERSION, imagenetPlan, type ResNetPlan } from './resnet-plan.js';

/** Decay of the moving averages unless told otherwise, and epsilon, of every batch norm. */
export const BATCH_NORM_DECAY = 0.997;
export const BATCH_NORM_EPSILON = 1e-5;
/** A batch norm's moving average in the model's flat statistics. */
export interface StatisticSegment {
  readonly name: string;
  readonly offset: number;
  readonly length: number;
}

interface BatchNorm {
  readonly gamma: tf.Variable;
  readonly beta: tf.Variable;
  readonly decay: number;
  readonly mean: Float32Array;
  readonly variance: Float32Array;
  /** Views of the arrays; null where tensors are copies. */
  readonly views: readonly [mean: tf.Tensor1D, variance: tf.Tensor1D] | null;
}

interface Conv {
  readonly kernel: tf.Variable;
  readonly stride: number;
}

interface Block {
  /** v2: the block's pre-activation; v1: after each convolution but the last comes norms[i] with ReLU. */
  readonly norms: readonly BatchNorm[];
  readonly convs: readonly Conv[];
  readonly projection: { readonly conv: Conv; readonly norm: BatchNorm | null } | null;
}

export interface ModelOptions {
  /** Draw initial weights; false leaves kernels zero, for who is about to give them values. Default true. */
  readonly initialize?: boolean;
  /** Decay of batch norm's moving averages. Default 0.997. */
  readonly batchNormDecay?: number;
}

/**
 * The network with its variables, initialized from `seed`.
 * Variables belong to the caller's TensorFlow.js engine and live until {@link dispose}.
 */
export class Model {
  /** Trainable, in the order in which upstream's graph creates them. */
  readonly variables: readonly tf.Variable[];
  /** All moving means and variances; evaluation reads them. */
  readonly statistics: Float32Array;
  readonly statisticSegments: readonly StatisticSegment[];
  readonly #initialConv: Conv;
  readonly #initialNorm: BatchNorm | null;
  readonly #blocks: readonly Block[];
  readonly #finalNorm: BatchNorm | null;
  readonly #dense: { readonly kernel: tf.Variable; readonly bias: tf.Variable };
  readonly #tensors: readonly tf.Tensor[];

  constructor(
    readonly plan: ResNetPlan,
    seed: number,
    { initialize = true, batchNormDecay = BATCH_NORM_DECAY }: ModelOptions = {},
  ) {
    const { resnetVersion, numFilters, blockSizes, blockStrides, bottleneck } = plan;
    if (resnetVersion !== 1 && resnetVersion !== 2) {
      throw new Error('Resnet version should be 1 or 2. See README for citations.');
    }
    const builder = new Builder(seed, initialize, batchNormDecay);
    let channels = plan.imageShape[2];
    const conv = (kernelSize: number, filters: number, stride: number): Conv => {
      const layer = { kernel: builder.kernel([kernelSize, kernelSize, channels, filters]), stride };
      channels = filters;
      return layer;
    };
    this.#initialConv = conv(plan.kernelSize, numFilters, plan.convStride);
    this.#initialNorm = resnetVersion === 1 ? builder.norm(channels) : null;
    const blocks: Block[] = [];
    for (const [layer, count] of blockSizes.entries()) {
      const filters = numFilters * 2 ** layer;
      for (let index = 0; index < count; index++) {
        const stride = index === 0 ? (blockStrides[layer] as number) : 1;
        blocks.push(
          buildBlock(
            builder,
            conv,
            () => channels,
            (value) => {
              channels = value;
            },
            {
              filters,
              stride,
              bottleneck,
              version: resnetVersion,
              hasProjection: index === 0,
            },
          ),
        );
      }
    }
    this.#blocks = blocks;
    this.#finalNorm = resnetVersion === 2 ? builder.norm(channels) : null;
    this.#dense = builder.dense(channels, plan.numClasses);
    const { variables, statistics, segments, tensors } = builder.finish();
    this.variables = variables;
    this.statistics = statistics;
    this.statisticSegments = segments;
    this.#tensors = tensors;
  }

  /**
   * @param images [n, height, width, channels] f32
   * @param training batch statistics are used, and go into the moving ones; otherwise the moving ones are used.
   * @returns logits [n, classes]
   */
  call(images: tf.Tensor4D, training: boolean): tf.Tensor2D {
    const { plan } = this;
    let h = convolve(images, this.#initialConv);
    if (this.#initialNorm) h = normalize(h, this.#initialNorm, true, training);
    if (plan.firstPoolSize) traceLayer('max_pool');
    if (plan.firstPoolSize) h = tf.maxPool(h, plan.firstPoolSize, plan.firstPoolStride, 'same');
    for (const block of this.#blocks) {
      const x = h;
      // What no gradient needs goes with its block, so that the next one has its memory.
      h = tf.tidy(() => (plan.resnetVersion === 1 ? blockV1(x, block, training) : blockV2(x, block, training)));
    }
    if (this.#finalNorm) h = normalize(h, this.#finalNorm, true, training);
    const [n, height, width, channels] = h.shape;
    traceLayer('dense');
    const mean = tf.reshape(tf.avgPool(h, [height, width], 1, 'valid'), [n, channels]) as tf.Tensor2D;
    return tf.add(tf.matMul(mean, this.#dense.kernel as tf.Tensor2D), this.#dense.bias) as tf.Tensor2D;
  }

  /** Frees variables and statistics. */
  dispose(): void {
    for (const variable of this.variables) variable.dispose();
    for (const tensor of this.#tensors) tensor.dispose();
  }
}

interface BlockShape {
  readonly filters: number;
  readonly stride: number;
  readonly bottleneck: boolean;
  readonly version: number;
  readonly hasProjection: boolean;
}

/** Makes a block's layers in upstream's order: v1 projects first; v2 normalizes, then projects. */
function buildBlock(
  builder: Builder,
  conv: (kernelSize: number, filters: number, stride: number) => Conv,
  channels: () => number,
  setChannels: (value: number) => void,
  { filters, stride, bottleneck, version, hasProjection }: BlockShape,
): Block {
  const input = channels();
  const output = bottleneck ? 4 * filters : filters;
  const steps: [kernel: number, filters: number, stride: number][] = bottleneck
    ? [
        [1, filters, 1],
        [3, filters, stride],
        [1, output, 1],
      ]
    : [
        [3, filters, stride],
        [3, filters, 1],
      ];
  const norms: BatchNorm[] = [];
  const convs: Conv[] = [];
  if (version === 2) norms.push(builder.norm(input));
  const projection = hasProjection
    ? { conv: conv(1, output, stride), norm: version === 1 ? builder.norm(output) : null }
    : null;
  setChannels(input);
  for (const [index, step] of steps.entries()) {
    convs.push(conv(...step));
    if (version === 1 || index < steps.length - 1) norms.push(builder.norm(step[1]));
  }
  return { norms, convs, projection };
}

/** conv BN ReLU … conv BN, plus the shortcut, then ReLU. */
function blockV1(x: tf.Tensor4D, { norms, convs, projection }: Block, training: boolean): tf.Tensor4D {
  const shortcut = projection
    ? normalize(convolve(x, projection.conv), projection.norm as BatchNorm, false, training)
    : x;
  let h = x;
  for (const [index, conv] of convs.entries()) {
    h = normalize(convolve(h, conv), norms[index] as BatchNorm, index < convs.length - 1, training);
  }
  traceLayer('shortcut');
  return addRelu(h, shortcut);
}

/** BN ReLU conv …, plus the shortcut: the raw input, or the projection of the pre-activated one. */
function blockV2(x: tf.Tensor4D, { norms, convs, projection }: Block, training: boolean): tf.Tensor4D {
  let h = normalize(x, norms[0] as BatchNorm, true, training);
  const shortcut = projection ? convolve(h, projection.conv) : x;
  for (const [index, conv] of convs.entries()) {
    h = convolve(h, conv);
    if (index < convs.length - 1) h = normalize(h, norms[index + 1] as BatchNorm, true, training);
  }
  traceLayer('shortcut');
  return tf.add(h, shortcut);
}

/** 'resnet_model/conv2d_3/kernel' is of conv2d_3. In a timeline the batch norm that follows is part of it: backends compute both at once. */
function layerOf({ name }: tf.Variable): string {
  return name.split('/').at(-2) ?? name;
}

/** Stride 1 pads SAME; a stride pads by the filter's size alone, whatever the input's (upstream's conv2d_fixed_padding). */
function convolve(x: tf.Tensor4D, { kernel, stride }: Conv): tf.Tensor4D {
  const size = kernel.shape[0] as number;
  traceLayer(layerOf(kernel));
  if (stride === 1) return tf.conv2d(x, kernel as tf.Tensor4D, 1, 'same');
  const begin = Math.floor((size - 1) / 2);
  const pad: [number, number] = [begin, size - 1 - begin];
  return tf.conv2d(x, kernel as tf.Tensor4D, stride, [[0, 0], pad, pad, [0, 0]]);
}

function normalize(x: tf.Tensor4D, norm: BatchNorm, relu: boolean, training: boolean): tf.Tensor4D {
  const options = { epsilon: BATCH_NORM_EPSILON, relu };
  const gamma = norm.gamma as unknown as tf.Tensor1D;
  const beta = norm.beta as unknown as tf.Tensor1D;
  if (!training) {
    return tf.tidy(() => {
      const [mean, variance] = norm.views ?? [tf.tensor1d(norm.mean), tf.tensor1d(norm.variance)];
      return batchNormInference(x, gamma, beta, mean, variance, options);
    });
  }
  const count = x.size / (x.shape[3] as number);
  return batchNormTraining(x, gamma, beta, options, (mean, variance) => {
    // TensorFlow's fused batch norm puts the unbiased variance (Bessel's correction) into the moving average.
    accumulate(norm.mean, mean, norm.decay, 1);
    accumulate(norm.variance, variance, norm.decay, count / Math.max(1, count - 1));
  });
}

function accumulate(average: Float32Array, batch: Float32Array, decay: number, correction: number): void {
  for (let i = 0; i < average.length; i++) {
    const old = average[i] as number;
    average[i] = old - (1 - decay) * (old - correction * (batch[i] as number));
  }
}

/** Names and initializes variables in creation order. */
class Builder {
  readonly #random: Philox;
  readonly #counts = new Map<string, number>();
  readonly #variables: tf.Variable[] = [];
  readonly #tensors: tf.Tensor[] = [];
  readonly #norms: { name: string; channels: number; adopt(mean: Float32Array, variance: Float32Array): void }[] = [];

  constructor(
    seed: number,
    private readonly initialize: boolean,
    private readonly decay: number,
  ) {
    this.#random = new Philox(seed);
  }

  /** Variance scaling, fan-in, truncated normal with TensorFlow's correction of the deviation. */
  kernel(shape: [number, number, number, number]): tf.Variable {
    const deviation = Math.sqrt(1 / (shape[0] * shape[1] * shape[2])) / 0.87962566103423978;
    return this.#variable(`${this.#layer('conv2d')}/kernel`, shape, () => deviation * this.#random.truncatedNormal());
  }

  norm(channels: number): BatchNorm {
    const name = this.#layer('batch_normalization');
    const gamma = this.#variable(`${name}/gamma`, [channels], 1);
    const beta = this.#variable(`${name}/beta`, [channels], 0);
    const { aliases } = hostAccess();
    const tensors = this.#tensors;
    const norm = { gamma, beta, decay: this.decay } as { -readonly [K in keyof BatchNorm]: BatchNorm[K] };
    this.#norms.push({
      name,
      channels,
      adopt(mean, variance) {
        norm.mean = mean;
        norm.variance = variance.fill(1);
        // Training writes to the arrays, evaluation reads the tensors.
        norm.views = aliases ? [tf.keep(tf.tensor1d(mean)), tf.keep(tf.tensor1d(variance))] : null;
        tensors.push(...(norm.views ?? []));
      },
    });
    return norm;
  }

  /** Glorot uniform, as tf.layers.dense defaults to. */
  dense(inputs: number, units: number): { kernel: tf.Variable; bias: tf.Variable } {
    const limit = Math.sqrt(6 / (inputs + units));
    const name = this.#layer('dense');
    const kernel = this.#variable(`${name}/kernel`, [inputs, units], () => limit * (2 * this.#random.uniform() - 1));
    return { kernel, bias: this.#variable(`${name}/bias`, [units], 0) };
  }

  finish() {
    const length = this.#norms.reduce((sum, { channels }) => sum + 2 * channels, 0);
    const statistics = new Float32Array(length);
    const segments: StatisticSegment[] = [];
    let offset = 0;
    const take = (name: string, channels: number): Float32Array => {
      segments.push({ name, offset, length: channels });
      offset += channels;
      return statistics.subarray(offset - channels, offset);
    };
    for (const { name, channels, adopt } of this.#norms) {
      adopt(take(`${name}/moving_mean`, channels), take(`${name}/moving_variance`, channels));
    }
    return { variables: this.#variables, statistics, segments, tensors: this.#tensors };
  }

  #layer(kind: string): string {
    const count = this.#counts.get(kind) ?? 0;
    this.#counts.set(kind, count + 1);
    return `resnet_model/${kind}${count ? `_${count}` : ''}`;
  }

  #variable(name: string, shape: number[], initial: number | (() => number)): tf.Variable {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    if (typeof initial === 'number') values.fill(initial);
    else if (this.initialize) for (let i = 0; i < values.length; i++) values[i] = initial();
    const tensor = tf.tensor(values, shape);
    // TensorFlow.js refuses a second variable of one name in an engine, so a model built anew gets no name of its own there.
    const variable = tf.variable(tensor, true, uniqueName(name));
    tensor.dispose();
    this.#variables.push(variable);
    return variable;
  }
}

/** TensorFlow.js registers variables by name, for ever; a prefix keeps models of one engine apart. */
let models = 0;
function uniqueName(name: string): string {
  if (name === 'resnet_model/conv2d/kernel') models++;
  return models === 1 ? name : `${name}:${models}`;
}

/** A variable's name without what keeps models of one engine apart: upstream's name. */
export function upstreamName(name: string): string {
  return name.replace(/:\d+$/, '');
}
