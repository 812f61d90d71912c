/**
 * The ReplicaContext of a replica whose worker trains with parameter servers: collectives span the worker's own replicas, as
 * upstream's do, and only input is divided among all workers. There is one trainer, and no other way to train.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { type Shardable, shard } from '../data/shard.js';
import type { DeviceDescription } from '../devices/device.js';
import type { MirrorTarget } from '../mirror/mirror.js';
import type { MetricAverageCallback, Metrics } from '../optimizer/average-metrics.js';
import type { TrainerOptions } from '../optimizer/trainer.js';
import type { ReplicaContext } from '../replica/replica-context.js';
import type { ReduceOp } from '../strategy/enums.js';
import { ParameterServerTrainer, type ParameterServerTrainerContext } from './parameter-server-trainer.js';

type ContextMembers = Omit<{ [Member in keyof ReplicaContext]: ReplicaContext[Member] }, 'trainer' | 'sharedMemory'>;

/** See the file's head. */
export class ParameterServerContext implements ContextMembers {
  /** Among the replicas of this worker: only they are in step. */
  readonly replicaIdInSyncGroup: number;
  readonly numReplicasInSync: number;
  readonly inputPipelineId: number;
  readonly numInputPipelines: number;
  readonly inputReplicaId: number;
  readonly numInputReplicas: number;
  readonly device: DeviceDescription;
  readonly threads: number;
  readonly communicator: ReplicaContext['communicator'];
  readonly crossDeviceOps: ReplicaContext['crossDeviceOps'];
  #trainer: ParameterServerTrainer | null = null;
  #stopLearned: boolean | null = null;

  constructor(
    private readonly inner: ReplicaContext,
    private readonly parts: Omit<ParameterServerTrainerContext, 'isStopRequested' | 'onStopKnown' | 'local'>,
    workers: number,
  ) {
    this.replicaIdInSyncGroup = inner.replicaIdInSyncGroup;
    this.numReplicasInSync = inner.numReplicasInSync;
    this.inputPipelineId = parts.processes.rank;
    this.numInputPipelines = workers;
    this.inputReplicaId = this.inputPipelineId * inner.numReplicasInSync + inner.replicaIdInSyncGroup;
    this.numInputReplicas = workers * inner.numReplicasInSync;
    this.device = inner.device;
    this.threads = inner.threads;
    this.communicator = inner.communicator;
    this.crossDeviceOps = inner.crossDeviceOps;
  }

  allReduce(op: ReduceOp, tensors: tf.Tensor[]): tf.Tensor[] {
    return this.inner.allReduce(op, tensors);
  }

  mirror(target: MirrorTarget): void {
    this.inner.mirror(target);
  }

  averageStatistics(target: MirrorTarget): void {
    this.inner.averageStatistics(target);
  }

  checkMirrored(): void {
    this.inner.checkMirrored();
  }

  averageMetrics<M extends Metrics>(metrics: M): M {
    return this.inner.averageMetrics(metrics);
  }

  metricAverageCallback(): MetricAverageCallback {
    return this.inner.metricAverageCallback();
  }

  /** @throws Error always: TensorFlow.js' optimizers keep their state where they run, and here it lives with the servers. */
  optimizer<Optimizer extends tf.Optimizer>(_optimizer: Optimizer): Optimizer {
    throw new Error(
      'ParameterServerStrategy trains with context.trainer(): the optimizer runs on the parameter servers.\n' +
        'help: context.trainer(variables, { optimizer: … }), or MultiWorkerMirroredStrategy for any other optimizer.',
    );
  }

  /** Momentum or plain SGD on the parameter servers. One trainer per run. */
  trainer(variables: readonly tf.Variable[], options: TrainerOptions): ParameterServerTrainer {
    if (this.#trainer) throw new Error('ParameterServerStrategy has one trainer per run, and this run has it already.');
    this.#trainer = new ParameterServerTrainer(variables, options, {
      ...this.parts,
      local: this.inner.communicator,
      isStopRequested: () => this.inner.shouldStop(),
      onStopKnown: (stop) => {
        this.#stopLearned = stop;
      },
    });
    return this.#trainer;
  }

  /** This replica's part among all workers' replicas; workers need not have the same number of elements. */
  shard<T extends Shardable>(data: T): T {
    return shard(data, {
      replica: this.inputReplicaId,
      replicas: this.numInputReplicas,
      gather: (value) => {
        const all = new Int32Array(this.numReplicasInSync);
        this.communicator.allGather(Int32Array.of(value), all);
        return [...all];
      },
    });
  }

  merge<T, R>(value: T, fn: (values: T[]) => R): R {
    return this.inner.merge(value, fn);
  }

  /** True once this worker was asked to stop, or the chief has asked all: the same on all replicas of the worker. */
  shouldStop(): boolean {
    const learned = this.#stopLearned;
    this.#stopLearned = null;
    return learned ?? this.inner.shouldStop();
  }

  report(message: unknown): void {
    this.inner.report(message);
  }

  /** After the user's function: nobody leaves before the chief has ended the job. */
  finish(): void {
    this.#trainer?.waitForOthers(false);
    this.#trainer?.finish();
  }
}
