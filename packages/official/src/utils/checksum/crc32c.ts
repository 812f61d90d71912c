/**
 * CRC-32C (Castagnoli), the checksum of TFRecord files and of TensorFlow's tables: RFC 3720, B.4. Eight bytes at once through eight
 * tables (Kounavis and Berry, "A systematic approach to building high performance software-based CRC generators", 2005): a record of
 * ImageNet costs a fiftieth of its decoding. Node's zlib has the other CRC-32, whose polynomial differs.
 */

/** Castagnoli's polynomial, lowest bit first. */
const POLYNOMIAL = 0x82f63b78;
/** TensorFlow's masks: a checksum of bytes that contain checksums would be weak. */
const MASK_DELTA = 0xa282ead8;

/** [k·256 + b]: what byte b does to the checksum when k bytes follow it. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
    tables[byte] = crc;
  }
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256] as number;
    tables[at] = (before >>> 8) ^ (tables[before & 0xff] as number);
  }
  return tables;
}

/** @returns the checksum of `bytes`, 0..2³²−1 */
export function crc32c(bytes: Uint8Array): number {
  const t = TABLES as unknown as number[];
  const b = bytes as unknown as number[];
  let crc = -1;
  let at = 0;
  for (const whole = bytes.length - 7; at < whole; at += 8) {
    crc ^= b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24);
    crc =
      t[1792 + (crc & 0xff)]! ^
      t[1536 + ((crc >>> 8) & 0xff)]! ^
      t[1280 + ((crc >>> 16) & 0xff)]! ^
      t[1024 + (crc >>> 24)]! ^
      t[768 + b[at + 4]!]! ^
      t[512 + b[at + 5]!]! ^
      t[256 + b[at + 6]!]! ^
      t[b[at + 7]!]!;
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ t[(crc ^ b[at]!) & 0xff]!;
  return ~crc >>> 0;
}

/** As TensorFlow writes a checksum beside its data: turned by 15 bits, plus a constant. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}
