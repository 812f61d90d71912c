/**
 * What training and evaluation see of an image (upstream's imagenet_preprocessing.py): which part of it, at which size, mirrored or
 * not, minus the mean colour. Training takes a box of random place, size and shape (Szegedy et al., arXiv:1409.4842, as TensorFlow's
 * sample_distorted_bounding_box draws it); evaluation the centre of the image at 8/7 of the wanted size. Resizing is TensorFlow 1's
 * resize_bilinear: pixel i of n lies at i·size/n, and nothing is averaged where an image shrinks.
 */
import type { Philox } from '../utils/random/philox.js';
import type { Box, DecodedImage, Size } from './image.js';

/** Mean red, green and blue of ImageNet, which is subtracted. */
export const CHANNEL_MEANS = [123.68, 116.78, 103.94] as const;

const MIN_OBJECT_COVERED = 0.1;
const ASPECT_RATIOS = [0.75, 1.33] as const;
const AREAS = [0.05, 1] as const;
const ATTEMPTS = 100;

/** Corners of an object, as parts of the image's height and width. */
export interface ObjectBox {
  readonly top: number;
  readonly left: number;
  readonly bottom: number;
  readonly right: number;
}

const WHOLE: ObjectBox = { top: 0, left: 0, bottom: 1, right: 1 };

/**
 * A box with 5 to 100 % of the image's area and 0.75 to 1.33 times as wide as high, which covers a tenth of one of the objects; without
 * objects, of the image. The whole image after 100 boxes that do not.
 */
export function sampleDistortedBox(size: Size, objects: readonly ObjectBox[], random: Philox): Box {
  const wanted = objects.length > 0 ? objects : [WHOLE];
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const [narrow, wide] = ASPECT_RATIOS;
    const box = drawBox(size, narrow + (wide - narrow) * random.uniform(), random);
    if (box && wanted.some((object) => coverage(box, object, size) >= MIN_OBJECT_COVERED)) return box;
  }
  return { top: 0, left: 0, ...size };
}

/** A box of a given shape: its height is as likely as any other that keeps to the limits. */
function drawBox({ height: fullHeight, width: fullWidth }: Size, aspect: number, random: Philox): Box | null {
  const [least, most] = AREAS.map((part) => part * fullHeight * fullWidth) as [number, number];
  const widthOf = (rows: number) => roundHalfEven(rows * aspect);
  let highest = roundHalfEven(Math.sqrt(most / aspect));
  if (widthOf(highest) > fullWidth) {
    highest = Math.trunc((fullWidth + 0.5 - 1e-7) / aspect);
    if (widthOf(highest) > fullWidth) highest--;
  }
  highest = Math.min(highest, fullHeight);
  const lowest = Math.min(roundHalfEven(Math.sqrt(least / aspect)), highest);
  let height = lowest < highest ? lowest + random.integer(highest - lowest + 1) : lowest;
  // Rounding may have left the limits by a pixel.
  if (height * widthOf(height) < least) height++;
  if (height * widthOf(height) > most) height--;
  const width = widthOf(height);
  const area = height * width;
  if (area < least || area > most || width > fullWidth || height > fullHeight || width < 1 || height < 1) return null;
  // As TensorFlow draws it, the last place is never taken.
  const place = (room: number) => (room > 0 ? random.integer(room) : 0);
  return { top: place(fullHeight - height), left: place(fullWidth - width), height, width };
}

/** The part of an object that a box covers. */
function coverage(box: Box, object: ObjectBox, { height, width }: Size): number {
  const [top, bottom] = [object.top * height, object.bottom * height];
  const [left, right] = [object.left * width, object.right * width];
  const rows = Math.min(bottom, box.top + box.height) - Math.max(top, box.top);
  const columns = Math.min(right, box.left + box.width) - Math.max(left, box.left);
  const area = (bottom - top) * (right - left);
  return area > 0 ? (Math.max(0, rows) * Math.max(0, columns)) / area : 0;
}

/** As the C library rounds. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1;
  return rest > 0.5 ? below + 1 : below;
}

/** One side of an image resized to `resized`, and of that the `count` pixels from `first` on: what is read for each. */
interface Axis {
  /** Pixels of the image, counted from `begin`. */
  readonly lower: Int32Array;
  readonly upper: Int32Array;
  /** Of the way from lower to upper. */
  readonly part: Float32Array;
  /** The pixels that are read: begin … end − 1. */
  readonly begin: number;
  readonly end: number;
}

