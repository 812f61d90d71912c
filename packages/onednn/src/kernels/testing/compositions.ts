/**
 * Test support: what the backend's own kernels stand for, composed of TensorFlow.js' operations, so that it runs on `cpu`. By
 * name; kernels that `cpu` has are not here, but for two of which its own is another. Not part of the package.
 */
import * as tf from '@tensorflow/tfjs-core';

type Inputs = Readonly<Record<string, tf.Tensor>>;
/** Attributes by name; each composition knows what its own are. */
type Attrs = Readonly<Record<string, unknown>>;
type Composition = (inputs: Inputs, attrs: Attrs) => tf.Tensor | tf.Tensor[];

const number = (attrs: Attrs, name: string) => attrs[name] as number;
const get = (inputs: Inputs, ...names: string[]) => names.map((name) => inputs[name] as tf.Tensor);
const isHard = (attrs: Attrs) => attrs.recurrentActivation === 'hardSigmoid';

type Normalized = [y: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor];

/** Over the last axis' channels: x [n, …, c], scale [c], offset [c] → y, batch mean [c], biased batch variance [c]. */
function composedBatchNorm(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: number): Normalized {
  const axes = x.shape.map((_, axis) => axis).slice(0, -1);
  return normalize(x, scale, offset, epsilon, axes, false);
}

/** Over each row: x [..., c], scale [c], offset [c] → y, mean and biased variance [..., 1]. */
function composedLayerNorm(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: number): Normalized {
  return normalize(x, scale, offset, epsilon, [x.rank - 1], true);
}

function normalize(
  x: tf.Tensor,
  scale: tf.Tensor,
  offset: tf.Tensor,
  epsilon: number,
  axes: number[],
  keepsAxes: boolean,
): Normalized {
  const middle = tf.mean(x, axes, keepsAxes);
  const centered = tf.sub(x, middle);
  const variance = tf.mean(tf.square(centered), axes, keepsAxes);
  return [tf.add(tf.mul(tf.mul(centered, tf.rsqrt(tf.add(variance, epsilon))), scale), offset), middle, variance];
}

function recurrent(x: tf.Tensor, isHard: boolean): tf.Tensor {
  return isHard ? tf.clipByValue(tf.add(tf.mul(x, 0.2), 0.5), 0, 1) : tf.sigmoid(x);
}

/** z [n, 4u] in Keras' order, c [n, u] → h, the next c, the gates input, forget, candidate and output, and tanh of the next c. */
function composedLstm(z: tf.Tensor, c: tf.Tensor, isHard: boolean) {
  const [zi, zf, zc, zo] = tf.split(z, 4, 1) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
  const gates = [recurrent(zi, isHard), recurrent(zf, isHard), tf.tanh(zc), recurrent(zo, isHard)] as const;
  const [i, f, candidate, o] = gates;
  const next = tf.add(tf.mul(f, c), tf.mul(i, candidate));
  const through = tf.tanh(next);
  return { h: tf.mul(o, through), next, gates, tanh: through };
}

/** x [n, 3u] in Keras' order, h [n, u], recurrent weights [u, 3u] → the next h, the gates z, r, candidate, and the inputs of z and r. */
function composedGru(x: tf.Tensor, h: tf.Tensor, kernel: tf.Tensor, isHard: boolean) {
  const units = h.shape[1] as number;
  const [outer, inner] = tf.split(kernel, [2 * units, units], 1) as [tf.Tensor2D, tf.Tensor2D];
  const [xGates, xCandidate] = tf.split(x, [2 * units, units], 1) as [tf.Tensor, tf.Tensor];
  const before = tf.add(xGates, tf.matMul(h as tf.Tensor2D, outer));
  const inputs = tf.split(before, 2, 1) as [tf.Tensor, tf.Tensor];
  const [z, r] = inputs.map((input) => recurrent(input, isHard)) as [tf.Tensor, tf.Tensor];
  const candidate = tf.tanh(tf.add(xCandidate, tf.matMul(tf.mul(r, h) as tf.Tensor2D, inner)));
  const next = tf.add(tf.mul(z, h), tf.mul(tf.sub(1, z), candidate));
  return { next, gates: [z, r, candidate] as const, inputs };
}

/** x [n, u], h [n, u], recurrent weights [u, u] → the next h. */
function composedSimpleRnn(x: tf.Tensor, h: tf.Tensor, kernel: tf.Tensor): tf.Tensor {
  return tf.tanh(tf.add(x, tf.matMul(h as tf.Tensor2D, kernel as tf.Tensor2D)));
}

