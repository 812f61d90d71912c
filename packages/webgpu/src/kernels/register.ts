/** Our kernels beside and in the place of those of TensorFlow.js' `webgpu` backend, once in a thread. */
import { registerKernel, unregisterKernel } from '@tensorflow/tfjs-core';
import { addReluKernels } from './add-relu.js';
import { batchNormKernels } from './batch-norm.js';
import { filterGradientKernel } from './filter-gradient.js';

let isDone = false;

/** To be called after the backend's own kernels are registered, which its import does. */
export function registerKernels(): void {
  if (isDone) return;
  isDone = true;
  const own = filterGradientKernel();
  unregisterKernel(own.kernelName, own.backendName);
  for (const kernel of [own, ...batchNormKernels, ...addReluKernels]) registerKernel(kernel);
}
