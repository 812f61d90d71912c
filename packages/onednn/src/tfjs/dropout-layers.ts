/**
 * A user's `tf.layers.dropout` and `spatialDropout1d` draw their masks in a kernel (kernels/dropout-mask.ts), so that a step with
 * them can be recorded. A layer with a seed draws the same mask in every call, as TensorFlow.js has it, and stays with it.
 */
import { engine, getBackend, getKernel, mul, type Tensor, tidy } from '@tensorflow/tfjs-core';
import { layers } from '@tensorflow/tfjs-layers';

/** What of the layer this file uses. */
interface DropoutState {
  readonly rate: number;
  readonly seed?: number | null;
  invokeCallHook(inputs: Tensor | Tensor[], options: object): void;
  getNoiseShape(input: Tensor): (number | null)[] | null | undefined;
}

type Call = (this: DropoutState, inputs: Tensor | Tensor[], options: { training?: boolean }) => Tensor | Tensor[];

const PATCHED = Symbol.for('lockstep.onednn.dropout');

/** Gives the class its kernel, once per thread. */
export function patchDropout(): void {
  const prototype = Object.getPrototypeOf(layers.dropout({ rate: 0.5 })) as { call: Call } & Record<symbol, boolean>;
  if (prototype[PATCHED]) return;
  Object.defineProperty(prototype, PATCHED, { value: true });
  const original = prototype.call;
  prototype.call = function (inputs, options) {
    const x = (Array.isArray(inputs) ? inputs[0] : inputs) as Tensor;
    const draws = options?.training === true && this.rate > 0 && this.rate < 1 && this.seed == null;
    const shape = draws && x.dtype === 'float32' ? maskShape(this.getNoiseShape(x), x.shape) : null;
    if (!shape || !getKernel('DropoutMask', getBackend())) return original.call(this, inputs, options);
    return tidy(() => {
      this.invokeCallHook(inputs, options);
      return mul(x, engine().runKernel('DropoutMask', {}, { shape, rate: this.rate }) as Tensor);
    });
  };
}

/** The mask's shape: the input's where the layer does not say. null if it has another rank. */
function maskShape(noise: (number | null)[] | null | undefined, shape: number[]): number[] | null {
  if (!noise) return shape;
  return noise.length === shape.length ? noise.map((size, axis) => size ?? (shape[axis] as number)) : null;
}
