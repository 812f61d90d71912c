/**
 * ReplicaContext: what a replica function gets. tf.distribute's ReplicaContext and `strategy.extended`, as one object.
 *
 * It runs in the replica's thread, beside the replica's own TensorFlow.js engine. Everything marked collective must be
 * called by every replica, in the same order: there is no negotiation.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Communicator } from '../communicator/communicator.js';
import { gatherValues } from '../communicator/gather.js';
import type { SharedMemoryCommunicator } from '../communicator/shared-memory-communicator.js';
import type { CrossDeviceOps } from '../cross-device-ops/cross-device-ops.js';
import { type Shardable, shard } from '../data/shard.js';
import type { DeviceDescription } from '../devices/device.js';
import type { MirrorTarget } from '../mirror/mirror.js';
import type { MetricAverageCallback, Metrics } from '../optimizer/average-metrics.js';
import { Trainer, type TrainerOptions } from '../optimizer/trainer.js';
import { checkReduceOp, type ReduceOp } from '../strategy/enums.js';
import { checkTensors } from './check-tensors.js';
import type { ControlBlock } from './control-block.js';
import type { CountingCommunicator } from './counting-communicator.js';
import { Mirroring } from './mirroring.js';
import { copyValues } from './tensor-values.js';

/** What a context is made of. */
export interface ReplicaContextParts {
  readonly replica: number;
  readonly replicas: number;
  readonly device: DeviceDescription;
  readonly communicator: CountingCommunicator;
  readonly control: ControlBlock;
  readonly crossDeviceOps: CrossDeviceOps;
  readonly report: (message: unknown) => void;
}

/** See the file's head. */
export class ReplicaContext {
  /** 0..numReplicasInSync−1. */
  readonly replicaIdInSyncGroup: number;
  readonly numReplicasInSync: number;
  /** tf.distribute.InputContext: which worker reads, of how many. One process alone is worker 0 of 1. */
  readonly inputPipelineId: number = 0;
  readonly numInputPipelines: number = 1;
  /** This replica among all that read parts of the same data, of all workers; what {@link shard} goes by. */
  readonly inputReplicaId: number;
  readonly numInputReplicas: number;
  readonly device: DeviceDescription;
  /** Compute threads of this replica. */
  readonly threads: number;
  /** The group, for anything that the methods below do not cover. */
  readonly communicator: Communicator;
  readonly crossDeviceOps: CrossDeviceOps;
  readonly #parts: ReplicaContextParts;
  readonly #mirroring: Mirroring;
  #stopQuestions = 0;
  #scratch: Float32Array = new Float32Array();

