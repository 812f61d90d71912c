/**
 * The loops that touch every weight once a step, in AssemblyScript: WebAssembly SIMD over imported shared memory.
 *
 * They are element-wise: an element's result depends on that element alone, multiplications and additions are rounded one
 * by one (no fused multiply-add), and the sum over replicas runs in table order. So results are bit-identical however the
 * elements are cut into slices, and equal to src/simd/plain-kernels.ts, the same loops in plain TypeScript.
 * Optimizers' updates are in updates/, one a file. Not here: threads, barriers, packs. A pointer is a byte address in the memory; a table is n addresses, 4 bytes each.
 */
import { at, isZero4, sum1 } from './sums';

export { adam, adamw } from './updates/adam';
export { momentum, nesterov } from './updates/momentum';
export { rmsprop, rmspropCentered } from './updates/rmsprop';
export { sgd } from './updates/sgd';

/** target[i] = Σ table[r][i]. The target may be one of the table's. */
export function sum(target: usize, table: usize, n: i32, count: u32): void {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>63);
  let i: usize = 0;
  if (n === 2) {
    const a = at(table, 0, 0);
    const b = at(table, 1, 0);
    for (; i < vector; i += 64) {
      const s0 = f32x4.add(v128.load(a + i), v128.load(b + i));
      const s1 = f32x4.add(v128.load(a + i, 16), v128.load(b + i, 16));
      const s2 = f32x4.add(v128.load(a + i, 32), v128.load(b + i, 32));
      const s3 = f32x4.add(v128.load(a + i, 48), v128.load(b + i, 48));
      v128.store(target + i, s0);
      v128.store(target + i, s1, 16);
      v128.store(target + i, s2, 32);
      v128.store(target + i, s3, 48);
    }
  }
  for (; i < vector; i += 64) {
    const first = at(table, 0, i);
    let s0 = v128.load(first);
    let s1 = v128.load(first, 16);
    let s2 = v128.load(first, 32);
    let s3 = v128.load(first, 48);
    for (let replica = 1; replica < n; replica++) {
      const next = at(table, replica, i);
      s0 = f32x4.add(s0, v128.load(next));
      s1 = f32x4.add(s1, v128.load(next, 16));
      s2 = f32x4.add(s2, v128.load(next, 32));
      s3 = f32x4.add(s3, v128.load(next, 48));
    }
    v128.store(target + i, s0);
    v128.store(target + i, s1, 16);
    v128.store(target + i, s2, 32);
    v128.store(target + i, s3, 48);
  }
  for (; i < bytes; i += 4) store<f32>(target + i, sum1(table, n, i));
}

/** table[r][i] = Σ table[·][i], for every r. */
export function sumToAll(table: usize, n: i32, count: u32): void {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>31);
  let i: usize = 0;
  for (; i < vector; i += 32) {
    const first = at(table, 0, i);
    let s0 = v128.load(first);
    let s1 = v128.load(first, 16);
    for (let replica = 1; replica < n; replica++) {
      const next = at(table, replica, i);
      s0 = f32x4.add(s0, v128.load(next));
      s1 = f32x4.add(s1, v128.load(next, 16));
    }
    for (let replica = 0; replica < n; replica++) {
      const target = at(table, replica, i);
      v128.store(target, s0);
      v128.store(target, s1, 16);
    }
  }
  for (; i < bytes; i += 4) {
    const s = sum1(table, n, i);
    for (let replica = 0; replica < n; replica++) store<f32>(at(table, replica, i), s);
  }
}

/** target[i] = source[i]. The two must not overlap, unless they are the same. */
export function copy(target: usize, source: usize, count: u32): void {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>63);
  let i: usize = 0;
  for (; i < vector; i += 64) {
    v128.store(target + i, v128.load(source + i));
    v128.store(target + i, v128.load(source + i, 16), 16);
    v128.store(target + i, v128.load(source + i, 32), 32);
    v128.store(target + i, v128.load(source + i, 48), 48);
  }
  for (; i < bytes; i += 4) store<f32>(target + i, load<f32>(source + i));
}

/** target[i] = source[i]·factor. */
export function scale(target: usize, source: usize, factor: f32, count: u32): void {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>31);
  const factors = f32x4.splat(factor);
  let i: usize = 0;
  for (; i < vector; i += 32) {
    v128.store(target + i, f32x4.mul(v128.load(source + i), factors));
    v128.store(target + i, f32x4.mul(v128.load(source + i, 16), factors), 16);
  }
  for (; i < bytes; i += 4) store<f32>(target + i, load<f32>(source + i) * factor);
}

/** Σ source[i]², accumulated in f64 over two interleaved lanes and a tail. */
export function sumSquares(source: usize, count: u32): f64 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  let i: usize = 0;
  for (; i < vector; i += 16) {
    const values = v128.load(source + i);
    const a = f64x2.promote_low_f32x4(values);
    const b = f64x2.promote_low_f32x4(
      i8x16.shuffle(values, values, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15),
    );
    low = f64x2.add(low, f64x2.mul(a, a));
    high = f64x2.add(high, f64x2.mul(b, b));
  }
  const both = f64x2.add(low, high);
  let total = f64x2.extract_lane(both, 0) + f64x2.extract_lane(both, 1);
  for (; i < bytes; i += 4) {
    const value = <f64>load<f32>(source + i);
    total += value * value;
  }
  return total;
}

