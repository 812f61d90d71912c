/** What `lockstep bench layers` runs in the device's thread: `model.fit` of the plain tf.layers network, batch by batch. */
import { hostAccess, type ReplicaContext } from '@lockstep/distribute';
import { OneDnnBackend } from '@lockstep/onednn';
import * as tf from '@tensorflow/tfjs-core';
import { layersResNet } from './layers-model.js';

export interface LayersBenchArguments {
  readonly resnetSize: number;
  readonly batchSize: number;
  readonly steps: number;
  readonly warmup: number;
  readonly dtype: 'f32' | 'bf16';
}

export interface LayersBenchResult {
  readonly stepMs: readonly number[];
  /** oneDNN primitives that one step runs, by kind. */
  readonly primitives: Readonly<Record<string, number>>;
  /** Kernels that TensorFlow.js asked for in one step, by name. */
  readonly kernels: Readonly<Record<string, number>>;
  readonly finalLoss: number;
}

export default async function replica(_: ReplicaContext, args: LayersBenchArguments): Promise<LayersBenchResult> {
  const { resnetSize, batchSize, steps, warmup, dtype } = args;
  const backend = tf.backend();
  hostAccess().setPrecision?.(dtype);
  const network = layersResNet(resnetSize);
  const count = steps + warmup;
  const images = tf.randomUniform([batchSize * count, 32, 32, 3], -1, 1, 'float32', 1);
  const labels = tf.cast(tf.randomUniform([batchSize * count], 0, 10, 'int32', 2), 'float32');
  const stepMs: number[] = [];
  let begin = 0;
  let loss = Number.NaN;
  await network.fit(images, labels, {
    batchSize,
    shuffle: false,
    verbose: 0,
    yieldEvery: 'never',
    callbacks: {
      onBatchBegin: async () => {
        begin = performance.now();
      },
      onBatchEnd: async (_batch, logs) => {
        stepMs.push(performance.now() - begin);
        loss = logs?.loss ?? loss;
      },
    },
  });
  const first = tf.slice(images, 0, batchSize);
  const firstLabels = tf.slice(labels, 0, batchSize);
  const primitives: Record<string, number> = {};
  const count1 = (table: Record<string, number>, name: string) => {
    table[name] = (table[name] ?? 0) + 1;
  };
  if (backend instanceof OneDnnBackend) {
    backend.runtime.observer = ({ label }) => count1(primitives, label.split(' ')[0] as string);
  }
  const profile = await tf.profile(async () => {
    await network.trainOnBatch(first, firstLabels);
    return first;
  });
  if (backend instanceof OneDnnBackend) backend.runtime.observer = null;
  const kernels: Record<string, number> = {};
  for (const { name } of profile.kernels) count1(kernels, name);
  return { stepMs: stepMs.slice(warmup), primitives, kernels, finalLoss: loss };
}
