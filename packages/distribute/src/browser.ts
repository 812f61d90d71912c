/**
 * @lockstep/distribute in a browser: what of it works on the Web Workers of one page. Bundlers take this file by the condition `browser` of
 * package.json. What is missing here needs processes: several workers, parameter servers, Open MPI.
 */
export * from './communicator/index.js';
export * from './cross-device-ops/index.js';
export type { DatasetLike, Shardable } from './data/shard.js';
export * from './devices/index.js';
export type { MirrorTarget } from './mirror/mirror.js';
export type { ReplicaContext } from './replica/replica-context.js';
export { ReplicaError, type ReplicaFailureKind } from './replica/replica-error.js';
export type { RunOptions } from './replica/run-replicas.js';
export { soloContext } from './replica/solo-context.js';
export { VariableAggregation, VariableSynchronization } from './strategy/enums.js';
export { MirroredStrategy, type MirroredStrategyOptions } from './strategy/mirrored-strategy.js';
export { OneDeviceStrategy } from './strategy/one-device-strategy.js';
export { getStrategy, runInScope } from './strategy/scope.js';
export type { Strategy, StrategyLog } from './strategy/strategy.js';
export { type BackwardOptions, backward, type GradientCallback } from './trainer/backward.js';
export type { Loss, StepInput } from './trainer/local-step.js';
export type { LossScaleOption } from './trainer/loss-scale.js';
export type { OptimizerOptions } from './trainer/optimizer-options.js';
export type { OptimizerConfig } from './trainer/optimizers/index.js';
export type {
  LearningRate,
  StepPhases,
  StepResult,
  Trainer,
  TrainerOptions,
  TrainerSegment,
} from './trainer/trainer.js';
