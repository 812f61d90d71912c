/**
 * The kernels of assembly/kernels.ts as plain TypeScript loops over Float32Arrays.
 *
 * They are what the tests compare the SIMD kernels with, and what runs on arrays that are not in a FlatMemory. `Math.fround`
 * after every operation rounds as f32 does, so both give the same bits. About three times slower.
 */
import type { FlatKernels } from './kernels.js';
import { updates } from './updates/index.js';
import { f32, sumAt } from './updates/update.js';

/** See the file's head. */
export const plainKernels: FlatKernels = {
  name: 'plain',
  accepts: () => true,

  sum(target, sources) {
    for (let i = 0; i < target.length; i++) target[i] = sumAt(sources, i);
  },

  sumToAll(buffers) {
    const count = (buffers[0] as Float32Array).length;
    for (let i = 0; i < count; i++) {
      const sum = sumAt(buffers, i);
      for (const buffer of buffers) buffer[i] = sum;
    }
  },

  copy(target, source) {
    target.set(source.subarray(0, target.length));
  },

  scale(target, source, factor) {
    const by = f32(factor);
    for (let i = 0; i < target.length; i++) target[i] = f32(source[i]! * by);
  },

  update: (name, weights, slots, gradients, numbers) => updates[name](weights, slots, gradients, numbers),

  sumSquares(source) {
    let total = 0;
    for (const value of source) total += value * value;
    return total;
  },

  sumSquaresDecayed(source, weights, factor, decay) {
    const [by, rate] = [f32(factor), f32(decay)];
    let total = 0;
    for (let i = 0; i < source.length; i++) total += f32(f32(source[i]! * by) + f32(rate * weights[i]!)) ** 2;
    return total;
  },

  clip(target, source, bound) {
    const most = f32(bound);
    for (let i = 0; i < target.length; i++) target[i] = Math.min(Math.max(source[i]!, -most), most);
  },

  allFinite(source) {
    return source.every(Number.isFinite);
  },

  toBf16(target, source) {
    const bits = new Uint32Array(source.buffer, source.byteOffset, source.length);
    for (let i = 0; i < target.length; i++) {
      const word = bits[i]!;
      // Adding to a NaN's mantissa could carry into infinity; a quiet NaN is kept instead.
      target[i] =
        (word & 0x7fffffff) > 0x7f800000 ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
    }
  },

  fromBf16(target, source) {
    const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
    for (let i = 0; i < bits.length; i++) bits[i] = source[i]! << 16;
  },

  addBf16(target, source) {
    const values = new Float32Array(target.length);
    this.fromBf16(values, source);
    for (let i = 0; i < target.length; i++) target[i] = target[i]! + values[i]!;
  },
};
