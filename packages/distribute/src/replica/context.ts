/**
 * The one implementation of ReplicaContext, made of parts: what differs between replicas on threads, of several processes, and with
 * parameter servers is in {@link ContextParts}, which replica-worker.ts and the strategies' replica modules put together.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Communicator } from '../communicator/communicator.js';
import { gatherValues } from '../communicator/gather.js';
import type { SharedMemoryCommunicator } from '../communicator/shared-memory-communicator.js';
import type { CrossDeviceOps } from '../cross-device-ops/cross-device-ops.js';
import { checkReduceOp, type ReduceOp } from '../cross-device-ops/reduce-op.js';
import { type Shardable, shard } from '../data/shard.js';
import type { DeviceDescription } from '../devices/device.js';
import { copyValues } from '../devices/host-access.js';
import { sayOnce } from '../log.js';
import { finish, mix } from '../mirror/fingerprint.js';
import type { MirrorTarget } from '../mirror/mirror.js';
import type { MetricAverageCallback, Metrics } from '../trainer/average-metrics.js';
import { FlatTrainer } from '../trainer/flat-trainer.js';
import type { OptimizerOptions } from '../trainer/optimizer-options.js';
import type { FlatLayout, Reducer } from '../trainer/reducer.js';
import type { Trainer, TrainerOptions } from '../trainer/trainer.js';
import { checkTensors } from './check-tensors.js';
import { Mirroring } from './mirroring.js';
import type { ReplicaContext } from './replica-context.js';
import type { SharedStop } from './shared-stop.js';
import { Summary, type SummaryEvent } from './summary.js';

/** See the file's head. */
export interface ContextParts {
  readonly device: DeviceDescription;
  /** The replicas in step. */
  readonly communicator: Communicator;
  /** Of them, those of this process, and the memory that they share. */
  readonly local: SharedMemoryCommunicator;
  /** Of this process. */
  readonly crossDeviceOps: CrossDeviceOps;
  readonly input: {
    readonly pipelineId: number;
    readonly pipelines: number;
    readonly replicaId: number;
    readonly replicas: number;
  };
  /** False where workers train on without each other. */
  readonly isInStep: boolean;
  /** Every replica's `flat`, which lies in the memory of `local`, becomes the sum over the replicas in step. Collective. */
  sum(flat: Float32Array): void;
  makeReducer(layout: FlatLayout, crossDeviceOps: CrossDeviceOps): Reducer;
  /** Counts a step, of a trainer or an optimizer. */
  beginStep(): void;
  /** Whether this process was asked to stop: the same answer on its replicas at the same call. */
  shouldStop(): boolean;
  /** Where others may have been asked to stop. Absent: {@link shouldStop} is the whole answer. */
  readonly stop?: SharedStop;
  report(message: unknown): void;
  /** Takes summaries on the main thread; null: nobody does. */
  readonly summarize: ((event: SummaryEvent) => void) | null;
  /** Why context.optimizer() is not to be had; absent where it is. */
  readonly noOptimizer?: string;
}

/** See the file's head. */
export class Context implements ReplicaContext {
  readonly replicaIdInSyncGroup: number;
  readonly numReplicasInSync: number;
  readonly inputPipelineId: number;
  readonly numInputPipelines: number;
  readonly inputReplicaId: number;
  readonly numInputReplicas: number;
  readonly device: DeviceDescription;
  readonly threads: number;
  readonly communicator: Communicator;
  readonly crossDeviceOps: CrossDeviceOps;
  readonly sharedMemory: SharedMemoryCommunicator;
  readonly summary: Summary;
  readonly #mirroring: Mirroring;
  #scratch: Float32Array = new Float32Array();