/** 1 if every element is finite, else 0. */
export function allFinite(source: usize, count: u32): i32 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const zero = f32x4.splat(0);
  let seen = zero;
  let i: usize = 0;
  for (; i < vector; i += 16) seen = f32x4.add(seen, f32x4.mul(v128.load(source + i), zero));
  let seen1: f32 = 0;
  for (; i < bytes; i += 4) seen1 += load<f32>(source + i) * 0;
  return isZero4(seen) & <i32>(seen1 === 0);
}

/** The upper halves of four f32, rounded to nearest, ties to even; NaN stays NaN (adding to its mantissa could carry). */
function bf16x4(word: v128): v128 {
  const odd = v128.and(i32x4.shr_u(word, 16), i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(word, i32x4.splat(0x7fff)), odd), 16);
  const quiet = v128.or(i32x4.shr_u(word, 16), i32x4.splat(0x40));
  const unordered = i32x4.gt_s(v128.and(word, i32x4.splat(0x7fffffff)), i32x4.splat(0x7f800000));
  return v128.bitselect(quiet, rounded, unordered);
}

/** target[i] = source[i] as bfloat16, two bytes each. */
export function toBf16(target: usize, source: usize, count: u32): void {
  const vector = count & ~7;
  let i: u32 = 0;
  for (; i < vector; i += 8) {
    const at = source + ((<usize>i) << 2);
    const low = bf16x4(v128.load(at));
    const high = bf16x4(v128.load(at, 16));
    v128.store(target + ((<usize>i) << 1), i16x8.narrow_i32x4_u(low, high));
  }
  for (; i < count; i++) {
    const word = load<u32>(source + ((<usize>i) << 2));
    const unordered = (word & 0x7fffffff) > 0x7f800000;
    const half = unordered ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
    store<u16>(target + ((<usize>i) << 1), <u16>half);
  }
}

/** target[i] = the f32 value of bfloat16 source[i], plus target[i] if `adds`. */
function widen(target: usize, source: usize, count: u32, adds: bool): void {
  const vector = count & ~7;
  let i: u32 = 0;
  for (; i < vector; i += 8) {
    const at = target + ((<usize>i) << 2);
    const halves = v128.load(source + ((<usize>i) << 1));
    let low = i32x4.shl(i32x4.extend_low_i16x8_u(halves), 16);
    let high = i32x4.shl(i32x4.extend_high_i16x8_u(halves), 16);
    if (adds) {
      low = f32x4.add(v128.load(at), low);
      high = f32x4.add(v128.load(at, 16), high);
    }
    v128.store(at, low);
    v128.store(at, high, 16);
  }
  for (; i < count; i++) {
    const at = target + ((<usize>i) << 2);
    const value = reinterpret<f32>((<u32>load<u16>(source + ((<usize>i) << 1))) << 16);
    store<f32>(at, adds ? load<f32>(at) + value : value);
  }
}

/** target[i] = source[i], which is bfloat16; exact. */
export function fromBf16(target: usize, source: usize, count: u32): void {
  widen(target, source, count, false);
}

/** target[i] += source[i], which is bfloat16. */
export function addBf16(target: usize, source: usize, count: u32): void {
  widen(target, source, count, true);
}

/** Σ (source[i]·scale + decay·weights[i])², each summand rounded to f32 and accumulated in f64 like {@link sumSquares}. */
export function sumSquaresDecayed(source: usize, weights: usize, factor: f32, decay: f32, count: u32): f64 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const factors = f32x4.splat(factor);
  const decays = f32x4.splat(decay);
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  let i: usize = 0;
  for (; i < vector; i += 16) {
    const values = f32x4.add(f32x4.mul(v128.load(source + i), factors), f32x4.mul(decays, v128.load(weights + i)));
    const a = f64x2.promote_low_f32x4(values);
    const b = f64x2.promote_low_f32x4(
      i8x16.shuffle(values, values, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15),
    );
    low = f64x2.add(low, f64x2.mul(a, a));
    high = f64x2.add(high, f64x2.mul(b, b));
  }
  const both = f64x2.add(low, high);
  let total = f64x2.extract_lane(both, 0) + f64x2.extract_lane(both, 1);
  for (; i < bytes; i += 4) {
    const value = <f64>(load<f32>(source + i) * factor + decay * load<f32>(weights + i));
    total += value * value;
  }
  return total;
}

/** target[i] = min(max(source[i], −bound), bound); NaN stays NaN. */
export function clip(target: usize, source: usize, bound: f32, count: u32): void {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const most = f32x4.splat(bound);
  const least = f32x4.splat(-bound);
  let i: usize = 0;
  for (; i < vector; i += 16) v128.store(target + i, f32x4.min(f32x4.max(v128.load(source + i), least), most));
  for (; i < bytes; i += 4) store<f32>(target + i, min<f32>(max<f32>(load<f32>(source + i), -bound), bound));
}
