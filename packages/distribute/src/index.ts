/** @lockstep/distribute: tf.distribute for TensorFlow.js. What works on a page, too, and what needs processes, files or a terminal. */
export * from './browser.js';
export * from './cluster/index.js';
export * from './mpi/index.js';
export * from './parameter-server/index.js';
export { type FitProgressOptions, fitProgress } from './progress/fit-progress.js';
export * from './simd/index.js';
export * from './workers/index.js';