  constructor(readonly parts: ContextParts) {
    const { communicator, device, input } = parts;
    this.replicaIdInSyncGroup = communicator.rank;
    this.numReplicasInSync = communicator.size;
    this.inputPipelineId = input.pipelineId;
    this.numInputPipelines = input.pipelines;
    this.inputReplicaId = input.replicaId;
    this.numInputReplicas = input.replicas;
    this.device = device;
    this.threads = device.threads;
    this.communicator = communicator;
    this.crossDeviceOps = parts.crossDeviceOps;
    this.sharedMemory = parts.local;
    const isChief = input.pipelineId === 0 && parts.local.rank === 0;
    this.summary = new Summary(isChief ? parts.summarize : null);
    this.#mirroring = new Mirroring({
      communicator,
      mean: (tensors) => this.#reduce('MEAN', tensors),
      beginStep: () => parts.beginStep(),
      local: parts.local,
      makeReducer: (layout) => parts.makeReducer(layout, this.crossDeviceOps),
    });
  }

  allReduce(op: ReduceOp, tensors: tf.Tensor[]): tf.Tensor[] {
    checkReduceOp(op);
    checkTensors(tensors);
    if (this.numReplicasInSync === 1) return tensors.map((tensor) => tensor.clone());
    this.#checkSameSizes(tensors);
    return this.#reduce(op, tensors);
  }

  #reduce(op: ReduceOp, tensors: readonly tf.Tensor[]): tf.Tensor[] {
    const flat = this.#flat(tensors.reduce((total, tensor) => total + tensor.size, 0));
    let offset = 0;
    for (const tensor of tensors) {
      copyValues(tensor, flat.subarray(offset, offset + tensor.size));
      offset += tensor.size;
    }
    this.parts.sum(flat);
    if (op === 'MEAN') for (let i = 0; i < flat.length; i++) flat[i] = (flat[i] as number) / this.numReplicasInSync;
    offset = 0;
    return tensors.map((tensor) => {
      const values = flat.slice(offset, offset + tensor.size);
      offset += tensor.size;
      return tf.tensor(values, tensor.shape, 'float32');
    });
  }

  /** This replica's `length` elements of memory in which replicas reduce without copying. */
  #flat(length: number): Float32Array {
    if (this.#scratch.length < length) {
      // Powers of two, because flat memory is never given back.
      const each = this.sharedMemory.allocateSymmetric(2 ** Math.ceil(Math.log2(Math.max(length, 1024))));
      this.#scratch = each[this.sharedMemory.rank] as Float32Array;
    }
    return this.#scratch.subarray(0, length);
  }

  /** A different list on one replica would add up unrelated values, so numbers and sizes are compared every time. */
  #checkSameSizes(tensors: readonly tf.Tensor[]): void {
    const send = Int32Array.of(tensors.length, hashSizes(tensors));
    const all = new Int32Array(2 * this.numReplicasInSync);
    this.communicator.allGather(send, all);
    const isSame = all.every((value, i) => value === all[i % 2]);
    if (isSame) return;
    const lists = gatherValues(
      this.communicator,
      tensors.map((tensor) => tensor.shape),
    );
    const found = lists.map((shapes, replica) => `replica ${replica} has ${shapes.length} tensors`).join(', ');
    const different = lists.findIndex((shapes) => JSON.stringify(shapes) !== JSON.stringify(lists[0]));
    const first = (lists[different] ?? []).findIndex(
      (shape, i) => JSON.stringify(shape) !== JSON.stringify(lists[0]?.[i]),
    );
    throw new Error(
      `Replicas reduce different gradients: ${found}` +
        (first >= 0
          ? `; tensor ${first} is [${lists[different]?.[first]}] on replica ${different}, [${lists[0]?.[first] ?? 'missing'}] on replica 0`
          : '') +
        '.\nhelp: every replica must reduce the same variables in the same order.',
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

  optimizer<Optimizer extends tf.Optimizer>(optimizer: Optimizer, options: OptimizerOptions = {}): Optimizer {
    if (this.parts.noOptimizer !== undefined) throw new Error(this.parts.noOptimizer);
    return this.#mirroring.optimizer(optimizer, options);
  }

  trainer(variables: readonly tf.Variable[], options: TrainerOptions, crossDeviceOps = this.crossDeviceOps): Trainer {
    const { communicator, local, isInStep, stop } = this.parts;
    const parts = {
      ...{ communicator, local, memory: local.memory, isInStep, stop },
      makeReducer: (layout: FlatLayout) => this.parts.makeReducer(layout, crossDeviceOps),
      beginStep: () => this.parts.beginStep(),
      warn: sayOnce(communicator),
    };
    return this.#mirroring.trainer(variables, () => new FlatTrainer(variables, options, parts));
  }

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
    if (typeof fn !== 'function') throw new TypeError(`merge() takes a value and a function, got ${typeof fn}.`);
    return fn(gatherValues(this.communicator, value));
  }

  shouldStop(): boolean {
    return this.parts.stop ? this.parts.stop.answer() : this.parts.shouldStop();
  }

  report(message: unknown): void {
    this.parts.report(message);
  }
}

function hashSizes(tensors: readonly tf.Tensor[]): number {
  let hash = 0;
  for (const { shape } of tensors) {
    for (const value of [shape.length, ...shape]) hash = mix(hash, value);
  }
  return finish(hash, tensors.length);
}
