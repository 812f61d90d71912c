/**
 * bfloat16 on the wire: the upper half of a float32, rounded to nearest, ties to even. Sums are never taken in it.
 *
 * Eight bits of mantissa: a gradient element is off by at most 2⁻⁸ of itself. NaN stays NaN, overflow becomes infinity.
 */

/** Rounds `source` into `target`; both have the same length. */
export function toBf16(source: Float32Array, target: Uint16Array): void {
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i] as number;
    // Adding to a NaN's mantissa could carry into infinity; a quiet NaN is kept instead.
    target[i] = (word & 0x7fffffff) > 0x7f800000 ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
}

/** The float32 values of bfloat16 numbers; exact. */
export function fromBf16(source: Uint16Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < source.length; i++) bits[i] = (source[i] as number) << 16;
}
