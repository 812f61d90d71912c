/** Test support: writes shards of made-up pictures. Not part of the package. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { Philox } from '../../utils/random/philox.js';
import { encodeExample, type Feature } from '../example.js';
import { shardName } from '../imagenet-data.js';
import { RecordWriter } from '../tfrecord.js';

const bytes = (value: Uint8Array): Feature => ({ kind: 'bytes', values: [value] });
const integer = (value: number): Feature => ({ kind: 'int64', values: [BigInt(value)] });

/** As upstream's records. `encoded` and `label` null: without that feature. */
export function record(encoded: Uint8Array | null, label: number | null, name = 'a.png'): Uint8Array {
  return encodeExample({
    ...(encoded && { 'image/encoded': bytes(encoded) }),
    ...(label !== null && { 'image/class/label': integer(label) }),
    'image/filename': bytes(Buffer.from(name)),
  });
}

/** A PNG whose colour says which one it is; smooth, so that resizing does not lose it. */
export async function picture(number: number, width = 40, height = 30): Promise<Buffer> {
  const random = new Philox(number);
  const slope = [0, 1, 2].map(() => random.uniform() * 100);
  const pixels = Uint8Array.from({ length: 3 * width * height }, (_, i) => {
    const c = i % 3;
    const x = Math.floor(i / 3) % width;
    return (number * 20 + c * 40 + (slope[c]! * x) / width) % 256;
  });
  return await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

/** Writes a split. @param shards records of each file */
export function writeShards(
  folder: string,
  split: 'train' | 'validation',
  shards: readonly (readonly Uint8Array[])[],
): void {
  mkdirSync(folder, { recursive: true });
  for (const [number, records] of shards.entries()) {
    const writer = new RecordWriter(join(folder, shardName(split, number, shards.length)));
    for (const one of records) writer.write(one);
    writer.close();
  }
}