/** dy through (x − mean)·r·scale, r = 1/√(variance + ε), whose statistics depend on x along `axes`. */
function normGradient(
  dy: tf.Tensor,
  x: tf.Tensor,
  scale: tf.Tensor,
  [mean, variance]: readonly [tf.Tensor, tf.Tensor],
  epsilon: number,
  axes: number[],
): tf.Tensor[] {
  const others = x.shape.map((_, axis) => axis).slice(0, -1);
  const r = tf.rsqrt(tf.add(variance, epsilon));
  const normalized = tf.mul(tf.sub(x, mean), r);
  // A channel's scale is a factor of its own statistics' part; a row's elements have different ones.
  const isPerChannel = axes.length === others.length && axes.every((axis, i) => axis === others[i]);
  const up = isPerChannel ? dy : tf.mul(dy, scale);
  const factor = isPerChannel ? tf.mul(r, scale) : r;
  const middle = tf.add(tf.mean(up, axes, true), tf.mul(normalized, tf.mean(tf.mul(up, normalized), axes, true)));
  return [tf.mul(factor, tf.sub(up, middle)), tf.sum(tf.mul(dy, normalized), others), tf.sum(dy, others)];
}

/** Gradient through the recurrent activation, as TensorFlow.js' gradients of clip and sigmoid have it. */
function throughGate(attrs: Attrs, dy: tf.Tensor, x: tf.Tensor, y: tf.Tensor): tf.Tensor {
  if (!isHard(attrs)) return tf.mul(dy, tf.mul(y, tf.sub(1, y)));
  const line = tf.add(tf.mul(x, 0.2), 0.5);
  const isInside = tf.logicalAnd(tf.greaterEqual(line, 0), tf.lessEqual(line, 1));
  return tf.where(isInside, tf.mul(dy, 0.2), tf.zerosLike(dy));
}

/** New values of variables are written where they were; a result is the variables, in the order of the inputs. */
function update(inputs: Inputs, changed: Inputs): tf.Tensor[] {
  return Object.keys(inputs).map((name) => changed[name] ?? (inputs[name] as tf.Tensor));
}

function rms(inputs: Inputs, attrs: Attrs): tf.Tensor[] {
  const [w, square, moment, gradient] = get(inputs, 'var', 'ms', 'mom', 'grad') as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
  ];
  const average = (old: tf.Tensor, value: tf.Tensor) =>
    tf.add(tf.mul(old, number(attrs, 'decay')), tf.mul(value, 1 - number(attrs, 'decay')));
  const ms = average(square, tf.square(gradient));
  const mg = inputs.mg ? average(inputs.mg, gradient) : null;
  const epsilon = number(attrs, 'epsilon');
  const variance = mg ? tf.sub(ms, tf.add(tf.square(mg), epsilon)) : tf.add(ms, epsilon);
  const scaled = tf.div(tf.mul(gradient, number(attrs, 'rate')), tf.sqrt(variance));
  const mom = tf.add(tf.mul(moment, number(attrs, 'momentum')), scaled);
  return update(inputs, { ms, mom, var: tf.sub(w, mom), ...(mg ? { mg } : {}) });
}

