/**
 * Gradients of TensorFlow.js operations that oneDNN computes in one pass, in the place of TensorFlow.js' own, which compose
 * them of several. On any other backend they do what TensorFlow.js' do.
 */
import {
  engine,
  type GradConfig,
  getBackend,
  getGradient,
  getKernel,
  type NamedAttrMap,
  registerGradient,
  type Tensor,
  unregisterGradient,
} from '@tensorflow/tfjs-core';

/** ReLU's gradient needs its output's sign only, and that in one pass; TensorFlow.js makes step, cast and product. */
const relu: GradConfig = {
  kernelName: 'Relu',
  outputsToSave: [true],
  gradFunc: (dy, saved) => {
    const [y] = saved as [Tensor];
    return { x: () => run('ReluGrad', { dy: dy as Tensor, y }) };
  },
};

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

function run(name: string, inputs: Record<string, Tensor>, attrs: NamedAttrMap = {}): Tensor {
  return engine().runKernel(name, inputs, attrs) as Tensor;
}

/** Registers the gradients in this thread, once. A gradient whose kernel the current backend lacks falls back to the old one. */
export function registerGradients(): void {
  const original = getGradient('Relu');
  registerGradient(batchNorm);
  if (!original) return;
  unregisterGradient('Relu');
  registerGradient({
    ...relu,
    // TensorFlow.js' version is given the output instead of the input: the same sign.
    gradFunc: (dy, saved, attrs) => (getKernel('ReluGrad', getBackend()) ? relu : original).gradFunc(dy, saved, attrs),
  });
}
