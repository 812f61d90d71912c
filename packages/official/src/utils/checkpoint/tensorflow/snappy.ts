/**
 * Snappy's block format (github.com/google/snappy, format_description.txt), the way back only: table files written with compression hold
 * blocks of it. Nothing that the bytes say is believed: a length, an offset or an end that cannot be is a RangeError.
 */

/** 64 bytes of output from a copy of three bytes is the most that the format can do. */
const LARGEST_RATIO = 22;

/** @throws RangeError saying what is wrong, and at which byte */
export function uncompressSnappy(bytes: Uint8Array): Uint8Array {
  let at = 0;
  const next = (): number => {
    const byte = bytes[at++];
    if (byte === undefined) throw new RangeError(`its compressed data end at byte ${bytes.length}, within an element`);
    return byte;
  };
  const littleEndian = (count: number): number => {
    let value = 0;
    for (let i = 0; i < count; i++) value += next() * 2 ** (8 * i);
    return value;
  };
  let size = 0;
  for (let shift = 0, byte = 0x80; byte & 0x80; shift += 7) {
    byte = next();
    size += (byte & 0x7f) * 2 ** shift;
    if (shift > 28) throw new RangeError('its compressed data begin with no length');
  }
  if (size > bytes.length * LARGEST_RATIO) throw new RangeError(`its compressed data cannot be those of ${size} bytes`);
  const result = new Uint8Array(size);
  let done = 0;
  const take = (length: number, what: string) => {
    if (done + length > size)
      throw new RangeError(`its compressed data hold more than their ${size} bytes: ${what} at byte ${at}`);
  };
  while (at < bytes.length) {
    const tag = next();
    const upper = tag >>> 2;
    if ((tag & 3) === 0) {
      const length = (upper < 60 ? upper : littleEndian(upper - 59)) + 1;
      take(length, 'a literal');
      if (at + length > bytes.length) throw new RangeError(`its compressed data end within a literal at byte ${at}`);
      result.set(bytes.subarray(at, at + length), done);
      at += length;
      done += length;
      continue;
    }
    const isShort = (tag & 3) === 1;
    const length = isShort ? 4 + (upper & 7) : upper + 1;
    const offset = isShort ? (tag >>> 5) * 256 + next() : littleEndian((tag & 3) === 2 ? 2 : 4);
    take(length, 'a copy');
    if (offset === 0 || offset > done)
      throw new RangeError(`its compressed data copy from before their beginning at byte ${at}`);
    // Byte by byte: a copy may overlap what it writes, and repeats it then.
    for (let i = 0; i < length; i++, done++) result[done] = result[done - offset] as number;
  }
  if (done !== size) throw new RangeError(`its compressed data hold ${done} bytes, not ${size}`);
  return result;
}
