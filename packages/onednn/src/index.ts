/** @lockstep/onednn: a TensorFlow.js backend on oneDNN. */
export { loadLibrary } from './ffi/library.js';
export { bindV2 } from './ffi/dnnl-v2.js';
export * from './ffi/constants.js';
export * from './memory/pool.js';
export * from './primitive.js';
