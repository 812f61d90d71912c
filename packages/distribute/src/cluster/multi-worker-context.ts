/**
 * The ReplicaContext of a replica that is one of several processes' replicas: the same members, over all of them.
 *
 * Ids and counts are global; shared memory ends at the process. It wraps the context that the process's own replicas have.
 */
import * as tf from '@tensorflow/tfjs-core';
import { gatherValues } from '../communicator/gather.js';
import { type Shardable, shard } from '../data/shard.js';
import type { DeviceDescription } from '../devices/device.js';
import type { MirrorTarget } from '../mirror/mirror.js';
import type { MetricAverageCallback, Metrics } from '../optimizer/average-metrics.js';
import type { TrainerOptions } from '../optimizer/trainer.js';
import { checkTensors } from '../replica/check-tensors.js';
import { Mirroring } from '../replica/mirroring.js';
import type { ReplicaContext } from '../replica/replica-context.js';
import { copyValues } from '../replica/tensor-values.js';
import { checkReduceOp, type ReduceOp } from '../strategy/enums.js';
import type { HierarchicalCommunicator } from './hierarchical-communicator.js';
import { MultiWorkerTrainer, type MultiWorkerTrainerContext } from './multi-worker-trainer.js';
import { evenBounds } from './pack-bounds.js';

/** What user code may rely on: a ReplicaContext's public members, except those that belong to one process alone. */
type ContextMembers = Omit<
  { [Member in keyof ReplicaContext]: ReplicaContext[Member] },
  'trainer' | 'crossDeviceOps' | 'sharedMemory'
>;

/** See the file's head. */
export class MultiWorkerContext implements ContextMembers {
  readonly replicaIdInSyncGroup: number;
  readonly numReplicasInSync: number;
  readonly device: DeviceDescription;
  readonly threads: number;
  readonly communicator: HierarchicalCommunicator;
  readonly crossDeviceOps: ReplicaContext['crossDeviceOps'];
  /** tf.distribute.InputContext: which worker reads. */
  readonly inputPipelineId: number;
  readonly numInputPipelines: number;
  readonly inputReplicaId: number;
  readonly numInputReplicas: number;
  readonly #mirroring: Mirroring;
  #steps = 0;
  /** Whether anybody was asked to stop, as the last step's exchange told; null once that answer was given. */
  #stopLearned: boolean | null = null;

  constructor(
    private readonly inner: ReplicaContext,
    private readonly parts: Omit<MultiWorkerTrainerContext, 'isStopRequested' | 'onStopKnown'>,
  ) {
    this.communicator = parts.communicator;
    this.replicaIdInSyncGroup = parts.communicator.rank;
    this.numReplicasInSync = parts.communicator.size;
    this.inputReplicaId = parts.communicator.rank;
    this.numInputReplicas = parts.communicator.size;
    this.inputPipelineId = parts.communicator.workers.rank;
    this.numInputPipelines = parts.communicator.workers.size;
    this.device = inner.device;
    this.threads = inner.threads;
    this.crossDeviceOps = inner.crossDeviceOps;
    this.#mirroring = new Mirroring({
      communicator: parts.communicator,
      mean: (tensors) => this.#reduce('MEAN', tensors),
      beginStep: () => this.communicator.workers.setStep(++this.#steps),
    });
  }

  allReduce(op: ReduceOp, tensors: tf.Tensor[]): tf.Tensor[] {
    checkReduceOp(op);
    checkTensors(tensors);
    this.#checkSameShapes(tensors);
    return this.#reduce(op, tensors);
  }

  #reduce(op: ReduceOp, tensors: readonly tf.Tensor[]): tf.Tensor[] {
    const flat = new Float32Array(tensors.reduce((total, tensor) => total + tensor.size, 0));
    let offset = 0;
    for (const tensor of tensors) {
      copyValues(tensor, flat.subarray(offset, offset + tensor.size));
      offset += tensor.size;
    }
    const bounds = evenBounds(flat.length, this.parts.numPacks ?? 1);
    const works = bounds
      .slice(1)
      .map((end, i) => this.communicator.allReduceGradients(flat.subarray(bounds[i] as number, end)));
    for (const work of works) work.wait();
    if (op === 'MEAN') for (let i = 0; i < flat.length; i++) flat[i] = (flat[i] as number) / this.numReplicasInSync;
    offset = 0;
    return tensors.map((tensor) => {
      const values = flat.slice(offset, offset + tensor.size);
      offset += tensor.size;
      return tf.tensor(values, tensor.shape, 'float32');
    });
  }

  /** A different list on one replica would add up unrelated values. */
  #checkSameShapes(tensors: readonly tf.Tensor[]): void {
    const text = JSON.stringify(tensors.map(({ shape }) => shape));
    let hash = 0x811c9dc5;
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    const least = Int32Array.of(hash);
    const most = Int32Array.of(hash);
    this.communicator.allReduce(least, 'min');
    this.communicator.allReduce(most, 'max');
    if (least[0] === most[0]) return;
    const lists = gatherValues(this.communicator, text);
    const other = lists.findIndex((list) => list !== lists[0]);
    throw new Error(
      `Replicas reduce different gradients: replica 0 has shapes ${lists[0]?.slice(0, 200)}, replica ${other} has ` +
        `${lists[other]?.slice(0, 200)}.\nhelp: every replica must reduce the same variables in the same order.`,
    );
  }

  mirror(target: MirrorTarget): void {
    this.#mirroring.mirror(target);
  }

  averageStatistics(target: MirrorTarget): void {
    this.#mirroring.averageStatistics(target);
  }

  checkMirrored(): void {
    this.#mirroring.checkMirrored();
  }

  averageMetrics<M extends Metrics>(metrics: M): M {
    return this.#mirroring.averageMetrics(metrics);
  }

  metricAverageCallback(): MetricAverageCallback {
    return this.#mirroring.metricAverageCallback();
  }

  optimizer<Optimizer extends tf.Optimizer>(optimizer: Optimizer): Optimizer {
    return this.#mirroring.optimizer(optimizer);
  }

  trainer(variables: readonly tf.Variable[], options: TrainerOptions): MultiWorkerTrainer {
    const context = {
      ...this.parts,
      isStopRequested: () => this.inner.shouldStop(),
      onStopKnown: (stop: boolean) => {
        this.#stopLearned = stop;
      },
    };
    return this.#mirroring.trainer(variables, () => new MultiWorkerTrainer(variables, options, context));
  }

  shard<T extends Shardable>(data: T): T {
    return shard(data, {
      replica: this.replicaIdInSyncGroup,
      replicas: this.numReplicasInSync,
      gather: (value) => {
        const all = new Int32Array(this.numReplicasInSync);
        this.communicator.allGather(Int32Array.of(value), all);
        return [...all];
      },
    });
  }

  merge<T, R>(value: T, fn: (values: T[]) => R): R {
    if (typeof fn !== 'function') throw new TypeError(`merge() takes a value and a function, got ${typeof fn}.`);
    return fn(gatherValues(this.communicator, value));
  }

  /**
   * True on all replicas of all workers as soon as one worker was asked to stop. Collective. After a trainer's step the
   * answer has come with the step's own exchange; otherwise it costs a small one.
   */
  shouldStop(): boolean {
    const learned = this.#stopLearned;
    this.#stopLearned = null;
    if (learned !== null) return learned;
    const stop = Int32Array.of(this.inner.shouldStop() ? 1 : 0);
    this.communicator.allReduce(stop, 'max');
    return stop[0] === 1;
  }

  report(message: unknown): void {
    this.inner.report(message);
  }
}
