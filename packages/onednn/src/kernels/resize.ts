/**
 * Resizing images, [batch, height, width, channels]: ResizeBilinear, ResizeNearestNeighbor and their gradients.
 *
 * Where a row or a column comes from is computed once and not for every pixel. The gradients pass over dy and add to where it
 * came from; `cpu`'s of nearest neighbours searches a window of dy for every pixel.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import { isFloat, type Kernel, kernel } from './kernel.js';
import { viewOf } from './tools.js';

interface ResizeAttrs {
  readonly alignCorners: boolean;
  readonly halfPixelCenters: boolean;
  readonly size: [number, number];
}

/** Input positions per output position. */
function scale(input: number, output: number, alignCorners: boolean): number {
  return alignCorners && output > 1 ? (input - 1) / (output - 1) : input / output;
}

/** For each output position: the two input positions around it and how far it is from the lower. */
interface Lerp {
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly fraction: Float64Array;
}

/** Tables of the sizes that were resized last: making one takes as long as resizing a small image. */
const lerps = new Map<string, Lerp>();
const nearests = new Map<string, Int32Array>();
const CAPACITY = 64;

type Sampling = Omit<ResizeAttrs, 'size'>;

function remembered<T>(
  tables: Map<string, T>,
  make: (input: number, output: number, sampling: Sampling) => T,
  input: number,
  output: number,
  sampling: Sampling,
): T {
  const key = `${input} ${output} ${sampling.alignCorners} ${sampling.halfPixelCenters}`;
  let table = tables.get(key);
  if (table === undefined) {
    if (tables.size >= CAPACITY) tables.clear();
    table = make(input, output, sampling);
    tables.set(key, table);
  }
  return table;
}

const lerpOf = (input: number, output: number, sampling: Sampling) =>
  remembered(lerps, makeLerp, input, output, sampling);
const nearestOf = (input: number, output: number, sampling: Sampling) =>
  remembered(nearests, makeNearest, input, output, sampling);

function makeLerp(input: number, output: number, { alignCorners, halfPixelCenters }: Sampling): Lerp {
  const ratio = scale(input, output, alignCorners);
  const lerp = { low: new Int32Array(output), high: new Int32Array(output), fraction: new Float64Array(output) };
  for (let i = 0; i < output; i++) {
    const at = halfPixelCenters ? ratio * (i + 0.5) - 0.5 : ratio * i;
    const low = Math.max(0, Math.floor(at));
    lerp.low[i] = low;
    lerp.high[i] = Math.min(input - 1, Math.ceil(at));
    lerp.fraction[i] = at - low;
  }
  return lerp;
}

type Shape4D = [number, number, number, number];

/** Every pixel from the four around it. */
function blendFour(
  x: Float32Array,
  target: Float32Array,
  rows: Lerp,
  columns: Lerp,
  [batch, inHeight, inWidth, channels]: Shape4D,
): void {
  const height = rows.low.length;
  const width = columns.low.length;
  let to = 0;
  for (let b = 0; b < batch; b++) {
    for (let r = 0; r < height; r++) {
      const top = (b * inHeight + (rows.low[r] as number)) * inWidth;
      const bottom = (b * inHeight + (rows.high[r] as number)) * inWidth;
      const down = rows.fraction[r] as number;
      for (let c = 0; c < width; c++) {
        const left = columns.low[c] as number;
        const right = columns.high[c] as number;
        const across = columns.fraction[c] as number;
        const topLeft = (top + left) * channels;
        const topRight = (top + right) * channels;
        const bottomLeft = (bottom + left) * channels;
        const bottomRight = (bottom + right) * channels;
        for (let d = 0; d < channels; d++) {
          const a = x[topLeft + d] as number;
          const e = x[bottomLeft + d] as number;
          const upper = a + ((x[topRight + d] as number) - a) * across;
          const lower = e + ((x[bottomRight + d] as number) - e) * across;
          target[to++] = upper + (lower - upper) * down;
        }
      }
    }
  }
}

const bilinear = kernel<{ images: TensorInfo }, ResizeAttrs>(
  'ResizeBilinear',
  ({ inputs: { images }, attrs, backend }) => {
    const [height, width] = attrs.size;
    if (!isFloat(images) || height < 1 || width < 1) return null;
    const [batch, inHeight, inWidth, channels] = images.shape as Shape4D;
    const rows = lerpOf(inHeight, height, attrs);
    const columns = lerpOf(inWidth, width, attrs);
    const y = backend.allocate([batch, height, width, channels]);
    const x = viewOf(backend, images) as Float32Array;
    const target = viewOf(backend, y) as Float32Array;
    backend.runtime.host(
      () => blendFour(x, target, rows, columns, images.shape as Shape4D),
      Number(attrs.alignCorners),
      Number(attrs.halfPixelCenters),
    );
    return y;
  },
);

/** Adds every gradient to the four pixels that it came from. */
function spread(
  gradient: Float32Array,
  target: Float32Array,
  rows: Lerp,
  columns: Lerp,
  [batch, inHeight, inWidth, channels]: Shape4D,
): void {
  const height = rows.low.length;
  const { low: lefts, high: rights, fraction: fractions } = columns;
  const width = lefts.length;
  target.fill(0);
  let from = 0;
  for (let b = 0; b < batch; b++) {
    for (let r = 0; r < height; r++) {
      const top = (b * inHeight + (rows.low[r] as number)) * inWidth * channels;
      const bottom = (b * inHeight + (rows.high[r] as number)) * inWidth * channels;
      const down = rows.fraction[r] as number;
      for (let c = 0; c < width; c++) {
        const left = (lefts[c] as number) * channels;
        const right = (rights[c] as number) * channels;
        const across = fractions[c] as number;
        const topLeft = top + left;
        const topRight = top + right;
        const bottomLeft = bottom + left;
        const bottomRight = bottom + right;
        const w00 = (1 - down) * (1 - across);
        const w01 = (1 - down) * across;
        const w10 = down * (1 - across);
        const w11 = down * across;
        for (let d = 0; d < channels; d++) {
          const g = gradient[from++] as number;
          target[topLeft + d] = (target[topLeft + d] as number) + g * w00;
          target[topRight + d] = (target[topRight + d] as number) + g * w01;
          target[bottomLeft + d] = (target[bottomLeft + d] as number) + g * w10;
          target[bottomRight + d] = (target[bottomRight + d] as number) + g * w11;
        }
      }
    }
  }
}

