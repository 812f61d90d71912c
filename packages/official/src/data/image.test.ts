/** Decoding: every kind of picture becomes 8-bit RGB or an error that says why. Pixels are compared with those that were encoded. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import sharp from 'sharp';
import { Philox } from '../utils/random/philox.js';
import { type Box, decodeImage, ImageError, type Size } from './image.js';

const SIZE = { width: 13, height: 7 };
const whole = (size: Size): Box => ({ top: 0, left: 0, ...size });

/** width × height × channels random bytes. */
function noise({ width, height }: Size, channels: 1 | 2 | 3 | 4): Uint8Array {
  const random = new Philox(channels);
  return Uint8Array.from({ length: width * height * channels }, () => random.integer(256));
}

const of = (bytes: Uint8Array, channels: 1 | 2 | 3 | 4, size: Size = SIZE) =>
  sharp(bytes, { raw: { ...size, channels } });
const near = (actual: Uint8Array, expected: ArrayLike<number>, tolerance: number) => {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++)
    assert.ok(Math.abs(actual[i]! - expected[i]!) <= tolerance, `${i}: ${actual[i]} instead of ${expected[i]}`);
};

describe('decodeImage', () => {
  it('PNG and lossless WebP give the bytes that went in, the whole and any part', async () => {
    const bytes = noise(SIZE, 3);
    for (const file of [await of(bytes, 3).png().toBuffer(), await of(bytes, 3).webp({ lossless: true }).toBuffer()]) {
      const image = await decodeImage(file, whole);
      assert.deepEqual({ ...image, pixels: [] }, { ...SIZE, pixels: [] });
      near(image.pixels, bytes, 0);
      const box = { top: 2, left: 3, width: 5, height: 4 };
      const part = await decodeImage(file, (size) => {
        assert.deepEqual(size, SIZE);
        return box;
      });
      const expected = Array.from({ length: 4 }, (_, y) => [
        ...bytes.subarray(3 * ((y + 2) * 13 + 3), 3 * ((y + 2) * 13 + 8)),
      ]).flat();
      near(part.pixels, expected, 0);
    }
  });

  it('grey, transparent, palette, 16-bit, CMYK and animated pictures are RGB of 8 bits', async () => {
    const grey = noise(SIZE, 1);
    const three = [...grey].flatMap((value) => [value, value, value]);
    near((await decodeImage(await of(grey, 1).toColourspace('b-w').png().toBuffer(), whole)).pixels, three, 0);
    near(
      (await decodeImage(await of(grey, 1).toColourspace('b-w').jpeg({ quality: 100 }).toBuffer(), whole)).pixels,
      three,
      3,
    );
    const clear = noise(SIZE, 4);
    const opaque = [...clear].filter((_, i) => i % 4 < 3);
    near((await decodeImage(await of(clear, 4).png().toBuffer(), whole)).pixels, opaque, 0);
    const few = noise(SIZE, 3).map((value) => (value > 127 ? 255 : 0));
    near((await decodeImage(await of(few, 3).png({ palette: true, colours: 8 }).toBuffer(), whole)).pixels, few, 0);
    const deep = await of(noise(SIZE, 3), 3).toColourspace('rgb16').png().toBuffer();
    assert.equal((await sharp(deep).metadata()).depth, 'ushort');
    near((await decodeImage(deep, whole)).pixels, noise(SIZE, 3), 1);
    const white = await of(new Uint8Array(13 * 7 * 3).fill(255), 3)
      .toColourspace('cmyk')
      .jpeg()
      .toBuffer();
    assert.equal((await sharp(white).metadata()).space, 'cmyk');
    near((await decodeImage(white, whole)).pixels, new Uint8Array(13 * 7 * 3).fill(255), 4);
    const frames = Buffer.concat([new Uint8Array(13 * 7 * 3).fill(200), new Uint8Array(13 * 7 * 3).fill(10)]);
    const moving = await sharp(frames, { raw: { width: 13, height: 14, channels: 3, pageHeight: 7 } })
      .gif()
      .toBuffer();
    assert.equal((await sharp(moving).metadata()).pages, 2);
    near((await decodeImage(moving, whole)).pixels, new Uint8Array(13 * 7 * 3).fill(200), 4);
  });

  it('EXIF orientation turns nothing, as TensorFlow’s decoders', async () => {
    const bytes = noise(SIZE, 3);
    const turned = await of(bytes, 3).withMetadata({ orientation: 6 }).png().toBuffer();
    assert.equal((await sharp(turned).metadata()).orientation, 6);
    const image = await decodeImage(turned, whole);
    assert.deepEqual([image.width, image.height], [13, 7]);
    near(image.pixels, bytes, 0);
  });

  it('what cannot be decoded says why: no image, cut off, too large', async () => {
    const size = { width: 64, height: 64 };
    const jpeg = await of(noise(size, 3), 3, size).jpeg().toBuffer();
    const bad: [string, Uint8Array, RegExp][] = [
      ['no image', Buffer.from('no image'), /unsupported image format/],
      ['nothing', Buffer.alloc(0), /empty/i],
      ['cut off', jpeg.subarray(0, jpeg.length / 2), /./],
    ];
    // A PNG's header may claim what it likes.
    const png = Buffer.from(await of(noise(SIZE, 3), 3).png().toBuffer());
    png.writeUInt32BE(40_000, 16);
    png.writeUInt32BE(40_000, 20);
    png.writeUInt32BE(crc32(png.subarray(12, 29)), 29);
    bad.push(['a bomb', png, /exceeds pixel limit/]);
    for (const [what, bytes, pattern] of bad) {
      await assert.rejects(
        decodeImage(bytes, whole),
        (error: Error) => error instanceof ImageError && pattern.test(error.message) && !error.message.includes('\n'),
        what,
      );
    }
  });
});

/** PNG's own. */
function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}