  constructor(parts: ReplicaContextParts) {
    this.#parts = parts;
    this.replicaIdInSyncGroup = parts.replica;
    this.numReplicasInSync = parts.replicas;
    this.inputReplicaId = parts.replica;
    this.numInputReplicas = parts.replicas;
    this.device = parts.device;
    this.threads = parts.device.threads;
    this.communicator = parts.communicator;
    this.crossDeviceOps = parts.crossDeviceOps;
    this.#mirroring = new Mirroring({
      communicator: parts.communicator,
      mean: (tensors) => this.#reduce('MEAN', tensors),
      beginStep: () => parts.control.beginStep(parts.replica),
    });
  }

  /** The replicas of this process as one group, with the flat memory in which cross-device ops and FlatReducer work. */
  get sharedMemory(): SharedMemoryCommunicator {
    return this.#parts.communicator.inner;
  }

  /**
   * Sum or mean of each float32 tensor over all replicas, packed as the cross-device ops say. Collective.
   * @returns new tensors of the same shapes, bit-identical on all replicas.
   */
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
    this.#parts.communicator.counted(() => this.crossDeviceOps.allReduce(this.#parts.communicator.inner, flat));
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
      const each = this.#parts.communicator.inner.allocateSymmetric(2 ** Math.ceil(Math.log2(Math.max(length, 1024))));
      this.#scratch = each[this.replicaIdInSyncGroup] as Float32Array;
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

  /**
   * Gives every replica the values that replica 0 has, of a model (moving statistics included) or of variables. Collective.
   * @throws Error naming the first difference if the replicas' variables do not match.
   */
  mirror(target: MirrorTarget): void {
    this.#mirroring.mirror(target);
  }

  /**
   * Sets variables that each replica keeps for itself, such as batch norm's moving statistics, to their mean over replicas:
   * before they are saved, or read for evaluation. What is trained together is compared, as {@link checkMirrored} does. Collective.
   */
  averageStatistics(target: MirrorTarget): void {
    this.#mirroring.averageStatistics(target);
  }

  /**
   * Throws unless all that optimizers and trainers of this context train is the same on all replicas, naming the first variable that
   * is not and who has what. Steps do so every now and then; call it before saving. Collective.
   */
  checkMirrored(): void {
    this.#mirroring.checkMirrored();
  }

  /**
   * Sets each metric to its mean over replicas, in place, and returns the record: for whatever decides something, such as a plateau,
   * an early stop or the best checkpoint, which all replicas must decide alike. Collective.
   * @throws Error if replicas have different metrics.
   */
  averageMetrics<M extends Metrics>(metrics: M): M {
    return this.#mirroring.averageMetrics(metrics);
  }

  /**
   * A callback of `model.fit` that does {@link averageMetrics} with the logs of each epoch. It comes first in the list, so that those
   * behind it and the history see the means: `[new tfl.CustomCallback(context.metricAverageCallback()), tfl.callbacks.earlyStopping()]`.
   */
  metricAverageCallback(): MetricAverageCallback {
    return this.#mirroring.metricAverageCallback();
  }

  /**
   * Makes any TensorFlow.js optimizer distributed: gradients are packed, averaged over replicas, then applied.
   * Works with `model.compile`, `optimizer.minimize`, and `tf.variableGrads` with `applyGradients`. The same object is returned.
   * Variables are mirrored when they are first seen: those that exist now, and later ones in the step that names them. In each step
   * replicas compare which variables have gradients and what the optimizer is set to. Collective.
   * @throws TypeError for what is no optimizer; Error for one that is distributed already. Its steps throw an Error, the same on all
   * replicas and before any weight changes, if something differs that must not.
   */
  optimizer<Optimizer extends tf.Optimizer>(optimizer: Optimizer): Optimizer {
    return this.#mirroring.optimizer(optimizer);
  }

  /**
   * The fast path: weights, optimizer slots and gradients in flat shared memory. Collective.
   * Replica 0's values of `variables` become everybody's; from then on the variables are views of `trainer.weights`.
   * @param crossDeviceOps How gradients are reduced. Default: as the strategy does.
   */
  trainer(
    variables: readonly tf.Variable[],
    options: TrainerOptions,
    crossDeviceOps: CrossDeviceOps = this.crossDeviceOps,
  ): Trainer {
    const context = {
      replica: this.replicaIdInSyncGroup,
      replicas: this.numReplicasInSync,
      communicator: this.#parts.communicator,
      crossDeviceOps,
      control: this.#parts.control,
    };
    return this.#mirroring.trainer(variables, () => new Trainer(variables, options, context));
  }

  /**
   * This replica's part of a data set: arrays, tensors, records of those, iterables, async iterables, tf.data data sets.
   * The number of elements, hence of steps, is the same on every replica, always. Collective; so is each element of a stream.
   */
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

  /**
   * Meets all replicas: `fn` runs on each with the list of everybody's values, in replica order. Collective.
   * @param value Small plain data: numbers (NaN, infinities and −0 arrive as they are), strings, undefined, arrays, typed arrays,
   * objects, dates, maps, sets.
   * @throws TypeError for what cannot be sent, such as tensors and functions, naming its place in `value`.
   */
  merge<T, R>(value: T, fn: (values: T[]) => R): R {
    if (typeof fn !== 'function') throw new TypeError(`merge() takes a value and a function, got ${typeof fn}.`);
    return fn(gatherValues(this.communicator, value));
  }

  /**
   * True once the run is to end (its signal fired); the same answer on every replica at the same call. Ask once per step.
   * Costs one atomic read; nobody waits.
   */
  shouldStop(): boolean {
    return this.#parts.control.shouldStop(++this.#stopQuestions);
  }

  /** Sends `message` (anything that `structuredClone` takes) to `onReport` on the main thread. */
  report(message: unknown): void {
    this.#parts.report(message);
  }
}

/** FNV-1a over shapes: 32 bits that differ, all but surely, when shapes do. */
function hashSizes(tensors: readonly tf.Tensor[]): number {
  let hash = 0x811c9dc5;
  for (const { shape } of tensors) {
    for (const value of [shape.length, ...shape]) hash = Math.imul(hash ^ value, 0x01000193);
  }
  return hash;
}
