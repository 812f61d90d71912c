/// <reference types="@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.d.ts" preserve="true" />
/**
 * @lockstep/onednn: a TensorFlow.js backend on oneDNN. `import '@lockstep/onednn'` makes it the backend of choice in this
 * thread, and offers its devices to the strategies of `@lockstep/distribute`; everything else here is for those who need control.
 */
import { registerDevices } from './device/device-provider.js';
import { register } from './register.js';

register();
registerDevices();

export {
  OneDnnBackend,
  type OneDnnBackendOptions,
  type OneDnnHostAccess,
  type Precision,
  PrecisionError,
  type PrecisionOption,
} from './backend.js';
export { onednn } from './current.js';
export { deviceProvider } from './device/device-provider.js';
export { OneDnnError } from './ffi/dnnl.js';
export {
  LIBRARY_VARIABLE,
  type LoadedLibrary,
  librarySearchOrder,
  loadLibrary,
  OneDnnNotFoundError,
} from './ffi/library.js';
export { type ConvolutionBound, convolutionBound } from './insight/convolution-bound.js';
export { OutOfMemoryError, type PoolStatistics } from './memory/pool.js';
export type { Primitive, PrimitiveObserver, Runnable } from './primitive.js';
export { configure, kernelNames } from './register.js';
export { Runtime, type RuntimeOptions } from './runtime.js';
export { fileSystem } from './tfjs/file-system.js';
export { setRunEagerly } from './tfjs/fit-program.js';
