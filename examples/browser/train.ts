/**
 * What each replica runs, in a Web Worker of a page or in a thread of Node: a small convolutional network learns handwritten digits. It
 * knows nothing of where it runs; the marked lines are all that distributes it.
 */
import type { ReplicaContext } from '@lockstep/distribute'; // Lockstep
import * as tf from '@tensorflow/tfjs-core';

/** What the page hands to every replica. */
export interface Task {
  /** 28 × 28 grey pixels of each digit, one after another; shared memory. */
  readonly pixels: Uint8Array;
  readonly labels: Uint8Array;
  /** Digits to train on; those behind them are held out. */
  readonly training: number;
  readonly steps: number;
  /** Digits per step over all replicas. */
  readonly batchSize: number;
  readonly learningRate: number;
}

/** What a replica reports after each step. */
export interface Progress {
  readonly step: number;
  /** Mean over all replicas. */
  readonly loss: number;
  /** Of this replica. */
  readonly milliseconds: number;
}

export interface Outcome {
  readonly losses: number[];
  readonly weights: Float32Array;
  /** Of the held-out digits, over all replicas. */
  readonly accuracy: number;
}

const SIDE = 28;
const CLASSES = 10;

export default async function train(context: ReplicaContext, task: Task): Promise<Outcome> {
  const network = new Network();
  const optimizer = { kind: 'momentum', momentum: 0.9 } as const;
  const trainer = context.trainer(network.variables, { optimizer }); // Lockstep
  const own = task.batchSize / context.numReplicasInSync; // Lockstep
  const losses: number[] = [];
  for (let step = 0; step < task.steps && !context.shouldStop(); step++) {
    const begin = performance.now();
    const first = step * task.batchSize + context.replicaIdInSyncGroup * own; // Lockstep
    const { loss } = await trainer.step(
      () => network.loss(...digits(task, first, own, 0, task.training)),
      task.learningRate,
    );
    losses.push(loss);
    context.report({ step: step + 1, loss, milliseconds: performance.now() - begin } satisfies Progress); // Lockstep
    // A worker hears nothing while it computes.
    await new Promise((resolve) => setTimeout(resolve));
  }
  const held = Math.floor((task.labels.length - task.training) / context.numReplicasInSync); // Lockstep
  const right = network.countRight(...digits(task, context.replicaIdInSyncGroup * held, held, task.training));
  const all = context.merge(right, (counts) => counts.reduce((sum, count) => sum + count, 0)); // Lockstep
  return { losses, weights: trainer.weights.slice(), accuracy: all / (held * context.numReplicasInSync) };
}

/** `count` digits from `first` on, of those from `from` to `to`; behind the last one the first follows. */
function digits(
  { pixels, labels }: Task,
  first: number,
  count: number,
  from: number,
  to = labels.length,
): [tf.Tensor4D, tf.Tensor2D] {
  const size = SIDE * SIDE;
  const images = new Float32Array(count * size);
  const classes = new Float32Array(count * CLASSES);
  for (let i = 0; i < count; i++) {
    const at = from + ((first + i) % (to - from));
    for (let p = 0; p < size; p++) images[i * size + p] = (pixels[at * size + p] as number) / 255;
    classes[i * CLASSES + (labels[at] as number)] = 1;
  }
  return [tf.tensor4d(images, [count, SIDE, SIDE, 1]), tf.tensor2d(classes, [count, CLASSES])];
}

/** Two convolutions of stride 2, and a dense layer. */
class Network {
  readonly #convolution1 = weights([3, 3, 1, 8], 9, 1);
  readonly #convolution2 = weights([3, 3, 8, 16], 72, 2);
  readonly #dense = weights([7 * 7 * 16, CLASSES], 7 * 7 * 16, 3);
  readonly #bias = tf.variable(tf.zeros([CLASSES]), true, 'bias');
  readonly variables = [this.#convolution1, this.#convolution2, this.#dense, this.#bias];

  loss(images: tf.Tensor4D, classes: tf.Tensor2D): tf.Scalar {
    const logits = this.#logits(images);
    return tf.neg(tf.mean(tf.sum(tf.mul(classes, tf.logSoftmax(logits)), 1)));
  }

  countRight(images: tf.Tensor4D, classes: tf.Tensor2D): number {
    const right = tf.equal(tf.argMax(this.#logits(images), 1), tf.argMax(classes, 1));
    return tf.sum(tf.cast(right, 'int32')).dataSync()[0] as number;
  }

  #logits(images: tf.Tensor4D): tf.Tensor2D {
    const first = tf.relu(tf.conv2d(images, this.#convolution1 as tf.Tensor4D, 2, 'same'));
    const second = tf.relu(tf.conv2d(first as tf.Tensor4D, this.#convolution2 as tf.Tensor4D, 2, 'same'));
    const flat = tf.reshape(second, [images.shape[0], 7 * 7 * 16]) as tf.Tensor2D;
    return tf.add(tf.matMul(flat, this.#dense as tf.Tensor2D), this.#bias);
  }
}

/** He's initialization, the same for the same seed. */
function weights(shape: number[], inputs: number, seed: number): tf.Variable {
  return tf.variable(tf.truncatedNormal(shape, 0, Math.sqrt(2 / inputs), 'float32', seed), true, `weights ${seed}`);
}
