/**
 * A small convolutional network on handwritten digits with `model.fit`, on all cores of this machine.
 *
 *   npx tsc -b examples
 *   node examples/dist/digits-fit.js                  one replica per core
 *   node examples/dist/digits-fit.js --replicas=1     without distribution: the same program
 *   node examples/dist/digits-fit.js --replicas=4 --epochs=5 --images=900
 *
 * Take the five lines marked `Lockstep:` away (and call train() yourself), and it is a plain TensorFlow.js program.
 */
import { isMainThread } from 'node:worker_threads';
import '@lockstep/onednn'; // makes it fast
import { MirroredStrategy, type ReplicaContext } from '@lockstep/distribute'; // Lockstep: 1 of 5
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { digits, type Options, options } from './digits.js';

/** Images per step and replica. */
const BATCH = 32;

/** Trains, and returns each epoch's loss and the accuracy on images that were not trained on. */
// Lockstep: 2 of 5, the context, and that the module exports what is to run
export default async function train(context: ReplicaContext, { epochs, images }: Options) {
  const data = context.shard(digits('train', images)); // Lockstep: 3 of 5
  const model = tfl.sequential({
    layers: [
      tfl.layers.conv2d({ inputShape: [28, 28, 1], filters: 8, kernelSize: 5, strides: 2, activation: 'relu' }),
      tfl.layers.conv2d({ filters: 16, kernelSize: 3, strides: 2, activation: 'relu' }),
      tfl.layers.flatten(),
      tfl.layers.dense({ units: 10, activation: 'softmax' }),
    ],
  });
  model.compile({
    optimizer: context.optimizer(tf.train.adam(0.005)), // Lockstep: 4 of 5
    loss: 'categoricalCrossentropy',
    metrics: ['accuracy'],
  });
  const { history } = await model.fit(data.images, data.labels, { epochs, batchSize: BATCH, verbose: 0 });
  const test = digits('test', 20);
  const [, accuracy] = model.evaluate(test.images, test.labels) as tf.Scalar[];
  return { losses: history.loss as number[], accuracy: (accuracy as tf.Scalar).dataSync()[0] as number };
}

type Result = Awaited<ReturnType<typeof train>>;

if (isMainThread) {
  const { args, devices, backend } = options();
  console.log(`${devices.length} replicas on ${backend}, ${args.images * 10} images, ${BATCH * devices.length} a step`);
  const [result] = await new MirroredStrategy({ devices }).run<Result>(import.meta.url, args); // Lockstep: 5 of 5
  for (const [epoch, loss] of (result?.losses ?? []).entries())
    console.log(`epoch ${epoch + 1}: loss ${loss.toFixed(4)}`);
  console.log(`accuracy on other images: ${((result?.accuracy ?? 0) * 100).toFixed(1)} %`);
}
