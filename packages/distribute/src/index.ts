/** @lockstep/distribute: tf.distribute for TensorFlow.js. */
export * from './cluster/index.js';
export * from './communicator/index.js';
export * from './cross-device-ops/index.js';
export type { DatasetLike, Shardable } from './data/shard.js';
export * from './devices/index.js';
export type { MirrorTarget } from './mirror/mirror.js';
export * from './mpi/index.js';
export { type BackwardOptions, backward, type GradientCallback } from './optimizer/backward.js';
export type { StepPhases, StepResult, Trainer, TrainerOptions, TrainerSegment } from './optimizer/trainer.js';
export type { ReplicaContext } from './replica/replica-context.js';
export { ReplicaError, type ReplicaFailureKind } from './replica/replica-error.js';
export type { RunOptions } from './replica/run-replicas.js';
export * from './simd/index.js';
export { ReduceOp, VariableAggregation, VariableSynchronization } from './strategy/enums.js';
export { MirroredStrategy, type MirroredStrategyOptions } from './strategy/mirrored-strategy.js';
export { OneDeviceStrategy } from './strategy/one-device-strategy.js';
export { getStrategy, runInScope } from './strategy/scope.js';
export type { Strategy, StrategyLog } from './strategy/strategy.js';
