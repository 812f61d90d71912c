/**
 * The loops that touch every weight once a step, in AssemblyScript: WebAssembly SIMD over imported shared memory.
 *
 * They are element-wise: an element's result depends on that element alone, multiplications and additions are rounded one
 * by one (no fused multiply-add), and the sum over replicas runs in table order. So results are bit-identical however the
 * elements are cut into slices, and equal to src/simd/plain-kernels.ts, the same loops in plain TypeScript.
 * Not here: threads, barriers, packs. A pointer is a byte address in the memory; a table is n addresses, 4 bytes each.
 */

function at(table: usize, replica: i32, offset: usize): usize {
  return <usize>load<u32>(table + ((<usize>replica) << 2)) + offset;
}

function sum4(table: usize, n: i32, offset: usize): v128 {
  let sum = v128.load(at(table, 0, offset));
  for (let replica = 1; replica < n; replica++) sum = f32x4.add(sum, v128.load(at(table, replica, offset)));
  return sum;
}

function sum1(table: usize, n: i32, offset: usize): f32 {
  let sum = load<f32>(at(table, 0, offset));
  for (let replica = 1; replica < n; replica++) sum += load<f32>(at(table, replica, offset));
  return sum;
}

/** Lanes that are 0 while every value seen was finite: 0·x is NaN for infinities and NaN. */
function isZero4(lanes: v128): i32 {
  return i32x4.all_true(f32x4.eq(lanes, f32x4.splat(0))) ? 1 : 0;
}

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

/**
 * g = (Σ gradients[r])·gradientScale + weightDecay·w;  m = momentum·m + g;  w −= rate·m, or rate·(g + momentum·m) with
 * Nesterov. One pass. @returns 1 if every summed gradient was finite, else 0.
 */
export function momentumUpdate(
  weights: usize,
  slot: usize,
  table: usize,
  n: i32,
  count: u32,
  gradientScale: f32,
  weightDecay: f32,
  rate: f32,
  momentum: f32,
  nesterov: i32,
): i32 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const scales = f32x4.splat(gradientScale);
  const decays = f32x4.splat(weightDecay);
  const rates = f32x4.splat(rate);
  const momenta = f32x4.splat(momentum);
  const zero = f32x4.splat(0);
  let seen = zero;
  let i: usize = 0;
  for (; i < vector; i += 16) {
    const raw = sum4(table, n, i);
    seen = f32x4.add(seen, f32x4.mul(raw, zero));
    const w = v128.load(weights + i);
    const g = f32x4.add(f32x4.mul(raw, scales), f32x4.mul(decays, w));
    const m = f32x4.add(f32x4.mul(momenta, v128.load(slot + i)), g);
    const direction = nesterov ? f32x4.add(g, f32x4.mul(momenta, m)) : m;
    v128.store(slot + i, m);
    v128.store(weights + i, f32x4.sub(w, f32x4.mul(rates, direction)));
  }
  let seen1: f32 = 0;
  for (; i < bytes; i += 4) {
    const raw = sum1(table, n, i);
    seen1 += raw * 0;
    const w = load<f32>(weights + i);
    const g = raw * gradientScale + weightDecay * w;
    const m = momentum * load<f32>(slot + i) + g;
    const direction = nesterov ? g + momentum * m : m;
    store<f32>(slot + i, m);
    store<f32>(weights + i, w - rate * direction);
  }
  return isZero4(seen) & <i32>(seen1 === 0);
}

/** g = (Σ gradients[r])·gradientScale + weightDecay·w;  w −= rate·g. @returns as {@link momentumUpdate}. */
export function sgdUpdate(
  weights: usize,
  table: usize,
  n: i32,
  count: u32,
  gradientScale: f32,
  weightDecay: f32,
  rate: f32,
): i32 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const scales = f32x4.splat(gradientScale);
  const decays = f32x4.splat(weightDecay);
  const rates = f32x4.splat(rate);
  const zero = f32x4.splat(0);
  let seen = zero;
  let i: usize = 0;
  for (; i < vector; i += 16) {
    const raw = sum4(table, n, i);
    seen = f32x4.add(seen, f32x4.mul(raw, zero));
    const w = v128.load(weights + i);
    const g = f32x4.add(f32x4.mul(raw, scales), f32x4.mul(decays, w));
    v128.store(weights + i, f32x4.sub(w, f32x4.mul(rates, g)));
  }
  let seen1: f32 = 0;
  for (; i < bytes; i += 4) {
    const raw = sum1(table, n, i);
    seen1 += raw * 0;
    const w = load<f32>(weights + i);
    store<f32>(weights + i, w - rate * (raw * gradientScale + weightDecay * w));
  }
  return isZero4(seen) & <i32>(seen1 === 0);
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
