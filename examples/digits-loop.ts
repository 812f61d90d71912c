/**
 * A hand-written training loop, no layers: a small convolutional network on handwritten digits, on all cores.
 *
 *   npx tsc -b examples
 *   node examples/dist/digits-loop.js                 one replica per core
 *   node examples/dist/digits-loop.js --replicas=1    without distribution: the same program
 *   node examples/dist/digits-loop.js --replicas=4 --epochs=5 --images=900
 *
 * Take the five lines marked `Lockstep:` away (and call train() yourself), and it is a plain TensorFlow.js program.
 * With `context.trainer(variables, …)` instead of an optimizer the same loop updates flat shared buffers, which is faster.
 */
import { isMainThread } from 'node:worker_threads';
import '@lockstep/onednn'; // makes it fast
import { MirroredStrategy, type ReplicaContext } from '@lockstep/distribute'; // Lockstep: 1 of 5
import * as tf from '@tensorflow/tfjs-core';
import { digits, type Options, options } from './digits.js';

/** Images per step and replica. */
const BATCH = 32;

/** Trains, and returns each epoch's mean loss and the accuracy on images that were not trained on. */
// Lockstep: 2 of 5, the context, and that the module exports what is to run
export default function train(context: ReplicaContext, { epochs, images }: Options) {
  const data = context.shard(digits('train', images)); // Lockstep: 3 of 5
  const first = tf.variable(tf.randomNormal<tf.Rank.R4>([5, 5, 1, 8], 0, 0.2));
  const second = tf.variable(tf.randomNormal<tf.Rank.R4>([3, 3, 8, 16], 0, 0.12));
  const dense = tf.variable(tf.randomNormal<tf.Rank.R2>([5 * 5 * 16, 10], 0, 0.05));
  const bias = tf.variable(tf.zeros<tf.Rank.R1>([10]));
  const logits = (x: tf.Tensor4D) => {
    const half = tf.relu(tf.conv2d(x, first, 2, 'valid'));
    const quarter = tf.relu(tf.conv2d(half, second, 2, 'valid'));
    return tf.add(tf.matMul(tf.reshape<tf.Rank.R2>(quarter, [-1, 5 * 5 * 16]), dense), bias);
  };
  const optimizer = context.optimizer(tf.train.momentum(0.05, 0.9)); // Lockstep: 4 of 5
  const steps = Math.floor(data.images.shape[0] / BATCH);
  const losses: number[] = [];
  for (let epoch = 0; epoch < epochs; epoch++) {
    let total = 0;
    for (let step = 0; step < steps; step++) {
      total += tf.tidy(() => {
        const x = tf.slice(data.images, [step * BATCH, 0, 0, 0], [BATCH, 28, 28, 1]);
        const labels = tf.slice(data.labels, [step * BATCH, 0], [BATCH, 10]);
        const loss = () => tf.losses.softmaxCrossEntropy(labels, logits(x)) as tf.Scalar;
        return (optimizer.minimize(loss, true) as tf.Scalar).dataSync()[0] as number;
      });
    }
    losses.push(total / steps);
  }
  const test = digits('test', 20);
  const accuracy = tf.tidy(() => {
    const hits = tf.equal(tf.argMax(logits(test.images), 1), tf.argMax(test.labels, 1));
    return tf.mean(tf.cast(hits, 'float32')).dataSync()[0] as number;
  });
  return { losses, accuracy };
}

type Result = ReturnType<typeof train>;

if (isMainThread) {
  const { args, devices, backend } = options();
  console.log(`${devices.length} replicas on ${backend}, ${args.images * 10} images, ${BATCH * devices.length} a step`);
  const [result] = await new MirroredStrategy({ devices }).run<Result>(import.meta.url, args); // Lockstep: 5 of 5
  for (const [epoch, loss] of (result?.losses ?? []).entries())
    console.log(`epoch ${epoch + 1}: loss ${loss.toFixed(4)}`);
  console.log(`accuracy on other images: ${((result?.accuracy ?? 0) * 100).toFixed(1)} %`);
}
