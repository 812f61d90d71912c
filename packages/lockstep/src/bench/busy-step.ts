/**
 * What `lockstep bench busy` starts in a process of its own, because a process's OpenMP decides once how long its threads wait: trains
 * one small network and prints the median time of a step, in milliseconds. Arguments: network, steps.
 */
import '@lockstep/onednn';
import * as tf from '@tensorflow/tfjs-core';
import * as tfl from '@tensorflow/tfjs-layers';
import { layersResNet } from './layers-model.js';
import { summarize } from './statistics.js';

const WARMUP = 6;

/** Of `transformer`: vocabulary, length, width, heads, sequences. */
const [V, T, D, H, B] = [32, 16, 32, 2, 16] as const;

/** A decoder of one layer, of plain operations and Adam in a loop of its own. */
function transformer(): () => void {
  const weight = (shape: readonly number[]) => tf.variable(tf.randomNormal([...shape], 0, 0.1, 'float32', 1));
  const [embedding, positions] = [weight([V, D]), weight([T, D])];
  const [wq, wk, wv, wo] = [weight([D, D]), weight([D, D]), weight([D, D]), weight([D, D])];
  const [w1, w2, out] = [weight([D, 4 * D]), weight([4 * D, D]), weight([D, V])];
  const mask = tf.keep(tf.mul(tf.sub(tf.linalg.bandPart(tf.ones([T, T]), -1, 0), 1), 1e9));
  const normalize = (x: tf.Tensor) => {
    const { mean, variance } = tf.moments(x, -1, true);
    return tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, 1e-5)));
  };
  const times = (x: tf.Tensor, w: tf.Tensor) =>
    tf.reshape(tf.matMul(tf.reshape(x, [-1, w.shape[0] as number]), w as tf.Tensor2D), [
      ...x.shape.slice(0, -1),
      w.shape[1] as number,
    ]);
  const heads = (x: tf.Tensor) => tf.transpose(tf.reshape(x, [B, T, H, D / H]), [0, 2, 1, 3]);
  const ids = tf.keep(
    tf.tensor2d(
      Int32Array.from({ length: B * (T + 1) }, (_, i) => (i * 7) % V),
      [B, T + 1],
      'int32',
    ),
  );
  const optimizer = tf.train.adam(3e-3);
  const loss = () => {
    let x: tf.Tensor = tf.add(tf.gather(embedding, tf.slice(ids, [0, 0], [B, T])), positions);
    const h = normalize(x);
    const scores = tf.matMul(heads(times(h, wq)), heads(times(h, wk)), false, true);
    const attention = tf.softmax(tf.add(tf.div(scores, Math.sqrt(D / H)), mask));
    const mixed = tf.reshape(tf.transpose(tf.matMul(attention, heads(times(h, wv))), [0, 2, 1, 3]), [B, T, D]);
    x = tf.add(x, times(mixed, wo));
    const logits = times(tf.add(x, times(tf.relu(times(normalize(x), w1)), w2)), out);
    const labels = tf.oneHot(tf.reshape(tf.slice(ids, [0, 1], [B, T]), [-1]), V);
    return tf.losses.softmaxCrossEntropy(labels, tf.reshape(logits, [-1, V])) as tf.Scalar;
  };
  return () => optimizer.minimize(loss);
}

/** Layers, trained batch by batch as `model.fit` does. */
function fitted(model: tfl.LayersModel, x: tf.Tensor, y: tf.Tensor): () => Promise<unknown> {
  return () => model.trainOnBatch(x, y);
}

function mlp(): () => Promise<unknown> {
  const dense = (units: number, activation: 'relu' | 'softmax') => tfl.layers.dense({ units, activation });
  const input = tfl.input({ shape: [784] });
  const output = [dense(128, 'relu'), dense(64, 'relu'), dense(10, 'softmax')].reduce(
    (value, layer) => layer.apply(value) as tfl.SymbolicTensor,
    input,
  );
  const model = tfl.model({ inputs: input, outputs: output });
  model.compile({ optimizer: tf.train.adam(), loss: 'sparseCategoricalCrossentropy' });
  return fitted(model, tf.randomUniform([32, 784], 0, 1, 'float32', 1), tf.zeros([32]));
}

function resnet(): () => Promise<unknown> {
  return fitted(layersResNet(20), tf.randomUniform([64, 32, 32, 3], -1, 1, 'float32', 1), tf.zeros([64]));
}

const NETWORKS: Readonly<Record<string, () => () => unknown>> = { transformer, mlp, resnet };

await tf.ready();
const [, , name = '', steps = '30'] = process.argv;
const step = (NETWORKS[name] as () => () => unknown)();
const times: number[] = [];
for (let i = 0; i < WARMUP + Number(steps); i++) {
  const begin = performance.now();
  await step();
  if (i >= WARMUP) times.push(performance.now() - begin);
}
process.stdout.write(`${summarize(times).median}\n`);
