/** RFC 3720's vectors (B.4), the bitwise definition on odd lengths and places, and the mask that TensorFlow publishes. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { crc32c, maskCrc, unmaskCrc } from './crc32c.js';

/** The definition: the remainder of the message, bit by bit. */
function byDefinition(bytes: Uint8Array): number {
  let remainder = 0xffffffff;
  for (const byte of bytes) {
    remainder ^= byte;
    for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0x82f63b78 : 0);
  }
  return ~remainder >>> 0;
}

describe('CRC-32C', () => {
  it("gives the checksums of RFC 3720's examples", () => {
    const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
    const scsiRead = Uint8Array.from(
      Buffer.from(
        '01c0000000000000000000000000000014000000000004000000001400000018280000000000000002000000' + '00000000',
        'hex',
      ),
    );
    assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
    assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
    assert.equal(crc32c(ascending), 0x46dd794e);
    assert.equal(crc32c(ascending.slice().reverse()), 0x113fdb5c);
    assert.equal(crc32c(scsiRead), 0xd9963a56);
    assert.equal(crc32c(new TextEncoder().encode('123456789')), 0xe3069283);
    assert.equal(crc32c(new Uint8Array(0)), 0);
  });

  it('is the definition for every length and place, and goes on from what came before', () => {
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => (i * 97 + 13) & 0xff);
    for (let begin = 0; begin < 9; begin++) {
      for (let end = begin; end < 60; end++) {
        const part = bytes.subarray(begin, end);
        const expected = byDefinition(part);
        assert.equal(crc32c(part), expected);
        const cut = (end - begin) >> 1;
        assert.equal(crc32c(part.subarray(cut), crc32c(part.subarray(0, cut))), expected);
      }
    }
  });

  it('masks as ((crc >> 15) | (crc << 17)) + 0xa282ead8', () => {
    // In f64, and BigInt, apart from the code's 32 bits.
    for (const crc of [0, 1, 0x8a9136aa, 0xe3069283, 0xffffffff]) {
      const wide = BigInt(crc);
      const expected = Number((((wide >> 15n) | ((wide << 17n) & 0xffffffffn)) + 0xa282ead8n) & 0xffffffffn);
      assert.equal(maskCrc(crc), expected);
      assert.equal(unmaskCrc(expected), crc);
    }
  });
});
