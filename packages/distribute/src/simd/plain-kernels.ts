/**
 * The kernels of assembly/kernels.ts as plain TypeScript loops over Float32Arrays.
 *
 * They are what the tests compare the SIMD kernels with, and what runs on arrays that are not in a FlatMemory. `Math.fround`
 * after every operation rounds as f32 does, so both give the same bits. About three times slower.
 */
import type { FlatKernels, MomentumUpdate, SgdUpdate } from './kernels.js';

const f32 = Math.fround;

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

  momentumUpdate(weights, slot, gradients, update: MomentumUpdate) {
    const [scale, decay, rate] = [f32(update.gradientScale), f32(update.weightDecay), f32(update.learningRate)];
    const momentum = f32(update.momentum);
    let finite = true;
    for (let i = 0; i < weights.length; i++) {
      const raw = sumAt(gradients, i);
      finite &&= Number.isFinite(raw);
      const w = weights[i]!;
      const g = f32(f32(raw * scale) + f32(decay * w));
      const m = f32(f32(momentum * slot[i]!) + g);
      const direction = update.nesterov ? f32(g + f32(momentum * m)) : m;
      slot[i] = m;
      weights[i] = w - f32(rate * direction);
    }
    return finite;
  },

  sgdUpdate(weights, gradients, update: SgdUpdate) {
    const [scale, decay, rate] = [f32(update.gradientScale), f32(update.weightDecay), f32(update.learningRate)];
    let finite = true;
    for (let i = 0; i < weights.length; i++) {
      const raw = sumAt(gradients, i);
      finite &&= Number.isFinite(raw);
      const w = weights[i]!;
      weights[i] = w - f32(rate * f32(f32(raw * scale) + f32(decay * w)));
    }
    return finite;
  },

  sumSquares(source) {
    let total = 0;
    for (const value of source) total += value * value;
    return total;
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

function sumAt(sources: readonly Float32Array[], i: number): number {
  let sum = sources[0]![i]!;
  for (let source = 1; source < sources.length; source++) sum = f32(sum + sources[source]![i]!);
  return sum;
}
