/**
 * A transformer of plain operations (Vaswani et al. 2017, layers normalized behind each sum), an encoder or a decoder, trained by `optimizer.minimize` in
 * a loop of one's own, as TensorFlow.js' users write what `tf.layers` has not. Predicts a token for each token.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { MakeOptimizer, Network } from './network.js';

export interface TransformerSizes {
  readonly vocabulary: number;
  /** Tokens of a sequence. */
  readonly length: number;
  readonly width: number;
  readonly heads: number;
  /** Width between the two dense layers of a block. */
  readonly inner: number;
  readonly blocks: number;
  /** Sequences. */
  readonly batch: number;
  /** Whether a token sees those before it alone, as in a decoder. Default false. */
  readonly causal?: boolean;
}

const EPSILON = 1e-5;

export function transformer(distribute: MakeOptimizer, sizes: TransformerSizes): Network {
  const { vocabulary, length, width, heads, inner, blocks, batch, causal = false } = sizes;
  const weights: tf.Variable[] = [];
  const keep = (value: tf.Tensor) => {
    const variable = tf.variable(value);
    weights.push(variable);
    return variable;
  };
  const random = (...shape: number[]) => keep(tf.randomNormal(shape, 0, shape.length > 1 ? 0.05 : 0));
  const affine = () => ({ gamma: keep(tf.ones([width])), beta: keep(tf.zeros([width])) });
  const linear = (from: number, to: number) => ({ kernel: random(from, to), bias: random(to) });
  const positions = random(length, width);
  const embedding = random(vocabulary, width);
  const body = Array.from({ length: blocks }, () => ({
    qkv: linear(width, 3 * width),
    mixed: linear(width, width),
    wide: linear(width, inner),
    narrow: linear(inner, width),
    norms: [affine(), affine()] as const,
  }));
  const out = linear(width, vocabulary);

  const mask = causal ? tf.mul(tf.sub(tf.linalg.bandPart(tf.ones([length, length]), -1, 0), 1), 1e9) : null;

  const times = (x: tf.Tensor, { kernel, bias }: ReturnType<typeof linear>) =>
    tf.add(tf.matMul(x as tf.Tensor2D, kernel as tf.Tensor2D), bias);
  const normalize = (x: tf.Tensor, { gamma, beta }: ReturnType<typeof affine>) => {
    const { mean, variance } = tf.moments(x, -1, true);
    return tf.add(tf.mul(tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, EPSILON))), gamma), beta);
  };
  const split = (x: tf.Tensor) =>
    tf.transpose(tf.reshape(x, [batch, length, heads, width / heads]), [0, 2, 1, 3]) as tf.Tensor4D;
  const attend = (x: tf.Tensor, { qkv, mixed }: (typeof body)[number]) => {
    const [q, k, v] = tf.split(times(x, qkv), 3, 1).map(split) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const scores = tf.div(tf.matMul(q, k, false, true), Math.sqrt(width / heads));
    const weight = tf.softmax(mask ? tf.add(scores, mask) : scores);
    return times(tf.reshape(tf.transpose(tf.matMul(weight, v), [0, 2, 1, 3]), [batch * length, width]), mixed);
  };

  const ids = Int32Array.from({ length: batch * length }, (_, i) => (i * 31) % vocabulary);
  const tokens = tf.tensor2d(ids, [batch, length], 'int32');
  const labels = tf.tensor1d(
    ids.map((id) => (id * 7) % vocabulary),
    'int32',
  );
  const loss = () => {
    let x: tf.Tensor = tf.reshape(tf.add(tf.gather(embedding, tokens), positions), [batch * length, width]);
    for (const block of body) {
      x = normalize(tf.add(x, attend(x, block)), block.norms[0]);
      x = normalize(tf.add(x, times(tf.relu(times(x, block.wide)), block.narrow)), block.norms[1]);
    }
    return tf.losses.softmaxCrossEntropy(tf.oneHot(labels, vocabulary), times(x, out)) as tf.Scalar;
  };
  const optimizer = distribute(tf.train.adam(1e-3));
  return {
    batch,
    weights: () => weights.map((weight) => weight.dataSync() as Float32Array),
    step: async () => {
      const cost = optimizer.minimize(loss, true) as tf.Scalar;
      const [value] = await cost.data();
      cost.dispose();
      return value as number;
    },
  };
}
