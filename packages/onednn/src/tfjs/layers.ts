/**
 * Layers stay layers: a user's `tf.layers.batchNormalization` trains through one fused primitive each way, without being
 * rewritten, and a global average is a pooling. TensorFlow.js' own composes batch norm of moments, arithmetic and about twenty
 * gradient kernels; it still does on other backends and for other axes.
 */
import {
  add,
  avgPool,
  backend as currentBackend,
  engine,
  getBackend,
  getKernel,
  moments,
  mul,
  ones,
  reshape,
  rsqrt,
  sub,
  type Tensor,
  type Tensor4D,
  tidy,
  type Variable,
  zeros,
} from '@tensorflow/tfjs-core';
import { layers, regularizers } from '@tensorflow/tfjs-layers';
import type { OneDnnBackend } from '../backend.js';
import { LARGEST } from '../kernels/l2-penalty.js';
import { moveAverage } from '../kernels/moving-average.js';
import { makeExclusive } from './optimizers.js';

/** What of the layer this file uses. */
interface LayerState {
  readonly axis: number;
  readonly epsilon: number;
  readonly momentum: number;
  readonly gamma?: { read(): Tensor } | null;
  readonly beta?: { read(): Tensor } | null;
  readonly movingMean: { read(): Tensor; write(value: Tensor): void };
  readonly movingVariance: { read(): Tensor; write(value: Tensor): void };
}

interface LayerNormState {
  readonly axis: number | number[];
  readonly epsilon: number;
  readonly gamma?: { read(): Tensor } | null;
  readonly beta?: { read(): Tensor } | null;
}

type Call<State> = (this: State, inputs: Tensor | Tensor[], options: { training?: boolean }) => Tensor | Tensor[];

const PATCHED = Symbol.for('lockstep.onednn.layers');

/** Gives the layer classes their fast paths, once per thread. */
export function patchLayers(): void {
  patchRegularizers();
  patch<LayerState>(
    layers.batchNormalization(),
    (original) =>
      function (inputs, options) {
        const x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor;
        const isLastAxis = this.axis === -1 || this.axis === x.rank - 1;
        const fits = options?.training && isLastAxis && x.rank >= 2 && x.dtype === 'float32';
        if (!fits || !getKernel('FusedBatchNormV3', getBackend())) return original.call(this, inputs, options);
        return train(this, x);
      },
  );
  patch<LayerNormState>(
    layers.layerNormalization(),
    (original) =>
      function (inputs, options) {
        const x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor;
        const axes = [this.axis].flat();
        const isLastAxis = axes.length === 1 && axes[0] === x.rank - 1;
        const fits = isLastAxis && x.rank >= 2 && x.size > 0 && x.dtype === 'float32';
        if (!fits || isNested() || !getKernel('LayerNorm', getBackend())) return original.call(this, inputs, options);
        return tidy(() => {
          const named = { x, ...scaleAndOffset(this, x) };
          const [y] = engine().runKernel('LayerNorm', named, { epsilon: this.epsilon }) as unknown as [Tensor];
          return y;
        });
      },
  );
  // The mean over all pixels is a pooling, which keeps the layout of its input; so does its gradient.
  patch<{ readonly dataFormat: string }>(
    layers.globalAveragePooling2d({}),
    (original) =>
      function (inputs, options) {
        const x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor4D;
        const [n, height, width, channels] = x.shape;
        const fits = this.dataFormat === 'channelsLast' && x.rank === 4 && x.dtype === 'float32' && x.size > 0;
        const hasKernels = getKernel('FusedBatchNormV3', getBackend()) !== undefined;
        if (!fits || isNested() || !hasKernels) return original.call(this, inputs, options);
        return tidy(() => reshape(avgPool(x, [height, width], 1, 'valid'), [n, channels]));
      },
  );
}

/**
 * Whether a gradient is asked for within another, as by a penalty on a gradient's length. The kernels that compute gradients have
 * none of their own, so layers are composed then, as TensorFlow.js' are.
 */
export function isNested(): boolean {
  return engine().state.gradientDepth > 1;
}