const bilinearGrad = kernel<{ images: TensorInfo; dy: TensorInfo }, { alignCorners: boolean }>(
  'ResizeBilinearGrad',
  ({ inputs: { images, dy }, attrs: { alignCorners }, backend }) => {
    if (!isFloat(images, dy)) return null;
    const [, inHeight, inWidth] = images.shape as Shape4D;
    const [, height, width] = dy.shape as Shape4D;
    // TensorFlow.js' gradient knows no half-pixel centres.
    const rows = lerpOf(inHeight, height, { alignCorners, halfPixelCenters: false });
    const columns = lerpOf(inWidth, width, { alignCorners, halfPixelCenters: false });
    const dx = backend.allocate(images.shape);
    const gradient = viewOf(backend, dy) as Float32Array;
    const target = viewOf(backend, dx) as Float32Array;
    const shape = images.shape as Shape4D;
    backend.runtime.host(() => spread(gradient, target, rows, columns, shape), Number(alignCorners));
    return dx;
  },
);

/** For each output position the input position that it shows. */
function makeNearest(input: number, output: number, { alignCorners, halfPixelCenters }: Sampling): Int32Array {
  const ratio = scale(input, output, alignCorners);
  return Int32Array.from({ length: output }, (_, i) => {
    const at = halfPixelCenters ? ratio * (i + 0.5) : ratio * i;
    return Math.max(0, Math.min(input - 1, alignCorners ? Math.round(at) : Math.floor(at)));
  });
}

/** Every pixel from the one that it shows. */
function pick(
  x: Float32Array,
  target: Float32Array,
  rows: Int32Array,
  columns: Int32Array,
  [batch, inHeight, inWidth, channels]: Shape4D,
): void {
  const height = rows.length;
  const width = columns.length;
  const rowSize = width * channels;
  let to = 0;
  for (let b = 0; b < batch; b++) {
    for (let r = 0; r < height; r++) {
      // A row that shows the same as the one before is its copy.
      if (r > 0 && rows[r] === rows[r - 1]) {
        target.copyWithin(to, to - rowSize, to);
        to += rowSize;
        continue;
      }
      const row = (b * inHeight + (rows[r] as number)) * inWidth;
      for (let c = 0; c < width; c++) {
        const from = (row + (columns[c] as number)) * channels;
        for (let d = 0; d < channels; d++) target[to++] = x[from + d] as number;
      }
    }
  }
}

const nearest = kernel<{ images: TensorInfo }, ResizeAttrs>(
  'ResizeNearestNeighbor',
  ({ inputs: { images }, attrs, backend }) => {
    const [height, width] = attrs.size;
    if (!isFloat(images) || height < 1 || width < 1) return null;
    const [batch, inHeight, inWidth, channels] = images.shape as Shape4D;
    const rows = nearestOf(inHeight, height, attrs);
    const columns = nearestOf(inWidth, width, attrs);
    const y = backend.allocate([batch, height, width, channels]);
    const x = viewOf(backend, images) as Float32Array;
    const target = viewOf(backend, y) as Float32Array;
    backend.runtime.host(
      () => pick(x, target, rows, columns, images.shape as Shape4D),
      Number(attrs.alignCorners),
      Number(attrs.halfPixelCenters),
    );
    return y;
  },
);

/** Adds every gradient to the pixel that was shown. */
function addUp(
  gradient: Float32Array,
  target: Float32Array,
  rows: Int32Array,
  columns: Int32Array,
  [batch, inHeight, inWidth, channels]: Shape4D,
): void {
  const height = rows.length;
  const width = columns.length;
  target.fill(0);
  let from = 0;
  for (let b = 0; b < batch; b++) {
    for (let r = 0; r < height; r++) {
      const row = (b * inHeight + (rows[r] as number)) * inWidth;
      for (let c = 0; c < width; c++) {
        const to = (row + (columns[c] as number)) * channels;
        for (let d = 0; d < channels; d++) target[to + d] = (target[to + d] as number) + (gradient[from++] as number);
      }
    }
  }
}

const nearestGrad = kernel<{ images: TensorInfo; dy: TensorInfo }, { alignCorners: boolean }>(
  'ResizeNearestNeighborGrad',
  ({ inputs: { images, dy }, attrs: { alignCorners }, backend }) => {
    if (!isFloat(images, dy)) return null;
    const [, inHeight, inWidth] = images.shape as Shape4D;
    const [, height, width] = dy.shape as Shape4D;
    const rows = nearestOf(inHeight, height, { alignCorners, halfPixelCenters: false });
    const columns = nearestOf(inWidth, width, { alignCorners, halfPixelCenters: false });
    const dx = backend.allocate(images.shape);
    const gradient = viewOf(backend, dy) as Float32Array;
    const target = viewOf(backend, dx) as Float32Array;
    backend.runtime.host(() => addUp(gradient, target, rows, columns, images.shape as Shape4D), Number(alignCorners));
    return dx;
  },
);

export const resizeKernels: readonly Kernel[] = [bilinear, bilinearGrad, nearest, nearestGrad];