function axis(size: number, resized: number, first: number, count: number): Axis {
  const scale = Math.fround(size / resized);
  const lower = new Int32Array(count);
  const upper = new Int32Array(count);
  const part = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const at = Math.fround((first + i) * scale);
    const pixel = Math.min(Math.floor(at), size - 1);
    lower[i] = pixel;
    upper[i] = Math.min(pixel + 1, size - 1);
    part[i] = at - pixel;
  }
  const begin = lower[0] as number;
  const end = (upper[count - 1] as number) + 1;
  for (let i = 0; i < count; i++) {
    lower[i] = (lower[i] as number) - begin;
    upper[i] = (upper[i] as number) - begin;
  }
  return { lower, upper, part, begin, end };
}

/** What is decoded of an image, and how pixels are made of it. */
export interface View {
  readonly box: Box;
  /** Writes height × width × 3 numbers at target[offset…]. @param image the box, decoded */
  write(image: DecodedImage, target: Float32Array, offset: number): void;
}

/** A box of an image, resized without keeping its shape. @param flip mirrors it before that, left to right */
export function boxView(box: Box, { height, width }: Size, flip: boolean): View {
  const rows = axis(box.height, height, 0, height);
  const columns = axis(box.width, width, 0, width);
  const right = box.width - 1;
  if (flip) for (const side of [columns.lower, columns.upper]) for (const [i, x] of side.entries()) side[i] = right - x;
  // Where an image grows, or by rounding, the last pixels may not be read; the box is decoded whole all the same.
  return { box, write: (image, target, offset) => resample(image, rows, columns, target, offset) };
}

/** What the shorter side of an image becomes before its centre is taken: 8/7 of the shorter one wanted, 256 for 224. */
export function centralSide({ height, width }: Size): number {
  return Math.round((Math.min(height, width) * 8) / 7);
}

/**
 * The centre, height × width, of the image resized so that its shorter side is {@link centralSide}.
 * @param means subtracted from red, green and blue
 */
export function centralView(
  image: Size,
  { height, width }: Size,
  means: readonly [number, number, number] = CHANNEL_MEANS,
): View {
  const resized = aspectPreservingSize(image, centralSide({ height, width }));
  const rows = axis(image.height, resized.height, Math.floor((resized.height - height) / 2), height);
  const columns = axis(image.width, resized.width, Math.floor((resized.width - width) / 2), width);
  return {
    box: {
      top: rows.begin,
      left: columns.begin,
      height: rows.end - rows.begin,
      width: columns.end - columns.begin,
    },
    write: (decoded, target, offset) => resample(decoded, rows, columns, target, offset, means),
  };
}

/** Upstream's sizes: cut off to whole pixels, in 32 bits. A shorter side of 375 is 255 at times, not 256. */
export function aspectPreservingSize({ height, width }: Size, shorter: number): Size {
  const ratio = Math.fround(shorter / Math.min(height, width));
  const scaled = (side: number) => Math.max(1, Math.trunc(Math.fround(side * ratio)));
  return { height: scaled(height), width: scaled(width) };
}

/** Bilinear, minus the means. */
function resample(
  { pixels, width }: DecodedImage,
  rows: Axis,
  columns: Axis,
  target: Float32Array,
  offset: number,
  means: readonly [number, number, number] = CHANNEL_MEANS,
): void {
  const count = columns.part.length;
  const left = Int32Array.from(columns.lower, (x) => 3 * x);
  const right = Int32Array.from(columns.upper, (x) => 3 * x);
  const { part } = columns;
  const [red, green, blue] = means;
  let at = offset;
  for (let y = 0; y < rows.part.length; y++) {
    const above = 3 * width * (rows.lower[y] as number);
    const below = 3 * width * (rows.upper[y] as number);
    const down = rows.part[y] as number;
    for (let x = 0; x < count; x++, at += 3) {
      const l = left[x] as number;
      const r = right[x] as number;
      const along = part[x] as number;
      const a = above + l;
      const b = above + r;
      const c = below + l;
      const d = below + r;
      let upper = pixels[a]! + (pixels[b]! - pixels[a]!) * along;
      let lower = pixels[c]! + (pixels[d]! - pixels[c]!) * along;
      target[at] = upper + (lower - upper) * down - red;
      upper = pixels[a + 1]! + (pixels[b + 1]! - pixels[a + 1]!) * along;
      lower = pixels[c + 1]! + (pixels[d + 1]! - pixels[c + 1]!) * along;
      target[at + 1] = upper + (lower - upper) * down - green;
      upper = pixels[a + 2]! + (pixels[b + 2]! - pixels[a + 2]!) * along;
      lower = pixels[c + 2]! + (pixels[d + 2]! - pixels[c + 2]!) * along;
      target[at + 2] = upper + (lower - upper) * down - blue;
    }
  }
}
