/**
 * What the kernels of whole layers compute, composed of TensorFlow.js' operations. Slower, but differentiable as often as one
 * likes: gradients of gradients are taken through these (gradients.ts).
 */
import {
  add,
  clipByValue,
  matMul,
  mean,
  mul,
  rsqrt,
  sigmoid,
  split,
  square,
  sub,
  type Tensor,
  type Tensor2D,
  tanh,
} from '@tensorflow/tfjs-core';

type Normalized = [y: Tensor, mean: Tensor, variance: Tensor];

/** Over the last axis' channels: x [n, …, c], scale [c], offset [c] → y, batch mean [c], biased batch variance [c]. */
export function composedBatchNorm(x: Tensor, scale: Tensor, offset: Tensor, epsilon: number): Normalized {
  const axes = x.shape.map((_, axis) => axis).slice(0, -1);
  return normalize(x, scale, offset, epsilon, axes, false);
}

/** Over each row: x [..., c], scale [c], offset [c] → y, mean and biased variance [..., 1]. */
export function composedLayerNorm(x: Tensor, scale: Tensor, offset: Tensor, epsilon: number): Normalized {
  return normalize(x, scale, offset, epsilon, [x.rank - 1], true);
}

function normalize(
  x: Tensor,
  scale: Tensor,
  offset: Tensor,
  epsilon: number,
  axes: number[],
  keepsAxes: boolean,
): Normalized {
  const middle = mean(x, axes, keepsAxes);
  const centered = sub(x, middle);
  const variance = mean(square(centered), axes, keepsAxes);
  return [add(mul(mul(centered, rsqrt(add(variance, epsilon))), scale), offset), middle, variance];
}

function recurrent(x: Tensor, isHard: boolean): Tensor {
  return isHard ? clipByValue(add(mul(x, 0.2), 0.5), 0, 1) : sigmoid(x);
}

/** z [n, 4u] in Keras' order, c [n, u] → h, the next c, the gates input, forget, candidate and output, and tanh of the next c. */
export function composedLstm(z: Tensor, c: Tensor, isHard: boolean) {
  const [zi, zf, zc, zo] = split(z, 4, 1) as [Tensor, Tensor, Tensor, Tensor];
  const gates = [recurrent(zi, isHard), recurrent(zf, isHard), tanh(zc), recurrent(zo, isHard)] as const;
  const [i, f, candidate, o] = gates;
  const next = add(mul(f, c), mul(i, candidate));
  const through = tanh(next);
  return { h: mul(o, through), next, gates, tanh: through };
}

/** x [n, 3u] in Keras' order, h [n, u], recurrent weights [u, 3u] → the next h, the gates z, r, candidate, and the inputs of z and r. */
export function composedGru(x: Tensor, h: Tensor, kernel: Tensor, isHard: boolean) {
  const units = h.shape[1] as number;
  const [outer, inner] = split(kernel, [2 * units, units], 1) as [Tensor2D, Tensor2D];
  const [xGates, xCandidate] = split(x, [2 * units, units], 1) as [Tensor, Tensor];
  const before = add(xGates, matMul(h as Tensor2D, outer));
  const inputs = split(before, 2, 1) as [Tensor, Tensor];
  const [z, r] = inputs.map((input) => recurrent(input, isHard)) as [Tensor, Tensor];
  const candidate = tanh(add(xCandidate, matMul(mul(r, h) as Tensor2D, inner)));
  const next = add(mul(z, h), mul(sub(1, z), candidate));
  return { next, gates: [z, r, candidate] as const, inputs };
}

/** x [n, u], h [n, u], recurrent weights [u, u] → the next h. */
export function composedSimpleRnn(x: Tensor, h: Tensor, kernel: Tensor): Tensor {
  return tanh(add(x, matMul(h as Tensor2D, kernel as Tensor2D)));
}
