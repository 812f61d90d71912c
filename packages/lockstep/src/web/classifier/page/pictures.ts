/**
 * From whatever somebody gives the page to the pixels that the model takes. A picture of the data set's own kind goes the trainer's way,
 * to the same numbers; others are cut to the square in their middle first.
 */
import { centralView } from '@lockstep/official/data/imagenet-preprocessing';
import type { ModelDescription } from '@lockstep/official/utils/export/export';
import { inkOf, normalizedDigit } from '../digit.js';

/** A larger one is reduced first, as make-imagenet-records does: the trainer's resizing would leave most of its pixels out. */
const LARGE = 4;
const NO_MEANS = [0, 0, 0] as const;
/** Of MNIST's own digits, and how far they lie from the edge of the network's. */
const MNIST_SIDE = 28;
const MNIST_MARGIN = 2;

/** Whether the model reads digits, so that they can be drawn. */
export function readsDigits({ labels, input }: ModelDescription): boolean {
  return labels?.join('') === '0123456789' && input.shape[0] === 32;
}

/** @returns height × width × 3, 0 … 255; null where there is nothing to see */
export function pixelsOf(picture: ImageBitmap, description: ModelDescription): Float32Array | null {
  const [height, width] = description.input.shape;
  if (description.preprocessing.resize.kind === 'central crop') {
    return centralPixels(picture, { height, width }, description.preprocessing.resize.shorterSide);
  }
  if (picture.width === width && picture.height === height) return rgb(imageData(picture, width, height));
  if (!readsDigits(description)) return squarePixels(picture, { height, width });
  if (picture.width === MNIST_SIDE && picture.height === MNIST_SIDE) {
    const surface = surfaceOf(width, height);
    surface.fillRect(0, 0, width, height);
    surface.drawImage(picture, MNIST_MARGIN, MNIST_MARGIN);
    return rgb(surface.getImageData(0, 0, width, height));
  }
  const scale = Math.min(1, 400 / Math.max(picture.width, picture.height));
  const [w, h] = [Math.ceil(picture.width * scale), Math.ceil(picture.height * scale)];
  return normalizedDigit(inkOf(imageData(picture, w, h).data, w, h));
}

interface Size {
  readonly height: number;
  readonly width: number;
}

/** The trainer's evaluation: shorter side to `shorterSide`, the middle of that. */
function centralPixels(picture: ImageBitmap, size: Size, shorterSide: number): Float32Array {
  const shorter = Math.min(picture.width, picture.height);
  const reduce = shorter > LARGE * shorterSide ? (2 * shorterSide) / shorter : 1;
  const whole = { width: Math.round(picture.width * reduce), height: Math.round(picture.height * reduce) };
  const view = centralView(whole, size, NO_MEANS);
  const { left, top, width, height } = view.box;
  const surface = surfaceOf(width, height);
  surface.drawImage(picture, -left, -top, whole.width, whole.height);
  const pixels = new Uint8Array(rgb(surface.getImageData(0, 0, width, height)));
  const out = new Float32Array(size.width * size.height * 3);
  view.write({ pixels, width, height }, out, 0);
  return out;
}

function squarePixels(picture: ImageBitmap, { height, width }: Size): Float32Array {
  const side = Math.min(picture.width, picture.height);
  const surface = surfaceOf(width, height);
  surface.drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, width, height);
  return rgb(surface.getImageData(0, 0, width, height));
}

function imageData(picture: ImageBitmap, width: number, height: number): ImageData {
  const surface = surfaceOf(width, height);
  surface.drawImage(picture, 0, 0, width, height);
  return surface.getImageData(0, 0, width, height);
}

function surfaceOf(width: number, height: number): OffscreenCanvasRenderingContext2D {
  const surface = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true, alpha: false });
  if (!surface) throw new Error('This browser draws on no canvas.');
  surface.imageSmoothingQuality = 'high';
  return surface;
}

function rgb({ data }: ImageData): Float32Array {
  return Float32Array.from(
    { length: (data.length / 4) * 3 },
    (_, i) => data[4 * Math.floor(i / 3) + (i % 3)] as number,
  );
}

/** For the eye. */
export function toImageData(pixels: Float32Array, [height, width]: readonly number[]): ImageData {
  const image = new ImageData(width as number, height as number);
  for (let i = 0; i < pixels.length / 3; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round(pixels[3 * i + c] as number);
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** Decoded upright, and no colour converted: as the trainer reads it. */
export function decode(file: Blob): Promise<ImageBitmap> {
  return createImageBitmap(file, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
}