interface PenaltyState {
  readonly hasL1: boolean;
  readonly hasL2: boolean;
  readonly l2: number;
}

/** An L2 penalty of a small weight is one kernel. */
function patchRegularizers(): void {
  type Apply = (this: PenaltyState, x: Tensor) => Tensor;
  const prototype = Object.getPrototypeOf(regularizers.l2()) as { apply: Apply } & Record<symbol, boolean>;
  if (prototype[PATCHED]) return;
  Object.defineProperty(prototype, PATCHED, { value: true });
  const original = prototype.apply;
  prototype.apply = function (x) {
    const fits = this.hasL2 && !this.hasL1 && x.dtype === 'float32' && x.size > 0 && x.size <= LARGEST;
    if (!fits || !getKernel('L2Penalty', getBackend())) return original.call(this, x);
    return engine().runKernel('L2Penalty', { x }, { rate: this.l2 }) as Tensor;
  };
}

/** Puts `wrapper(call)` in the place of `call` of the instance's class. */
function patch<State>(instance: object, wrapper: (original: Call<State>) => Call<State>): void {
  const prototype = Object.getPrototypeOf(instance) as { call: Call<State> } & Record<symbol, boolean>;
  if (prototype[PATCHED]) return;
  Object.defineProperty(prototype, PATCHED, { value: true });
  prototype.call = wrapper(prototype.call);
}

/** Scale and offset, [channels] each. A layer that lacks one (`scale: false`, `center: false`) has ones, or zeros. */
function scaleAndOffset({ gamma, beta }: Pick<LayerNormState, 'gamma' | 'beta'>, x: Tensor) {
  const channels = [x.shape.at(-1) as number];
  return { scale: gamma?.read() ?? ones(channels), offset: beta?.read() ?? zeros(channels) };
}

/** Of a batch norm: the result, and the batch's mean and biased variance, [channels] each. */
type Normalized = [y: Tensor, mean: Tensor, variance: Tensor];

function train(layer: LayerState, x: Tensor): Tensor {
  return tidy(() => {
    const [y, mean, variance] = isNested() ? composedNorm(layer, x) : norm(layer, x);
    // As TensorFlow.js does it: the biased batch variance goes into the moving average.
    const backend = currentBackend() as OneDnnBackend;
    const isLater = backend.observeAtEnd([mean, variance], (batchMean: Float32Array, batchVariance: Float32Array) => {
      moveInPlace(layer.movingMean, batchMean, layer.momentum);
      moveInPlace(layer.movingVariance, batchVariance, layer.momentum);
    });
    if (!isLater) {
      move(layer.movingMean, mean, layer.momentum);
      move(layer.movingVariance, variance, layer.momentum);
    }
    return y;
  });
}

function norm(layer: LayerState, x: Tensor): Normalized {
  const inputs = { x, ...scaleAndOffset(layer, x) };
  const attrs = { epsilon: layer.epsilon, activation: 'linear' };
  return engine().runKernel('FusedBatchNormV3', inputs, attrs) as unknown as Normalized;
}

function composedNorm(layer: LayerState, x: Tensor): Normalized {
  const { scale, offset } = scaleAndOffset(layer, x);
  const { mean, variance } = moments(x, x.shape.map((_, axis) => axis).slice(0, -1));
  const factor = mul(rsqrt(add(variance, layer.epsilon)), scale);
  return [add(mul(sub(x, mean), factor), offset), mean, variance];
}

function move(average: LayerState['movingMean'], batch: Tensor, momentum: number): void {
  tidy(() => {
    average.write(engine().runKernel('MovingAverage', { average: average.read(), batch }, { momentum }) as Tensor);
  });
}

/** As {@link move}, where the variable's data lies, so that a recorded step replaces nothing. */
function moveInPlace(average: LayerState['movingMean'], batch: Float32Array, momentum: number): void {
  const variable = makeExclusive(average.read() as Variable);
  const values = (currentBackend() as OneDnnBackend).storage(variable).view() as Float32Array;
  moveAverage(values, batch, values, momentum);
}
