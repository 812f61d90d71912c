/**
 * What a context does so that replicas stay mirrors, the same for replicas on threads and of several processes: mirrors variables,
 * distributes optimizers, knows the trainers, compares weights before they are saved, averages what decides something. How
 * gradients are summed is the context's.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Communicator } from '../communicator/communicator.js';
import { gatherValues } from '../communicator/gather.js';
import type { SharedMemoryCommunicator } from '../communicator/shared-memory-communicator.js';
import { readNow } from '../devices/host-access.js';
import { defaultLog } from '../log.js';
import {
  averageVariables,
  type MirrorContext,
  type MirrorTarget,
  mirrorVariables,
  variablesOf,
} from '../mirror/mirror.js';
import { MirroredVariables } from '../mirror/mirrored-variables.js';
import { averageMetrics, type MetricAverageCallback, type Metrics } from '../trainer/average-metrics.js';
import { distributeOptimizer } from '../trainer/distributed-optimizer.js';
import { watchForForgotten } from '../trainer/forgotten-optimizer.js';
import type { OptimizerOptions } from '../trainer/optimizer-options.js';
import type { FlatLayout, Reducer } from '../trainer/reducer.js';
import type { Trainer } from '../trainer/trainer.js';

export interface MirroringParts {
  /** The replicas that are in step. */
  readonly communicator: Communicator;
  /** Mean over replicas of each tensor; new tensors. The lists have been compared. Collective. */
  mean(tensors: readonly tf.Tensor[]): tf.Tensor[];
  /** Counts a step of an optimizer. */
  beginStep(): void;
  /** The replicas of this process, and what they share, for the flat path of optimizers. */
  readonly local: SharedMemoryCommunicator;
  makeReducer(layout: FlatLayout): Reducer;
}

/** See the file's head. */
export class Mirroring {
  readonly #context: MirrorContext;
  readonly #mirrored: MirroredVariables;
  readonly #trainers: Trainer[] = [];

  constructor(private readonly parts: MirroringParts) {
    const { communicator } = parts;
    const gather = <T>(value: T) => gatherValues(communicator, value);
    this.#context = { communicator, replicas: communicator.size, gather };
    this.#mirrored = new MirroredVariables(this.#context);
    if (communicator.size > 1) watchForForgotten(communicator.size, communicator.rank === 0 ? defaultLog : null);
  }

  mirror(target: MirrorTarget): void {
    mirrorVariables(target, this.#context);
  }

  /** Statistics become their mean; what is trained together is compared instead: a mean would hide that it is not the same. */
  averageStatistics(target: MirrorTarget): void {
    this.checkMirrored();
    const own = variablesOf(target).filter((variable) => !this.#mirrored.isTrainedTogether(variable));
    averageVariables(own, this.#context);
  }

  /** Throws unless everything that is trained together is the same on all replicas. Collective. */
  checkMirrored(): void {
    this.#mirrored.check('now');
    for (const trainer of this.#trainers) trainer.checkMirrored();
  }

  averageMetrics<M extends Metrics>(metrics: M): M {
    return averageMetrics(metrics, this.#context.gather);
  }

  metricAverageCallback(): MetricAverageCallback {
    return {
      onEpochEnd: async (_epoch, logs) => {
        if (logs) this.averageMetrics(logs);
      },
    };
  }

  optimizer<Optimizer extends tf.Optimizer>(optimizer: Optimizer, options: OptimizerOptions): Optimizer {
    const { communicator, mean, beginStep, local, makeReducer } = this.parts;
    const { gather, replicas } = this.#context;
    return distributeOptimizer(optimizer, options, {
      flat: { memory: local.memory, local, replicas, makeReducer, gather },
      mirrored: this.#mirrored,
      mean,
      beginStep,
      gather,
      first: (tensors) => tensors.map((tensor) => firstOf(tensor, communicator)),
      exchange: (numbers) => {
        const all = new Float64Array(replicas * numbers.length);
        communicator.allGather(numbers, all);
        return all;
      },
      warn: (line) => {
        if (communicator.rank === 0) defaultLog(line);
      },
    });
  }

  /** Makes a trainer; everything else that replicas have so far, frozen layers and statistics, is mirrored with it. Collective. */
  trainer(variables: readonly tf.Variable[], make: () => Trainer): Trainer {
    const trainer = make();
    this.#mirrored.leave(variables);
    this.#mirrored.mirrorOthers();
    this.#trainers.push(trainer);
    return trainer;
  }
}

function firstOf(tensor: tf.Tensor, communicator: Communicator): tf.Tensor {
  const values = (readNow(tensor) as Float32Array).slice();
  communicator.broadcast(values, 0);
  return tf.tensor(values, tensor.shape, 'float32');
}
