/**
 * Decoding images with `sharp` (libvips): a part of an image as bytes of red, green and blue. Everything that a picture may be besides a
 * plain JPEG is decided here: greyscale, CMYK, palettes, 16 bits and transparency become 8-bit RGB; of an animation the first picture
 * counts; an image of more than {@link MAX_PIXELS} is refused before memory is taken for it. Colour profiles and EXIF orientation are
 * left alone, as TensorFlow's decoders do.
 */
import type { default as Sharp, SharpOptions } from 'sharp';
import { DataError } from './data-error.js';

/** 134 million: 400 MB decoded. A file of a few kilobytes can claim any size. */
export const MAX_PIXELS = 2 ** 27;

/** Of an image. */
export interface Size {
  readonly height: number;
  readonly width: number;
}

/** A part of an image, in pixels. */
export interface Box extends Size {
  readonly top: number;
  readonly left: number;
}

export interface DecodedImage extends Size {
  /** height × width × 3: red, green, blue. */
  readonly pixels: Uint8Array;
}

/** The bytes are no image that can be decoded; the message says why, and not where they are from. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
}

/** A truncated image is an error as TensorFlow has it; what a decoder merely complains about is not. */
export const DECODING: SharpOptions = { failOn: 'error', limitInputPixels: MAX_PIXELS, ignoreIcc: true };

let loaded: Promise<typeof Sharp> | null = null;

/**
 * The library, which computes an image in one thread: many are decoded at once. It keeps nothing between two images.
 * @throws DataError where it is not installed
 */
export function loadSharp(): Promise<typeof Sharp> {
  loaded ??= import('sharp').then(
    ({ default: sharp }) => {
      sharp.concurrency(1);
      sharp.cache(false);
      return sharp;
    },
    (error: Error) => {
      throw new DataError(
        `The package sharp, which decodes images, cannot be loaded: ${error.message.split('\n')[0]}\n` +
          'help: npm install sharp',
        { cause: error },
      );
    },
  );
  return loaded;
}

/**
 * Decodes the part of an image that `choose` wants of it, knowing its size.
 * @throws ImageError if it cannot be decoded: no image, cut off, damaged, too large
 */
export async function decodeImage(bytes: Uint8Array, choose: (size: Size) => Box): Promise<DecodedImage> {
  const sharp = await loadSharp();
  try {
    const image = sharp(bytes, DECODING);
    const { width, height } = await image.metadata();
    const box = choose({ width, height });
    if (box.width < width || box.height < height) image.extract(box);
    const { data, info } = await image
      .removeAlpha()
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const pixels = info.channels === 3 ? data : spread(data, info.channels);
    return { pixels, width: info.width, height: info.height };
  } catch (error) {
    throw imageError(error);
  }
}

/** A decoder's complaint in one line, with its cause. */
export function imageError(error: unknown): ImageError {
  const [line] = (error as Error).message.trim().split('\n') as [string];
  return new ImageError(line.replace(/\.$/, ''), { cause: error });
}

/** The first channel three times. */
function spread(data: Uint8Array, channels: number): Uint8Array {
  const pixels = new Uint8Array((3 * data.length) / channels);
  for (let from = 0, to = 0; from < data.length; from += channels, to += 3)
    pixels.fill(data[from] as number, to, to + 3);
  return pixels;
}
