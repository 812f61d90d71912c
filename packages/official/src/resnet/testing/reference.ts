/**
 * Test support: the ResNets of upstream's resnet_model.py once more, in f64 and in the plainest loops there are, from the
 * variables' names and values alone. It shares no code with the model, so that a mistake in one of them shows. Not part of
 * the package.
 */
import type { ResNetPlan } from '../resnet-model.js';

/** n × h × w × c numbers, channels last. */
export interface Image {
  readonly n: number;
  readonly h: number;
  readonly w: number;
  readonly c: number;
  readonly values: Float64Array;
}

/** Kernels, scales and offsets by upstream's names, without `resnet_model/`. */
export type Weights = ReadonlyMap<string, { readonly shape: readonly number[]; readonly values: Float64Array }>;

/** What a batch norm saw, by name: mean and biased variance of each channel, and how many numbers went into each. */
export type SeenStatistics = Map<string, { mean: Float64Array; variance: Float64Array; count: number }>;

function image(n: number, h: number, w: number, c: number): Image {
  return { n, h, w, c, values: new Float64Array(n * h * w * c) };
}

const at = ({ h, w, c }: Image, n: number, y: number, x: number, channel: number) =>
  ((n * h + y) * w + x) * c + channel;

/** Zeros before the first and after the last element, by TensorFlow's rules. */
function padding(size: number, kernel: number, stride: number, fixed: boolean): { before: number; out: number } {
  if (fixed) {
    // conv2d_fixed_padding: k − 1 zeros in all, whatever the input; then VALID.
    const before = Math.floor((kernel - 1) / 2);
    return { before, out: Math.floor((size + kernel - 1 - kernel) / stride) + 1 };
  }
  const out = Math.ceil(size / stride);
  return { before: Math.floor(Math.max(0, (out - 1) * stride + kernel - size) / 2), out };
}

function conv(x: Image, { shape, values }: { shape: readonly number[]; values: Float64Array }, stride: number): Image {
  const [kh, kw, , filters] = shape as [number, number, number, number];
  const rows = padding(x.h, kh, stride, stride > 1);
  const columns = padding(x.w, kw, stride, stride > 1);
  const y = image(x.n, rows.out, columns.out, filters);
  for (let n = 0; n < x.n; n++)
    for (let i = 0; i < y.h; i++)
      for (let j = 0; j < y.w; j++)
        for (let a = 0; a < kh; a++)
          for (let b = 0; b < kw; b++) {
            const [row, column] = [i * stride + a - rows.before, j * stride + b - columns.before];
            if (row < 0 || row >= x.h || column < 0 || column >= x.w) continue;
            for (let channel = 0; channel < x.c; channel++) {
              const value = x.values[at(x, n, row, column, channel)]!;
              const kernel = ((a * kw + b) * x.c + channel) * filters;
              const target = at(y, n, i, j, 0);
              for (let f = 0; f < filters; f++) y.values[target + f]! += value * values[kernel + f]!;
            }
          }
  return y;
}

function maxPool(x: Image, size: number, stride: number): Image {
  const rows = padding(x.h, size, stride, false);
  const columns = padding(x.w, size, stride, false);
  const y = image(x.n, rows.out, columns.out, x.c);
  y.values.fill(Number.NEGATIVE_INFINITY);
  for (let n = 0; n < x.n; n++)
    for (let i = 0; i < y.h; i++)
      for (let j = 0; j < y.w; j++)
        for (let a = 0; a < size; a++)
          for (let b = 0; b < size; b++) {
            const [row, column] = [i * stride + a - rows.before, j * stride + b - columns.before];
            if (row < 0 || row >= x.h || column < 0 || column >= x.w) continue;
            for (let c = 0; c < x.c; c++) {
              const target = at(y, n, i, j, c);
              y.values[target] = Math.max(y.values[target]!, x.values[at(x, n, row, column, c)]!);
            }
          }
  return y;
}

const relu = (x: Image): Image => ({ ...x, values: x.values.map((value) => Math.max(0, value)) });
const add = (x: Image, y: Image): Image => ({ ...x, values: x.values.map((value, i) => value + y.values[i]!) });

/** The network over a batch, with the batch's own statistics. */
export class Reference {
  readonly seen: SeenStatistics = new Map();
  #convs = 0;
  #norms = 0;

