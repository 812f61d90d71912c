/**
 * SEAM: ReplicaContext, what a replica function gets, under every strategy. tf.distribute's ReplicaContext and `strategy.extended`, as
 * one object. context.ts is its one implementation.
 *
 * It lives in the replica's thread, beside the replica's own TensorFlow.js engine. Everything marked collective must be
 * called by every replica in step, in the same order: there is no negotiation.
 */
import type * as tf from '@tensorflow/tfjs-core';
import type { Communicator } from '../communicator/communicator.js';
import type { SharedMemoryCommunicator } from '../communicator/shared-memory-communicator.js';
import type { CrossDeviceOps } from '../cross-device-ops/cross-device-ops.js';
import type { ReduceOp } from '../cross-device-ops/reduce-op.js';
import type { Shardable } from '../data/shard.js';
import type { DeviceDescription } from '../devices/device.js';
import type { MirrorTarget } from '../mirror/mirror.js';
import type { MetricAverageCallback, Metrics } from '../trainer/average-metrics.js';
import type { OptimizerOptions } from '../trainer/optimizer-options.js';
import type { Trainer, TrainerOptions } from '../trainer/trainer.js';
import type { Summary } from './summary.js';

/** See the file's head. */
export interface ReplicaContext {
  /** 0..numReplicasInSync−1. With parameter servers: among the replicas of this worker. */
  readonly replicaIdInSyncGroup: number;
  readonly numReplicasInSync: number;
  /** tf.distribute.InputContext: which worker reads, of how many. One process alone is worker 0 of 1. */
  readonly inputPipelineId: number;
  readonly numInputPipelines: number;
  /** This replica among all that read parts of the same data, of all workers; what `shard` goes by. */
  readonly inputReplicaId: number;
  readonly numInputReplicas: number;
  readonly device: DeviceDescription;
  /** Compute threads of this replica. */
  readonly threads: number;
  /** Figures, texts, pictures and histograms of the training, for whoever was given to `strategy.run` as `summary`; the first replica's count. */
  readonly summary: Summary;
  /** The replicas in step, for anything that the methods below do not cover. */
  readonly communicator: Communicator;
  /** How the replicas of this process reduce. */
  readonly crossDeviceOps: CrossDeviceOps;
  /** The replicas of this process as one group, with the flat memory in which cross-device ops and FlatReducer work. */
  readonly sharedMemory: SharedMemoryCommunicator;
  /**
   * Sum or mean of each float32 tensor over all replicas, packed as the cross-device ops say. Collective.
   * @returns new tensors of the same shapes, bit-identical on all replicas.
   */
  allReduce(op: ReduceOp, tensors: tf.Tensor[]): tf.Tensor[];
  /**
   * Gives every replica the values that replica 0 has, of a model (moving statistics included) or of variables. Collective.
   * @throws Error naming the first difference if the replicas' variables do not match.
   */
  mirror(target: MirrorTarget): void;
  /**
   * Sets variables that each replica keeps for itself, such as batch norm's moving statistics, to their mean over replicas:
   * before they are saved, or read for evaluation. What is trained together is compared, as {@link checkMirrored} does. Collective.
   */
  averageStatistics(target: MirrorTarget): void;
  /**
   * Throws unless all that optimizers and trainers of this context train is the same on all replicas, naming the first variable that
   * is not and who has what. Steps do so every now and then; call it before saving. Collective.
   */
  checkMirrored(): void;
  /**
   * Sets each metric to its mean over replicas, in place, and returns the record: for whatever decides something, such as a plateau,
   * an early stop or the best checkpoint, which all replicas must decide alike. Collective.
   * @throws Error if replicas have different metrics.
   */
  averageMetrics<M extends Metrics>(metrics: M): M;
  /**
   * A callback of `model.fit` that does {@link averageMetrics} with the logs of each epoch. It comes first in the list, so that those
   * behind it and the history see the means: `[new tfl.CustomCallback(context.metricAverageCallback()), tfl.callbacks.earlyStopping()]`.
   */
  metricAverageCallback(): MetricAverageCallback;
  /**
   * Makes any TensorFlow.js optimizer distributed: gradients are packed, averaged over replicas, then applied.
   * Works with `model.compile`, `optimizer.minimize`, and `tf.variableGrads` with `applyGradients`. The same object is returned.
   * Variables are mirrored when they are first seen: those that exist now, and later ones in the step that names them. In each step
   * replicas compare which variables have gradients and what the optimizer is set to. SGD, momentum, Adam and RMSProp are applied in
   * the replicas' shared memory, each replica its part, where the backend allows it; any other by itself, on every replica. Collective.
   * @param options Clipping, accumulation over several calls, a schedule of the learning rate.
   * @throws TypeError for what is no optimizer; Error for one that is distributed already, and with parameter servers, where the
   * optimizer runs elsewhere. Its steps throw an Error, the same on all replicas and before any weight changes, if something
   * differs that must not.
   */
  optimizer<Optimizer extends tf.Optimizer>(optimizer: Optimizer, options?: OptimizerOptions): Optimizer;
  /**
   * The fast path: weights, optimizer slots and gradients in flat shared memory. Collective.
   * Replica 0's values of `variables` become everybody's; from then on the variables are views of `trainer.weights`.
   * @param crossDeviceOps How gradients are reduced within a process alone. Default: as the strategy does.
   */
  trainer(variables: readonly tf.Variable[], options: TrainerOptions, crossDeviceOps?: CrossDeviceOps): Trainer;
  /**
   * This replica's part of a data set: arrays, tensors, records of those, iterables, async iterables, tf.data data sets.
   * The number of elements, hence of steps, is the same on every replica in step, always. Collective; so is each element of a stream.
   */
  shard<T extends Shardable>(data: T): T;
  /**
   * Meets all replicas: `fn` runs on each with the list of everybody's values, in replica order. Collective.
   * @param value Small plain data: numbers (NaN, infinities and −0 arrive as they are), strings, undefined, arrays, typed arrays,
   * objects, dates, maps, sets.
   * @throws TypeError for what cannot be sent, such as tensors and functions, naming its place in `value`.
   */
  merge<T, R>(value: T, fn: (values: T[]) => R): R;
  /**
   * True once the run is to end (its signal fired, on any worker); the same answer on every replica in step at the same call. Ask once
   * per step: within a process it costs one atomic read, and between workers a trainer's step has brought the answer along.
   */
  shouldStop(): boolean;
  /** Sends `message` (anything that `structuredClone` takes) to `onReport` on the main thread. */
  report(message: unknown): void;
}
