/**
 * @lockstep/distribute in a browser: what of it works on the Web Workers of one page. Bundlers take this file by the condition `browser` of
 * package.json. What index.ts adds needs Node: several workers, parameter servers, Open MPI.
 */
export * from './communicator/index.js';
export * from './cross-device-ops/index.js';
export type { DatasetLike, Shardable } from './data/shard.js';
export * from './devices/index.js';
export type { MemoryLimits } from './host/host.js';
export type { MirrorTarget } from './mirror/mirror.js';
export { type ClockOffset, collectTrace, type ReplicaTrace } from './replica/collect-trace.js';
export type { ReplicaContext } from './replica/replica-context.js';
export { ReplicaError, type ReplicaFailureKind } from './replica/replica-error.js';
export type { RunOptions } from './replica/run-replicas.js';
export { soloContext } from './replica/solo-context.js';
export type { Summary, SummaryEvent, SummaryPicture, SummarySink } from './replica/summary.js';
export { VariableAggregation, VariableSynchronization } from './strategy/enums.js';
export { MirroredStrategy, type MirroredStrategyOptions } from './strategy/mirrored-strategy.js';
export { OneDeviceStrategy } from './strategy/one-device-strategy.js';
export { getStrategy, runInScope } from './strategy/scope.js';
export type { Strategy, StrategyLog } from './strategy/strategy.js';
export {
  type Journey,
  type Span,
  startTrace,
  stopTrace,
  type Trace,
  type TraceData,
  traceClock,
  traceLayer,
} from './trace/trace.js';
export type { MetricAverageCallback, Metrics } from './trainer/average-metrics.js';
export { type BackwardOptions, backward, type GradientCallback } from './trainer/backward.js';
export { FlatReducer, type FlatReducerOptions, MAX_MEET_VALUES, type UpdateOptions } from './trainer/flat-reducer.js';
export { FlatVariables, layOut } from './trainer/flat-variables.js';
export type { Loss, StepInput } from './trainer/local-step.js';
export type { DynamicLossScale, LossScaleOption, LossScaleState } from './trainer/loss-scale.js';
export type { OptimizerOptions } from './trainer/optimizer-options.js';
export type {
  AdamConfig,
  AdamWConfig,
  LarsConfig,
  MomentumConfig,
  OptimizerConfig,
  RmsPropConfig,
  SgdConfig,
} from './trainer/optimizers/index.js';
export type {
  Clip,
  FinishResult,
  FlatLayout,
  FlatSegment,
  GroupStatus,
  Reducer,
  ReducerUpdate,
} from './trainer/reducer.js';
export type {
  GradientWatch,
  LearningRate,
  StepPhases,
  StepResult,
  Trainer,
  TrainerOptions,
  TrainerSegment,
} from './trainer/trainer.js';
