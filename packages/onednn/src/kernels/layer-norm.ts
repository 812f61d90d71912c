/**
 * Layer normalization over the last axis (Ba et al., arXiv:1607.06450), forward and backward as one primitive each: LayerNorm,
 * LayerNormGrad. TensorFlow.js composes it of moments, tiles and batch normalization.
 */
import { type TensorInfo, util } from '@tensorflow/tfjs-core';
import { Arg, NormalizationFlag, Prop } from '../ffi/constants.js';
import type { PrimitiveArgument } from '../primitive.js';
import type { Runtime } from '../runtime.js';
import { isFloat, kernel } from './kernel.js';
import { plainAddress } from './tools.js';

interface LayerNormAttrs {
  readonly epsilon: number;
}

const FLAGS = NormalizationFlag.useScale | NormalizationFlag.useShift;

function layouts(runtime: Runtime, shape: readonly number[]) {
  const features = shape.at(-1) as number;
  const rows = util.sizeFromShape([...shape]) / features;
  return {
    rows,
    data: runtime.rowMajor([rows, features]),
    statistics: runtime.rowMajor([rows]),
    parameters: runtime.rowMajor([features]),
  };
}

function fits(x: TensorInfo, ...parameters: TensorInfo[]): boolean {
  return (
    isFloat(x, ...parameters) &&
    x.shape.length >= 2 &&
    parameters.every(({ shape }) => shape.length === 1 && shape[0] === x.shape.at(-1))
  );
}

/** x [..., c], scale [c], offset [c] → y, mean and biased variance of each row. */
const forward = kernel<{ x: TensorInfo; scale: TensorInfo; offset: TensorInfo }, LayerNormAttrs>(
  'LayerNorm',
  ({ inputs: { x, scale, offset }, attrs: { epsilon }, backend }) => {
    if (!fits(x, scale, offset)) return null;
    const { runtime } = backend;
    const { rows, data, statistics, parameters } = layouts(runtime, x.shape);
    const primitive = runtime.compiled(`layer norm forward ${data.id} ${epsilon}`, () => {
      const descriptor = runtime.dnnl.layerNormForward(Prop.forwardTraining, data, statistics, epsilon, FLAGS);
      if (!descriptor) throw new Error(`oneDNN offers no layer normalization of [${data.dims}].`);
      const args: PrimitiveArgument[] = [
        [Arg.src, data],
        [Arg.dst, data],
        [Arg.mean, statistics],
        [Arg.variance, statistics],
        [Arg.scale, parameters],
        [Arg.shift, parameters],
      ];
      return runtime.primitive(descriptor, args, `layer_norm_forward [${data.dims}]`);
    });
    const outputs = [backend.allocate(x.shape), backend.allocate([rows]), backend.allocate([rows])];
    const inputs = [scale, offset].map((tensor) => plainAddress(backend, tensor));
    const addresses = outputs.map((tensor) => backend.storage(tensor).address);
    primitive.run(plainAddress(backend, x), ...addresses, ...inputs);
    return outputs;
  },
);

/** dy, x [..., c]; scale [c]; mean, variance of each row → dx, gradient of scale, gradient of offset. */
const backward = kernel<
  { dy: TensorInfo; x: TensorInfo; scale: TensorInfo; mean: TensorInfo; variance: TensorInfo },
  LayerNormAttrs
>('LayerNormGrad', ({ inputs: { dy, x, scale, mean, variance }, attrs: { epsilon }, backend }) => {
  if (!fits(x, scale) || !isFloat(dy, mean, variance)) return null;
  const { runtime } = backend;
  const { data, statistics, parameters } = layouts(runtime, x.shape);
  const primitive = runtime.compiled(`layer norm backward ${data.id} ${epsilon}`, () => {
    const hint = runtime.dnnl.layerNormForward(Prop.forwardTraining, data, statistics, epsilon, FLAGS);
    const descriptor = hint && runtime.dnnl.layerNormBackward(data, statistics, epsilon, FLAGS, hint);
    hint?.destroy();
    if (!descriptor) throw new Error(`oneDNN offers no layer normalization gradient of [${data.dims}].`);
    const args: PrimitiveArgument[] = [
      [Arg.src, data],
      [Arg.diffDst, data],
      [Arg.mean, statistics],
      [Arg.variance, statistics],
      [Arg.scale, parameters],
      [Arg.diffSrc, data],
      [Arg.diffScale, parameters],
      [Arg.diffShift, parameters],
      // Named, not read: no gradient depends on the shift.
      [Arg.shift, parameters],
    ];
    return runtime.primitive(descriptor, args, `layer_norm_backward [${data.dims}]`);
  });
  const outputs = [backend.allocate(x.shape), backend.allocate(scale.shape), backend.allocate(scale.shape)];
  const addresses = [x, dy, mean, variance, scale].map((tensor) => plainAddress(backend, tensor));
  addresses.push(...outputs.map((tensor) => backend.storage(tensor).address));
  addresses.push(plainAddress(backend, scale));
  primitive.run(...addresses);
  return outputs;
});

export const layerNormKernels = [forward, backward];