  constructor(
    private readonly plan: ResNetPlan,
    private readonly weights: Weights,
  ) {}

  /** @returns n × classes logits */
  logits(images: Image): Float64Array {
    const { plan } = this;
    this.#convs = 0;
    this.#norms = 0;
    let x = this.#conv(images, plan.convStride);
    if (plan.resnetVersion === 1) x = relu(this.#norm(x));
    if (plan.firstPoolSize > 0) x = maxPool(x, plan.firstPoolSize, plan.firstPoolStride);
    for (const [layer, blocks] of plan.blockSizes.entries()) {
      for (let block = 0; block < blocks; block++) x = this.#block(x, block === 0, plan.blockStrides[layer]!);
    }
    if (plan.resnetVersion === 2) x = relu(this.#norm(x));
    const dense = { kernel: this.#weight('dense/kernel').values, bias: this.#weight('dense/bias').values };
    const classes = plan.numClasses;
    const logits = new Float64Array(x.n * classes);
    for (let n = 0; n < x.n; n++) {
      for (let c = 0; c < x.c; c++) {
        let mean = 0;
        for (let i = 0; i < x.h; i++) for (let j = 0; j < x.w; j++) mean += x.values[at(x, n, i, j, c)]!;
        mean /= x.h * x.w;
        for (let k = 0; k < classes; k++) logits[n * classes + k]! += mean * dense.kernel[c * classes + k]!;
      }
      for (let k = 0; k < classes; k++) logits[n * classes + k]! += dense.bias[k]!;
    }
    return logits;
  }

  /** Mean cross-entropy over the batch. */
  loss(images: Image, labels: ArrayLike<number>): number {
    const logits = this.logits(images);
    const classes = this.plan.numClasses;
    let sum = 0;
    for (let n = 0; n < images.n; n++) {
      const row = logits.subarray(n * classes, (n + 1) * classes);
      const largest = row.reduce((a, b) => Math.max(a, b));
      const total = row.reduce((a, b) => a + Math.exp(b - largest), 0);
      sum += largest + Math.log(total) - row[labels[n]!]!;
    }
    return sum / images.n;
  }

  /** A block's parts in upstream's order; in v1 the projection comes first, in v2 behind the pre-activation. */
  #block(x: Image, isFirst: boolean, layerStride: number): Image {
    const stride = isFirst ? layerStride : 1;
    const { bottleneck, resnetVersion } = this.plan;
    const strides = bottleneck ? [1, stride, 1] : [stride, 1];
    if (resnetVersion === 1) {
      const shortcut = isFirst ? this.#norm(this.#conv(x, stride)) : x;
      let h = x;
      for (const [i, step] of strides.entries()) {
        h = this.#norm(this.#conv(h, step));
        if (i < strides.length - 1) h = relu(h);
      }
      return relu(add(h, shortcut));
    }
    let h = relu(this.#norm(x));
    const shortcut = isFirst ? this.#conv(h, stride) : x;
    for (const [i, step] of strides.entries()) {
      if (i > 0) h = relu(this.#norm(h));
      h = this.#conv(h, step);
    }
    return add(h, shortcut);
  }

  #weight(name: string) {
    const weight = this.weights.get(name);
    if (!weight) throw new Error(`The network has no ${name}.`);
    return weight;
  }

  #conv(x: Image, stride: number): Image {
    const index = this.#convs++;
    return conv(x, this.#weight(`conv2d${index === 0 ? '' : `_${index}`}/kernel`), stride);
  }

  #norm(x: Image): Image {
    const index = this.#norms++;
    const name = `batch_normalization${index === 0 ? '' : `_${index}`}`;
    const gamma = this.#weight(`${name}/gamma`).values;
    const beta = this.#weight(`${name}/beta`).values;
    const count = x.n * x.h * x.w;
    const mean = new Float64Array(x.c);
    const variance = new Float64Array(x.c);
    for (const [i, value] of x.values.entries()) mean[i % x.c]! += value / count;
    for (const [i, value] of x.values.entries()) variance[i % x.c]! += (value - mean[i % x.c]!) ** 2 / count;
    this.seen.set(name, { mean, variance, count });
    return {
      ...x,
      values: x.values.map((value, i) => {
        const c = i % x.c;
        return ((value - mean[c]!) / Math.sqrt(variance[c]! + 1e-5)) * gamma[c]! + beta[c]!;
      }),
    };
  }
}
