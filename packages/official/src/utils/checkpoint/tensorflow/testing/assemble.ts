/**
 * Test support: files of TensorFlow's checkpoints put together byte by byte from the published formats, by nothing of what reads and writes
 * them here; the checksum is the definition, bit by bit. Not part of the package.
 */
import { Buffer } from 'node:buffer';

export function crc(bytes: Uint8Array): number {
  let remainder = 0xffffffff;
  for (const byte of bytes) {
    remainder ^= byte;
    for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? 0x82f63b78 : 0);
  }
  return ~remainder >>> 0;
}

export function masked(bytes: Uint8Array): number {
  const value = BigInt(crc(bytes));
  return Number(((((value >> 15n) | (value << 17n)) & 0xffffffffn) + 0xa282ead8n) & 0xffffffffn);
}

export function fixed32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function varint(value: number | bigint): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Buffer.from([...bytes, Number(rest)]);
}

const text = (value: string | Uint8Array) => Buffer.from(value as string);

/** A field of a protocol buffer: a number, or bytes with their length. */
export function field(number: number, value: number | Uint8Array): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number << 3), varint(value)]);
  return Buffer.concat([varint((number << 3) | 2), varint(value.length), value]);
}

export function header(shards = 1, more: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([field(1, shards), more, field(3, field(1, 1))]);
}

export interface Entry {
  readonly dtype: number;
  readonly shape?: readonly number[];
  readonly shard?: number;
  readonly offset?: number;
  /** From these the size and the checksum follow, unless they are said. */
  readonly data: Uint8Array;
  readonly size?: number;
  readonly checksum?: number;
  readonly more?: Uint8Array;
}

export function entry({ dtype, shape = [], shard = 0, offset = 0, data, size, checksum, more }: Entry): Buffer {
  return Buffer.concat([
    field(1, dtype),
    field(2, Buffer.concat(shape.map((length) => field(2, field(1, length))))),
    field(3, shard),
    field(4, offset),
    field(5, size ?? data.length),
    Buffer.from([(6 << 3) | 5]),
    fixed32(checksum ?? masked(data)),
    more ?? Buffer.alloc(0),
  ]);
}

type Pairs = readonly (readonly [key: string | Uint8Array, value: Uint8Array])[];

/** Keys whole, or what they share with the key before left out. */
export function block(pairs: Pairs, share = false): Buffer {
  const restarts = [0];
  let size = 0;
  let last: Uint8Array = Buffer.alloc(0);
  const parts = pairs.map(([key, value], i) => {
    const bytes = text(key);
    let shared = 0;
    if (share) while (shared < bytes.length && bytes[shared] === last[shared]) shared++;
    else if (i > 0) restarts.push(size);
    const own = bytes.subarray(shared);
    const part = Buffer.concat([varint(shared), varint(own.length), varint(value.length), own, value]);
    size += part.length;
    last = bytes;
    return part;
  });
  return Buffer.concat([...parts, ...restarts.map(fixed32), fixed32(restarts.length)]);
}

/** A block of Snappy's: one literal for each 60 bytes, and nothing compressed. */
export function snappyLiterals(bytes: Uint8Array): Buffer {
  const parts: Uint8Array[] = [varint(bytes.length)];
  for (let at = 0; at < bytes.length; at += 60) {
    const piece = bytes.subarray(at, at + 60);
    parts.push(Buffer.from([(piece.length - 1) << 2]), piece);
  }
  return Buffer.concat(parts);
}

/** @param blocks each one's last key, bytes and kind of compression */
export function table(
  blocks: readonly { readonly last: string; readonly bytes: Uint8Array; readonly kind?: number }[],
): Buffer {
  let offset = 0;
  const parts: Uint8Array[] = [];
  const add = (bytes: Uint8Array, kind = 0): Buffer => {
    const withKind = Buffer.concat([bytes, Buffer.from([kind])]);
    const handle = Buffer.concat([varint(offset), varint(bytes.length)]);
    parts.push(withKind, fixed32(masked(withKind)));
    offset += bytes.length + 5;
    return handle;
  };
  const index = blocks.map(({ last, bytes, kind }) => [last, add(bytes, kind)] as const);
  const meta = add(block([]));
  const handles = Buffer.concat([meta, add(block(index))]);
  return Buffer.concat([...parts, handles, Buffer.alloc(40 - handles.length), Buffer.from('57fb808b247547db', 'hex')]);
}

/** An index of one block. */
export function index(pairs: Pairs): Buffer {
  return table([{ last: '\u007f', bytes: block(pairs, true) }]);
}
