/**
 * Layers stay layers: a user's `tf.layers.batchNormalization` trains through one fused primitive each way, without being
 * rewritten. TensorFlow.js' own composes it of moments, arithmetic and about twenty gradient kernels; it still does on other
 * backends and for other axes.
 */
import { engine, getBackend, getKernel, mul, sub, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { layers } from '@tensorflow/tfjs-layers';

type BatchNormalization = ReturnType<typeof layers.batchNormalization>;

/** What of the layer this file uses. */
interface LayerState {
  readonly axis: number;
  readonly epsilon: number;
  readonly momentum: number;
  readonly gamma?: { read(): Tensor };
  readonly beta?: { read(): Tensor };
  readonly movingMean: { read(): Tensor; write(value: Tensor): void };
  readonly movingVariance: { read(): Tensor; write(value: Tensor): void };
}

type Call = (this: LayerState, inputs: Tensor | Tensor[], options: { training?: boolean }) => Tensor | Tensor[];

const PATCHED = Symbol.for('lockstep.onednn.batchNormalization');

/** Gives the layer class its fast path, once per thread. */
export function patchLayers(): void {
  const prototype = Object.getPrototypeOf(layers.batchNormalization()) as BatchNormalization & { call: Call } & Record<
      symbol,
      boolean
    >;
  if (prototype[PATCHED]) return;
  const original = prototype.call as unknown as Call;
  Object.defineProperty(prototype, PATCHED, { value: true });
  prototype.call = function (this: unknown, inputs: Tensor | Tensor[], options: { training?: boolean }) {
    const state = this as LayerState;
    const x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor;
    const isLastAxis = state.axis === -1 || state.axis === x.rank - 1;
    const fits = options?.training && isLastAxis && x.rank >= 2 && state.gamma && state.beta && x.dtype === 'float32';
    if (!fits || !getKernel('FusedBatchNormV3', getBackend())) return original.call(state, inputs, options);
    return train(state, x);
  } as never;
}

function train(layer: LayerState, x: Tensor): Tensor {
  return tidy(() => {
    const [y, mean, variance] = engine().runKernel(
      'FusedBatchNormV3',
      { x, scale: (layer.gamma as { read(): Tensor }).read(), offset: (layer.beta as { read(): Tensor }).read() },
      { epsilon: layer.epsilon, activation: 'linear' },
    ) as unknown as [Tensor, Tensor, Tensor];
    // As TensorFlow.js does it: the biased batch variance goes into the moving average.
    move(layer.movingMean, mean, layer.momentum);
    move(layer.movingVariance, variance, layer.momentum);
    return y;
  });
}

function move(average: LayerState['movingMean'], value: Tensor, momentum: number): void {
  tidy(() => {
    const old = average.read();
    average.write(sub(old, mul(sub(old, value), 1 - momentum)));
  });
}
