/** Optimizers of the flat path. */
export type { AdamConfig, AdamWConfig } from './adam.js';
export { flatOptimizer, type OptimizerConfig } from './create.js';
export type { LarsConfig } from './lars.js';
export type { MomentumConfig } from './momentum.js';
export type { FlatOptimizer, Piece, StepNumbers, VariableNorms } from './optimizer.js';
export type { RmsPropConfig } from './rmsprop.js';
export type { SgdConfig } from './sgd.js';