export const COMPOSED: Readonly<Record<string, Composition>> = {
  L2Penalty: ({ x }, attrs) => tf.mul(tf.sum(tf.square(x as tf.Tensor)), number(attrs, 'rate')),
  SigmoidGrad: (inputs) => {
    const [dy, y] = get(inputs, 'dy', 'y') as [tf.Tensor, tf.Tensor];
    return tf.mul(dy, tf.mul(y, tf.sub(1, y)));
  },
  TanhGrad: (inputs) => {
    const [dy, y] = get(inputs, 'dy', 'y') as [tf.Tensor, tf.Tensor];
    return tf.mul(tf.sub(1, tf.square(y)), dy);
  },
  ReluGrad: ({ dy, y }) => tf.mul(dy as tf.Tensor, tf.step(y as tf.Tensor)),
  AddRelu: ({ a, b }) => tf.relu(tf.add(a as tf.Tensor, b as tf.Tensor)),
  LogSoftmax: ({ logits }) => tf.logSoftmax(logits as tf.Tensor),
  MovingAverage: (inputs, attrs) => {
    const [average, batch] = get(inputs, 'average', 'batch') as [tf.Tensor, tf.Tensor];
    return tf.sub(average, tf.mul(tf.sub(average, batch), 1 - number(attrs, 'momentum')));
  },
  // `cpu` multiplies all rows by 0 or 1, so that a NaN is in every segment.
  UnsortedSegmentSum: ({ x, segmentIds }, attrs) => {
    const at = (segmentIds as tf.Tensor).dataSync();
    const rows = tf.unstack(x as tf.Tensor);
    const sums = Array.from({ length: number(attrs, 'numSegments') }, () => tf.zerosLike(rows[0] as tf.Tensor));
    for (const [i, row] of rows.entries()) {
      const segment = at[i] as number;
      sums[segment] = tf.add(sums[segment] as tf.Tensor, row);
    }
    return tf.stack(sums);
  },
  // `cpu` looks for the pixels that an output may have come from, and does not find all.
  ResizeNearestNeighborGrad: ({ images, dy }, attrs) => {
    const [n, height, width, channels] = (images as tf.Tensor4D).shape;
    const [, outHeight, outWidth] = (dy as tf.Tensor4D).shape;
    const places = tf.reshape(tf.range(0, height * width), [1, height, width, 1]) as tf.Tensor4D;
    const { alignCorners, halfPixelCenters } = attrs as { alignCorners: boolean; halfPixelCenters: boolean };
    const from = tf.image.resizeNearestNeighbor(places, [outHeight, outWidth], alignCorners, halfPixelCenters);
    const at = from.dataSync();
    const up = (dy as tf.Tensor4D).dataSync();
    const dx = new Float32Array(n * height * width * channels);
    for (let i = 0; i < up.length; i++) {
      const pixel = Math.floor(i / channels);
      const example = Math.floor(pixel / at.length);
      const to = (example * height * width + (at[pixel % at.length] as number)) * channels + (i % channels);
      dx[to] = (dx[to] as number) + (up[i] as number);
    }
    return tf.tensor(dx, [n, height, width, channels]);
  },
  SparseSoftmaxCrossEntropyWithLogits: ({ logits, labels }) => {
    const x = logits as tf.Tensor2D;
    const target = tf.oneHot(labels as tf.Tensor1D, x.shape[1]);
    const log = tf.sub(tf.sub(x, tf.max(x, 1, true)), tf.log(tf.sum(tf.exp(tf.sub(x, tf.max(x, 1, true))), 1, true)));
    const chosen = tf.where(tf.cast(target, 'bool'), log, tf.zerosLike(log));
    return [tf.neg(tf.sum(chosen, 1)), tf.sub(tf.softmax(x), target)];
  },
  LayerNorm: ({ x, scale, offset }, attrs) => {
    const [y, mean, variance] = composedLayerNorm(
      x as tf.Tensor,
      scale as tf.Tensor,
      offset as tf.Tensor,
      number(attrs, 'epsilon'),
    );
    return [y, tf.reshape(mean, [-1]), tf.reshape(variance, [-1])];
  },
  LayerNormGrad: ({ dy, x, scale, mean, variance }, attrs) => {
    const column = (tensor: tf.Tensor | undefined) => tf.reshape(tensor as tf.Tensor, [-1, 1]);
    const statistics = [column(mean), column(variance)] as const;
    return normGradient(dy as tf.Tensor, x as tf.Tensor, scale as tf.Tensor, statistics, number(attrs, 'epsilon'), [1]);
  },
  FusedBatchNormV3: ({ x, scale, offset }, attrs) =>
    composedBatchNorm(x as tf.Tensor, scale as tf.Tensor, offset as tf.Tensor, number(attrs, 'epsilon')),
  FusedBatchNormGradV3: ({ dy, x, scale, mean, variance }, attrs) => {
    const axes = (x as tf.Tensor).shape.map((_, axis) => axis).slice(0, -1);
    const statistics = [mean as tf.Tensor, variance as tf.Tensor] as const;
    return normGradient(
      dy as tf.Tensor,
      x as tf.Tensor,
      scale as tf.Tensor,
      statistics,
      number(attrs, 'epsilon'),
      axes,
    );
  },
  LSTMBlockCell: ({ z, c }, attrs) => {
    const { h, next, gates, tanh } = composedLstm(z as tf.Tensor2D, c as tf.Tensor2D, isHard(attrs));
    return [h, next, tf.stack([gates[0], gates[1], gates[3], gates[2]]), tanh];
  },
  LSTMBlockCellGrad: (inputs, attrs) => {
    const [dh, dc, z, c, gates, t] = get(inputs, 'dh', 'dc', 'z', 'c', 'gates', 'tanh') as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
    ];
    const [i, f, o, candidate] = tf.unstack(gates) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
    const [zi, zf, , zo] = tf.split(z, 4, 1) as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
    const carry = tf.add(dc, tf.mul(tf.mul(dh, o), tf.sub(1, tf.square(t))));
    const dz = [
      throughGate(attrs, tf.mul(carry, candidate), zi, i),
      throughGate(attrs, tf.mul(carry, c), zf, f),
      tf.mul(tf.mul(carry, i), tf.sub(1, tf.square(candidate))),
      throughGate(attrs, tf.mul(dh, t), zo, o),
    ];
    return [tf.concat(dz, 1), tf.mul(carry, f)];
  },
  GRUBlockCell: ({ x, h, kernel }, attrs) => {
    const { next, gates, inputs } = composedGru(
      x as tf.Tensor2D,
      h as tf.Tensor2D,
      kernel as tf.Tensor2D,
      isHard(attrs),
    );
    return [next, tf.stack(isHard(attrs) ? [...gates, ...inputs] : [...gates])];
  },
  GRUBlockCellGrad: (given, attrs) => {
    const [dh, h, kernel, gates] = get(given, 'dh', 'h', 'kernel', 'gates') as [
      tf.Tensor,
      tf.Tensor2D,
      tf.Tensor2D,
      tf.Tensor,
    ];
    const [z, r, candidate, zIn, rIn] = tf.unstack(gates) as [
      tf.Tensor2D,
      tf.Tensor2D,
      tf.Tensor2D,
      tf.Tensor2D,
      tf.Tensor2D,
    ];
    const units = h.shape[1];
    const [outer, inner] = tf.split(kernel, [2 * units, units], 1) as [tf.Tensor2D, tf.Tensor2D];
    const dz = throughGate(attrs, tf.mul(dh, tf.sub(h, candidate)), zIn ?? z, z);
    const dCandidate = tf.mul(tf.mul(dh, tf.sub(1, z)), tf.sub(1, tf.square(candidate))) as tf.Tensor2D;
    const dReset = tf.matMul(dCandidate, inner, false, true);
    const dr = throughGate(attrs, tf.mul(dReset, h), rIn ?? r, r);
    const dGates = tf.concat([dz, dr], 1) as tf.Tensor2D;
    const dOld = tf.add(tf.add(tf.mul(dh, z), tf.mul(dReset, r)), tf.matMul(dGates, outer, false, true));
    const dKernel = [tf.matMul(h, dGates, true), tf.matMul(tf.mul(r, h) as tf.Tensor2D, dCandidate, true)];
    return [tf.concat([dGates, dCandidate], 1), dOld, tf.concat(dKernel, 1)];
  },
  SimpleRNNBlockCell: ({ x, h, kernel }) =>
    composedSimpleRnn(x as tf.Tensor2D, h as tf.Tensor2D, kernel as tf.Tensor2D),
  SimpleRNNBlockCellGrad: (inputs) => {
    const [dy, y, h, kernel] = get(inputs, 'dy', 'y', 'h', 'kernel') as [
      tf.Tensor2D,
      tf.Tensor2D,
      tf.Tensor2D,
      tf.Tensor2D,
    ];
    const dx = tf.mul(dy, tf.sub(1, tf.square(y))) as tf.Tensor2D;
    return [dx, tf.matMul(dx, kernel, false, true), tf.matMul(h, dx, true)];
  },
  ResourceApplyGradientDescent: (inputs, attrs) =>
    update(inputs, {
      var: tf.add(inputs.var as tf.Tensor, tf.mul(inputs.grad as tf.Tensor, number(attrs, 'c'))),
    }),
  ResourceApplyMomentum: (inputs, attrs) => {
    const [w, old, gradient] = get(inputs, 'var', 'accum', 'grad') as [tf.Tensor, tf.Tensor, tf.Tensor];
    const momentum = number(attrs, 'momentum');
    const accum = tf.add(tf.mul(old, momentum), gradient);
    const ahead = attrs.useNesterov ? tf.add(gradient, tf.mul(accum, momentum)) : accum;
    return update(inputs, { accum, var: tf.add(w, tf.mul(ahead, number(attrs, 'c'))) });
  },
  ResourceApplyAdam: (inputs, attrs) => {
    const [w, first, second, gradient] = get(inputs, 'var', 'm', 'v', 'grad') as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
    ];
    const average = (old: tf.Tensor, value: tf.Tensor, beta: number) =>
      tf.add(tf.mul(old, beta), tf.mul(value, 1 - beta));
    const m = average(first, gradient, number(attrs, 'beta1'));
    const v = average(second, tf.square(gradient), number(attrs, 'beta2'));
    const root = tf.add(tf.sqrt(tf.div(v, number(attrs, 'correction2'))), number(attrs, 'epsilon'));
    const step = tf.mul(tf.div(tf.div(m, number(attrs, 'correction1')), root), -number(attrs, 'rate'));
    return update(inputs, { m, v, var: tf.add(w, step) });
  },
  ResourceApplyRMSProp: rms,
  ResourceApplyCenteredRMSProp: rms,
  ResourceApplyAdagrad: (inputs, attrs) => {
    const [w, old, gradient] = get(inputs, 'var', 'accum', 'grad') as [tf.Tensor, tf.Tensor, tf.Tensor];
    const accum = tf.add(old, tf.square(gradient));
    const scaled = tf.div(gradient, tf.sqrt(tf.add(accum, number(attrs, 'epsilon'))));
    return update(inputs, { accum, var: tf.sub(w, tf.mul(scaled, number(attrs, 'rate'))) });
  },
};
