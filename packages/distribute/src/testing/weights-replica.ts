/**
 * For tests: the replica function whose weights are hashed, bit by bit, for each strategy.
 *
 * The loss is made of products and sums of products alone, so that its gradients are the same bits with every backend: each operation on
 * an element is one that IEEE 754 rounds in one way.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { ReplicaContext } from '../replica/replica-context.js';
import type { OptimizerConfig } from '../trainer/optimizers/create.js';

export interface WeightsTask {
  readonly optimizers: readonly OptimizerConfig[];
  readonly steps: number;
  /** A dynamic loss scale that begins here: a large one has its first steps skipped. */
  readonly initialLossScale?: number;
  /**
   * Every replica has the same gradients, which are the data: of so few digits that sums of a few and their means are exact. Then all
   * bits are those of one replica.
   */
  readonly isEqual?: boolean;
}

/** More than one chunk, more than one pack; a scalar, and a variable without elements. */
const SHAPES: readonly number[][] = [[170, 100], [5], [], [0, 3], [300, 7], [11]];

/** A number in [−0.5, 0.5) from whole numbers alone. */
function numberAt(...place: number[]): number {
  let hash = 0x811c9dc5;
  for (const value of place) {
    hash = Math.imul(hash ^ value, 0x01000193);
    hash ^= hash >>> 15;
  }
  return (hash >>> 0) / 2 ** 32 - 0.5;
}

function tensorAt(shape: readonly number[], isCoarse: boolean, ...place: number[]): tf.Tensor {
  const size = shape.reduce((product, length) => product * length, 1);
  const digits = isCoarse ? 2 ** 10 : 2 ** 32;
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => Math.round(numberAt(i, ...place) * digits) / digits),
    [...shape],
    'float32',
  );
}

/** Over the bits of all arrays. */
export function hashBits(...arrays: Float32Array[]): string {
  let hash = 0x811c9dc5;
  for (const array of arrays) {
    for (const byte of new Uint8Array(array.slice().buffer)) hash = Math.imul(hash ^ byte, 0x01000193);
  }
  return (hash >>> 0).toString(16).padStart(8, '0');
}

/** Entry point of the replicas. @returns of each optimizer a hash of the weights, and of its slots. */
export default async function train(context: ReplicaContext, task: WeightsTask): Promise<string[]> {
  const { inputReplicaId: own } = context;
  const { isEqual = false } = task;
  const hashes: string[] = [];
  for (const optimizer of task.optimizers) {
    // Every replica begins with other values: replica 0's have to win.
    const variables = SHAPES.map((shape, i) => tf.variable(tensorAt(shape, false, i, own), true, `w${i}`));
    const trainer = context.trainer(variables, {
      optimizer,
      weightDecay: { rate: 0.03, applies: (variable) => variable.shape.length > 1 },
      ...(task.initialLossScale !== undefined && { lossScale: { initial: task.initialLossScale } }),
    });
    for (let step = 0; step < task.steps; step++) {
      const part = isEqual ? 0 : own;
      const data = variables.map(({ shape }, i) => tensorAt(shape, isEqual, 100 + i, step, part));
      await trainer.step(() => {
        // The last one is not reached by the loss.
        const terms = variables.slice(0, -1).map((variable, i) => {
          const factor = isEqual ? variable : tf.square(variable);
          return tf.sum(tf.mul(factor, data[i] as tf.Tensor));
        });
        return tf.addN(terms) as tf.Scalar;
      }, 0.125);
      tf.dispose(data);
    }
    trainer.pull();
    const found = `${hashBits(trainer.weights)} ${hashBits(...Object.values(trainer.slots))}`;
    tf.dispose(variables);
    hashes.push(found);
  }
  return hashes;
}
