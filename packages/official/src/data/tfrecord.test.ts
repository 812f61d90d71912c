/** TFRecord frames against bytes that were put together by hand, and every way in which a file can be damaged. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { RecordError, RecordWriter, readRecord, readRecords, recordPlaces } from './tfrecord.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tfrecord-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** '123456789', whose CRC-32C is the published e3069283: ((e3069283 >> 15 | e3069283 << 17) + a282ead8) mod 2³². */
const FRAME = Buffer.concat([
  Buffer.from('0900000000000000', 'hex'),
  Buffer.from('00000000', 'hex'),
  Buffer.from('123456789'),
  Buffer.from('00000000', 'hex'),
]);
/** Bit by bit, from the definition. */
function masked(bytes: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  crc ^= 0xffffffffn;
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn);
}
FRAME.writeUInt32LE(masked(FRAME.subarray(0, 8)), 8);
FRAME.writeUInt32LE(Number((((0xe3069283n >> 15n) | (0xe3069283n << 17n)) + 0xa282ead8n) & 0xffffffffn), 21);

const textOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');

async function all(file: string): Promise<string[]> {
  const found: string[] = [];
  for await (const bytes of readRecords(file)) found.push(textOf(bytes));
  return found;
}

describe('tfrecord', () => {
  it('writes the published frame, and reads it', async () => {
    const file = join(folder, 'a');
    const writer = new RecordWriter(file);
    writer.write(Buffer.from('123456789'));
    writer.write(new Uint8Array());
    writer.write(Buffer.from('x'.repeat(100_000)));
    writer.close();
    assert.ok(readFileSync(file).subarray(0, FRAME.length).equals(FRAME));
    assert.deepEqual(await all(file), ['123456789', '', 'x'.repeat(100_000)]);
    const places = [...recordPlaces(file)];
    assert.deepEqual(places, [
      { offset: 0, length: 9 },
      { offset: 25, length: 0 },
      { offset: 41, length: 100_000 },
    ]);
    assert.equal(textOf(await readRecord(file, places[0]!)), '123456789');
    writeFileSync(file, '');
    assert.deepEqual(await all(file), []);
    writeFileSync(file, FRAME);
    assert.throws(() => new RecordWriter(file), /cannot be written: a file is in the way/, 'never over another file');
  });

  it('a damaged file is named, with the offset of the record', async () => {
    const file = join(folder, 'damaged');
    const twice = Buffer.concat([FRAME, FRAME]);
    for (const size of [26, 36, 37, 49]) {
      writeFileSync(file, twice);
      truncateSync(file, size);
      await assert.rejects(all(file), (error: Error) => {
        assert.ok(error instanceof RecordError);
        assert.match(error.message, /damaged: the record at offset 25 is cut off: there are \d+ of its .*\nhelp: /);
        return true;
      });
    }
    for (const [at, pattern] of [
      [25, /offset 25 has a length with a wrong CRC/],
      [33, /offset 25 has a length with a wrong CRC/],
      [40, /offset 25 of 9 bytes has a wrong CRC/],
      [49, /offset 25 of 9 bytes has a wrong CRC/],
    ] as const) {
      const bytes = Buffer.from(twice);
      bytes[at] = (bytes[at] as number) ^ 4;
      writeFileSync(file, bytes);
      await assert.rejects(all(file), pattern, `byte ${at}`);
    }
    writeFileSync(file, FRAME);
    const [place] = recordPlaces(file);
    truncateSync(file, 20);
    await assert.rejects(readRecord(file, place!), /offset 0 is cut off: there are 20 of its 25 bytes/);
    await assert.rejects(all(join(folder, 'none')), /none cannot be read: it is not there \(ENOENT\)/);
  });
});
