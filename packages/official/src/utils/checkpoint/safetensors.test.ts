/** The safetensors format: a file made by hand as its specification says, round trips, and every way to be no such file. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { decodeTensorFile, encodeTensorFile, TensorFileError } from './safetensors.js';

/** A file as the specification describes it, written without the encoder. */
function handmade(header: unknown, data: readonly number[]): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return new Uint8Array(Buffer.concat([length, json, Buffer.from(new Float32Array(data).buffer)]));
}

describe('safetensors', () => {
  it('reads a file that was made by hand', () => {
    const { tensors, metadata } = decodeTensorFile(
      handmade(
        {
          __metadata__: { step: '7' },
          b: { dtype: 'F32', shape: [2], data_offsets: [4, 12] },
          a: { dtype: 'F32', shape: [], data_offsets: [0, 4] },
        },
        [1.5, -2, 3],
      ),
    );
    assert.deepEqual(metadata, { step: '7' });
    assert.deepEqual(tensors, {
      b: { shape: [2], values: Float32Array.of(-2, 3) },
      a: { shape: [], values: Float32Array.of(1.5) },
    });
  });

  it('writes what the specification says: little-endian length, JSON padded with blanks to 8 bytes, then the data', () => {
    const bytes = Buffer.from(
      encodeTensorFile({ tensors: { w: { shape: [2, 1], values: Float32Array.of(1, 2) } }, metadata: { k: 'v' } }),
    );
    const length = Number(bytes.readBigUInt64LE());
    assert.equal(length % 8, 0);
    const text = bytes.toString('utf8', 8, 8 + length);
    assert.deepEqual(JSON.parse(text), {
      __metadata__: { k: 'v' },
      w: { dtype: 'F32', shape: [2, 1], data_offsets: [0, 8] },
    });
    assert.match(text, /\} *$/);
    assert.deepEqual(
      [bytes.readFloatLE(8 + length), bytes.readFloatLE(12 + length), bytes.length],
      [1, 2, 16 + length],
    );
  });

  it('gives back what was written, bit by bit, also through a file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
    try {
      const values = fc.float32Array({ maxLength: 40 });
      const integers = fc.int32Array({ maxLength: 40 });
      const tensor = fc
        .oneof(values, integers)
        .map((array) => ({ shape: [array.length], values: array as Float32Array | Int32Array }));
      fc.assert(
        fc.property(
          fc.dictionary(
            fc.string({ minLength: 1 }).filter((name) => name !== '__metadata__' && name !== '__proto__'),
            tensor,
          ),
          fc.dictionary(
            fc.string({ minLength: 1 }).filter((name) => name !== '__proto__'),
            fc.string(),
          ),
          (tensors, metadata) => {
            const path = join(folder, 'x.safetensors');
            writeFileSync(path, encodeTensorFile({ tensors, metadata }));
            // readFileSync gives a Buffer, whose slice does not copy: every tensor was the whole file once.
            const read = decodeTensorFile(readFileSync(path));
            assert.deepEqual({ ...read.metadata }, { ...metadata });
            assert.deepEqual(Object.keys(read.tensors).sort(), Object.keys(tensors).sort());
            for (const [name, { shape, values: expected }] of Object.entries(tensors)) {
              const actual = read.tensors[name]!;
              assert.deepEqual(actual.shape, shape);
              assert.equal(actual.values.constructor, expected.constructor);
              const bits = (array: Float32Array | Int32Array) =>
                Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('hex');
              assert.equal(bits(actual.values), bits(expected));
            }
          },
        ),
        { numRuns: 50 },
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('says why bytes are no safetensors file', () => {
    const one = (entry: object) => handmade({ w: entry }, [1, 2]);
    for (const [bytes, reason] of [
      [new Uint8Array(3), /is 3 bytes long, too short/],
      [new Uint8Array(64).fill(255), /says that its header has/],
      [handmade('{"w": ', []), /header that is not JSON/],
      [handmade('null', []), /header that is no JSON object/],
      [handmade('[1]', []), /header that is no JSON object/],
      [handmade({ w: null }, []), /describes tensor 'w' incompletely/],
      [one({}), /describes tensor 'w' incompletely/],
      [one({ dtype: 'F64', shape: [1], data_offsets: [0, 8] }), /tensor 'w' of unknown dtype F64/],
      [one({ dtype: 'F32', shape: [3], data_offsets: [0, 8] }), /has 8 bytes for tensor 'w' of shape \[3\]/],
      [one({ dtype: 'F32', shape: [2], data_offsets: [4, 12] }), /is cut off: tensor 'w'/],
    ] as const) {
      assert.throws(
        () => decodeTensorFile(bytes),
        (error: Error) => error instanceof TensorFileError && reason.test(error.message),
      );
    }
  });

  it('a file cut off anywhere is noticed', () => {
    const whole = encodeTensorFile({
      tensors: { w: { shape: [4], values: Float32Array.of(1, 2, 3, 4) } },
      metadata: {},
    });
    for (let length = 0; length < whole.length; length++) {
      assert.throws(() => decodeTensorFile(whole.subarray(0, length)), TensorFileError, `${length} bytes`);
    }
  });
});
