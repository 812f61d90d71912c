/** CRC-32C against the published vectors, and against the definition bit by bit. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { crc32c, maskedCrc32c } from './crc32c.js';

describe('crc32c', () => {
  it('is RFC 3720’s (B.4)', () => {
    const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
    assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
    assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
    assert.equal(crc32c(ascending), 0x46dd794e);
    assert.equal(crc32c(ascending.toReversed()), 0x113fdb5c);
    const read = [0x01c00000, 0, 0, 0, 0x14000000, 0x00000400, 0x00000014, 0x00000018, 0x28000000, 0, 0x02000000, 0];
    const bytes = Buffer.alloc(48);
    for (const [i, word] of read.entries()) bytes.writeUInt32BE(word, 4 * i);
    assert.equal(crc32c(bytes), 0xd9963a56);
    assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
    assert.equal(crc32c(new Uint8Array()), 0);
  });

  it('is the polynomial’s remainder, for any bytes at any place', () => {
    const slow = (bytes: Uint8Array) => {
      let crc = 0xffffffff;
      for (const byte of bytes) {
        crc ^= byte;
        for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
      }
      return ~crc >>> 0;
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 50 }), fc.nat(7), (bytes, from) => {
        assert.equal(crc32c(bytes.subarray(from)), slow(bytes.subarray(from)));
      }),
    );
  });

  it('is masked as TensorFlow’s record writer masks it', () => {
    // As TensorBoard's event files begin: a record of 24 bytes, then this, lowest byte first.
    assert.equal(maskedCrc32c(Buffer.from('1800000000000000', 'hex')), Buffer.from('a37f4b22', 'hex').readUInt32LE());
  });
});
