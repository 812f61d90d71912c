/**
 * Puts the backend 'onednn' into this thread's TensorFlow.js: `cpu`'s kernels first, ours over them.
 */
import '@tensorflow/tfjs-backend-cpu';
// In Node, TensorFlow.js' gradients are registered by the layers package alone (core's own list is not loadable there).
import '@tensorflow/tfjs-layers';
import { findBackendFactory, registerBackend } from '@tensorflow/tfjs-core';
import { OneDnnBackend, type OneDnnBackendOptions } from './backend.js';
import { createInsight, verbosityOf } from './insight/insight.js';
import { batchNormKernels } from './kernels/batch-norm.js';
import { convolutionKernels } from './kernels/convolution.js';
import { convolutionNdKernels } from './kernels/convolution-nd.js';
import { crossEntropyKernels } from './kernels/cross-entropy.js';
import { flatKernels } from './kernels/flat.js';
import { fuse } from './kernels/fusion.js';
import { BACKEND_NAME, type Kernel, observeFallbacks, registerFallbacks, registerKernels } from './kernels/kernel.js';
import { l2PenaltyKernels } from './kernels/l2-penalty.js';
import { layerNormKernels } from './kernels/layer-norm.js';
import { matmulKernels } from './kernels/matmul.js';
import { movingAverageKernels } from './kernels/moving-average.js';
import { poolingKernels } from './kernels/pooling.js';
import { residualKernels } from './kernels/residual.js';
import { watchLayers } from './recording/layer-settings.js';
import { registerChainedOperations } from './tfjs/chained-operations.js';
import { patchDropout } from './tfjs/dropout-layers.js';
import { registerFileSystem } from './tfjs/file-system.js';
import { patchTraining } from './tfjs/fit-program.js';
import { registerGradients } from './tfjs/gradients.js';
import { patchLayers } from './tfjs/layers.js';
import { withoutFallback } from './tfjs/no-fallback.js';
import { patchOptimizers } from './tfjs/optimizers.js';
import { registerForGood } from './tfjs/own-gradients.js';
import { patchRecurrentLayers } from './tfjs/recurrent-layers.js';

/** Above `cpu` (1), below whatever a user registers for a GPU. */
const PRIORITY = 4;

/** Options of the backend that the factory will make, until it has made it. */
let options: OneDnnBackendOptions = {};

const kernels: readonly Kernel[] = [
  ...flatKernels,
  ...convolutionKernels,
  ...convolutionNdKernels,
  ...batchNormKernels,
  ...layerNormKernels,
  ...l2PenaltyKernels,
  ...residualKernels,
  ...poolingKernels,
  ...matmulKernels,
  ...crossEntropyKernels,
  ...movingAverageKernels,
];

/** Names of the kernels that are ours; the others are `cpu`'s. */
export const kernelNames: readonly string[] = kernels.map(({ name }) => name);

/** Registers the backend and its kernels, once per thread. Nothing is loaded before the backend is used. */
export function register(): void {
  if (findBackendFactory(BACKEND_NAME)) return;
  const ours = new Set(kernelNames);
  registerFallbacks(ours);
  registerKernels(kernels, fuse);
  registerForGood(registerGradients);
  registerChainedOperations();
  registerFileSystem();
  patchLayers();
  watchLayers();
  patchTraining();
  patchOptimizers();
  patchRecurrentLayers();
  patchDropout();
  registerBackend(
    BACKEND_NAME,
    withoutFallback(BACKEND_NAME, () => create(ours)),
    PRIORITY,
  );
}

function create(ours: ReadonlySet<string>): OneDnnBackend {
  const backend = new OneDnnBackend(options);
  const insight = createInsight(verbosityOf());
  if (insight) {
    backend.runtime.observer = (primitive, milliseconds) => insight.primitive(primitive, milliseconds);
    backend.runtime.onProgram = (text) => insight.program(text);
    observeFallbacks(ours, (name, shapes, milliseconds) => insight.fallback(name, shapes, milliseconds));
  }
  return backend;
}

/** Sets what the backend will be made with; without effect once it is in use. */
export function configure(changed: OneDnnBackendOptions): void {
  options = { ...options, ...changed };
}
