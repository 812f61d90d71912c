/**
 * Callbacks that decide something, with `model.fit` on many replicas: a smaller learning rate on a plateau, an early stop, and a
 * checkpoint of the best epoch. Each replica sees its own part of the data, so each has a loss of its own; decisions are taken from
 * the mean, which is the same number everywhere, or replicas would stop being mirrors.
 *
 *   npx tsc -b examples
 *   node examples/dist/digits-callbacks.js --replicas=2 --epochs=12 --save=best.json
 *
 * The lines marked `Lockstep:` are the five of digits-fit.ts, and one for the callbacks.
 */
import { writeFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import '@lockstep/onednn'; // makes it fast
import { MirroredStrategy, type ReplicaContext } from '@lockstep/distribute'; // Lockstep: 1
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { digits, type Options, options } from './digits.js';

/** Images per step and replica. */
const BATCH = 32;
/** Epochs without a better loss after which the rate is halved, and after which training ends. */
const PLATEAU = 1;
const PATIENCE = 3;

interface Arguments extends Options {
  /** File for the best epoch's weights; none if empty. */
  readonly save: string;
}

/** Trains; what each epoch saw and decided, which is the same on every replica. */
// Lockstep: 2
export default async function train(context: ReplicaContext, { epochs, images, save }: Arguments) {
  const data = context.shard(digits('train', images)); // Lockstep: 3
  const test = context.shard(digits('test', 20));
  const model = tfl.sequential({
    layers: [
      tfl.layers.flatten({ inputShape: [28, 28, 1] }),
      tfl.layers.dense({
        units: 32,
        activation: 'relu',
        kernelInitializer: tfl.initializers.glorotUniform({ seed: 1 }),
      }),
      tfl.layers.batchNormalization({ momentum: 0.8 }),
      tfl.layers.dense({
        units: 10,
        activation: 'softmax',
        kernelInitializer: tfl.initializers.glorotUniform({ seed: 2 }),
      }),
    ],
  });
  const optimizer = context.optimizer(tf.train.sgd(0.5)); // Lockstep: 4
  model.compile({ optimizer, loss: 'categoricalCrossentropy' });

  const log: { loss: number; rate: number; saved: boolean }[] = [];
  let best = Number.POSITIVE_INFINITY;
  let since = 0;
  const decide = new tfl.CustomCallback({
    onEpochEnd: async (_epoch, logs) => {
      const loss = logs?.val_loss as number;
      const isBest = loss < best;
      since = isBest ? 0 : since + 1;
      if (isBest) {
        best = loss;
        context.averageStatistics(model); // before saving: compares what is trained, averages moving statistics
        if (save && context.replicaIdInSyncGroup === 0) writeFileSync(save, JSON.stringify(valuesOf(model)));
      }
      if (since > 0 && since % PLATEAU === 0) optimizer.setLearningRate(rateOf(optimizer) / 2);
      log.push({ loss, rate: rateOf(optimizer), saved: isBest });
    },
  });
  await model.fit(data.images, data.labels, {
    epochs,
    batchSize: BATCH,
    shuffle: false, // the digits come in turn
    verbose: 0,
    validationData: [test.images, test.labels],
    callbacks: [
      new tfl.CustomCallback(context.metricAverageCallback()), // Lockstep: first, so that the others see the means
      decide,
      tfl.callbacks.earlyStopping({ monitor: 'val_loss', patience: PATIENCE }),
    ],
  });
  context.averageStatistics(model); // until here moving statistics were each replica's own
  return { log, weights: valuesOf(model) };
}

const valuesOf = (model: tfl.LayersModel) => model.getWeights().map((weight) => Array.from(weight.dataSync()));
const rateOf = (optimizer: tf.SGDOptimizer) => optimizer.getConfig().learningRate as number;

if (isMainThread) {
  const { args, save, devices, backend } = options();
  console.log(`${devices.length} replicas on ${backend}, ${args.images * 10} images`);
  const strategy = new MirroredStrategy({ devices });
  const results = await strategy.run<Awaited<ReturnType<typeof train>>>(import.meta.url, { ...args, save }); // Lockstep: 5
  for (const [epoch, { loss, rate, saved }] of (results[0]?.log ?? []).entries())
    console.log(`epoch ${epoch + 1}: loss ${loss.toFixed(4)}, next rate ${rate}${saved ? ', saved' : ''}`);
  const isSame = results.every((result) => JSON.stringify(result) === JSON.stringify(results[0]));
  console.log(`replicas decided alike: ${isSame ? 'yes' : 'no'}`);
}
