/**
 * Gradients of TensorFlow.js operations that oneDNN computes in one pass, in the place of TensorFlow.js' own, which compose
 * them of several. On any other backend they do what TensorFlow.js' do.
 */
import {
  engine,
  type GradConfig,
  getGradient,
  mul,
  type NamedAttrMap,
  registerGradient,
  reshape,
  sum,
  type Tensor,
  unregisterGradient,
} from '@tensorflow/tfjs-core';
import { registerElementwiseGradients } from './elementwise-gradients.js';

/** Gradient of the training-mode kernel, so that it can be used without a custom gradient. */
const batchNorm: GradConfig = {
  kernelName: 'FusedBatchNormV3',
  inputsToSave: ['x', 'scale'],
  outputsToSave: [true, true, true],
  gradFunc: (dys, saved, attrs) => {
    const [x, scale, y, mean, variance] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const [dy] = dys as Tensor[];
    const inputs = { dy: dy as Tensor, x, scale, y, mean, variance };
    const [dx, dScale, dOffset] = engine().runKernel('FusedBatchNormGradV3', inputs, attrs) as unknown as [
      Tensor,
      Tensor,
      Tensor,
    ];
    return { x: () => dx, scale: () => dScale, offset: () => dOffset };
  },
};

const l2Penalty: GradConfig = {
  kernelName: 'L2Penalty',
  inputsToSave: ['x'],
  gradFunc: (dy, saved, attrs) => {
    const [x] = saved as [Tensor];
    return { x: () => mul(x, mul(dy as Tensor, 2 * (attrs as { rate: number }).rate)) };
  },
};

const layerNorm: GradConfig = {
  kernelName: 'LayerNorm',
  inputsToSave: ['x', 'scale'],
  outputsToSave: [false, true, true],
  gradFunc: (dys, saved, attrs) => {
    const [x, scale, mean, variance] = saved as [Tensor, Tensor, Tensor, Tensor];
    const [dy] = dys as Tensor[];
    const inputs = { dy: dy as Tensor, x, scale, mean, variance };
    const [dx, dScale, dOffset] = engine().runKernel('LayerNormGrad', inputs, attrs) as unknown as [
      Tensor,
      Tensor,
      Tensor,
    ];
    return { x: () => dx, scale: () => dScale, offset: () => dOffset };
  },
};

/**
 * TensorFlow.js multiplies batches that broadcast but cannot train through them: its gradient has the product's batch, not the
 * operand's. Here what was repeated is summed.
 */
function matMulGradient(original: GradConfig): GradConfig {
  return {
    ...original,
    gradFunc: (dy, saved, attrs) => {
      const gradients = original.gradFunc(dy, saved, attrs);
      const [a, b] = saved as [Tensor, Tensor];
      const shrink = (name: 'a' | 'b', { shape }: Tensor) => {
        const whole = gradients[name] as () => Tensor;
        return () => {
          const gradient = whole();
          const added = gradient.rank - shape.length;
          const axes = gradient.shape.flatMap((size, axis) =>
            axis < added || (size !== 1 && shape[axis - added] === 1 && axis < gradient.rank - 2) ? [axis] : [],
          );
          return axes.length === 0 ? gradient : reshape(sum(gradient, axes), shape);
        };
      };
      return { a: shrink('a', a), b: shrink('b', b) };
    },
  };
}

/** Transposed 3-D convolution is what TensorFlow.js' own gradient list lacks, so tf.layers.conv3dTranspose trains here alone. */
const conv3DTranspose: GradConfig = {
  kernelName: 'Conv3DBackpropInputV2',
  inputsToSave: ['dy', 'filter'],
  gradFunc: (ddx, saved, attrs) => {
    const [dy, filter] = saved as [Tensor, Tensor];
    const { strides, pad } = attrs as { strides: [number, number, number]; pad: 'same' | 'valid' };
    return {
      dy: () => run('Conv3D', { x: ddx as Tensor, filter }, { strides, pad, dataFormat: 'NDHWC', dilations: 1 }),
      filter: () =>
        run('Conv3DBackpropFilterV2', { x: ddx as Tensor, dy }, { strides, pad, filterShape: filter.shape }),
    };
  },
};

function run(name: string, inputs: Record<string, Tensor>, attrs: NamedAttrMap = {}): Tensor {
  return engine().runKernel(name, inputs, attrs) as Tensor;
}

/** Registers the gradients in this thread, once. A gradient whose kernel the current backend lacks falls back to the old one. */
export function registerGradients(): void {
  registerElementwiseGradients();
  registerGradient(batchNorm);
  registerGradient(layerNorm);
  registerGradient(l2Penalty);
  if (!getGradient('Conv3DBackpropInputV2')) registerGradient(conv3DTranspose);
  const matMul = getGradient('BatchMatMul');
  if (matMul) {
    unregisterGradient('BatchMatMul');
    registerGradient(matMulGradient(matMul));
  }
}
