/**
 * Adam (Kingma and Ba, arXiv:1412.6980) as TensorFlow.js' AdamOptimizer computes it, and AdamW (Loshchilov and Hutter, arXiv:1711.05101).
 * Slots: first and second moment. Numbers: gradient scale, weight decay (AdamW: what is kept of a weight, 1 − rate·decay), rate,
 * beta1, 1 − beta1, beta2, 1 − beta2, 1/(1 − beta1ᵗ), 1/(1 − beta2ᵗ), epsilon.
 */
import { allZero, number, numbers4, slotAt, sum1, sum4 } from '../sums';

function update(
  weights: usize,
  slots: usize,
  table: usize,
  n: i32,
  count: u32,
  numbers: usize,
  isDecoupled: bool,
): i32 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const first = slotAt(slots, 0);
  const second = slotAt(slots, 1);
  const scales = numbers4(numbers, 0);
  const decays = numbers4(numbers, 1);
  const rates = numbers4(numbers, 2);
  const beta1s = numbers4(numbers, 3);
  const rest1s = numbers4(numbers, 4);
  const beta2s = numbers4(numbers, 5);
  const rest2s = numbers4(numbers, 6);
  const correct1s = numbers4(numbers, 7);
  const correct2s = numbers4(numbers, 8);
  const epsilons = numbers4(numbers, 9);
  const zero = f32x4.splat(0);
  let seen = zero;
  let i: usize = 0;
  for (; i < vector; i += 16) {
    const raw = sum4(table, n, i);
    seen = f32x4.add(seen, f32x4.mul(raw, zero));
    const w = v128.load(weights + i);
    const mean = f32x4.mul(raw, scales);
    const g = isDecoupled ? mean : f32x4.add(mean, f32x4.mul(decays, w));
    const m = f32x4.add(f32x4.mul(v128.load(first + i), beta1s), f32x4.mul(g, rest1s));
    const v = f32x4.add(f32x4.mul(v128.load(second + i), beta2s), f32x4.mul(f32x4.mul(g, g), rest2s));
    v128.store(first + i, m);
    v128.store(second + i, v);
    const size = f32x4.add(f32x4.sqrt(f32x4.mul(v, correct2s)), epsilons);
    const step = f32x4.mul(f32x4.div(f32x4.mul(m, correct1s), size), rates);
    v128.store(weights + i, f32x4.sub(isDecoupled ? f32x4.mul(w, decays) : w, step));
  }
  const scale = number(numbers, 0);
  const decay = number(numbers, 1);
  const rate = number(numbers, 2);
  const beta1 = number(numbers, 3);
  const rest1 = number(numbers, 4);
  const beta2 = number(numbers, 5);
  const rest2 = number(numbers, 6);
  const correct1 = number(numbers, 7);
  const correct2 = number(numbers, 8);
  const epsilon = number(numbers, 9);
  let seen1: f32 = 0;
  for (; i < bytes; i += 4) {
    const raw = sum1(table, n, i);
    seen1 += raw * 0;
    const w = load<f32>(weights + i);
    const mean = raw * scale;
    const g = isDecoupled ? mean : mean + decay * w;
    const m = load<f32>(first + i) * beta1 + g * rest1;
    const v = load<f32>(second + i) * beta2 + g * g * rest2;
    store<f32>(first + i, m);
    store<f32>(second + i, v);
    const size = sqrt<f32>(v * correct2) + epsilon;
    const step = ((m * correct1) / size) * rate;
    store<f32>(weights + i, (isDecoupled ? w * decay : w) - step);
  }
  return allZero(seen, seen1);
}

/**
 * g = (Σ gradients[r])·scale + decay·w;  m = beta1·m + (1 − beta1)·g;  v = beta2·v + (1 − beta2)·g²;
 * w −= rate·m̂ / (√v̂ + epsilon), m̂ and v̂ corrected for their beginning at 0. @returns as sgd.
 */
export function adam(weights: usize, slots: usize, table: usize, n: i32, count: u32, numbers: usize): i32 {
  return update(weights, slots, table, n, count, numbers, false);
}

/** The same, with decay apart from the gradient: w = kept·w − rate·m̂ / (√v̂ + epsilon). */
export function adamw(weights: usize, slots: usize, table: usize, n: i32, count: u32, numbers: usize): i32 {
  return update(weights, slots, table, n, count, numbers, true);
}
