/**
 * Momentum: TensorFlow's MomentumOptimizer, with and without Nesterov; LARS' last step. One slot. Numbers: gradient scale, weight decay,
 * rate, momentum.
 */
import { allZero, number, numbers4, slotAt, sum1, sum4 } from '../sums';

function update(weights: usize, slots: usize, table: usize, n: i32, count: u32, numbers: usize, isNesterov: bool): i32 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const slot = slotAt(slots, 0);
  const scales = numbers4(numbers, 0);
  const decays = numbers4(numbers, 1);
  const rates = numbers4(numbers, 2);
  const momenta = numbers4(numbers, 3);
  const zero = f32x4.splat(0);
  let seen = zero;
  let i: usize = 0;
  for (; i < vector; i += 16) {
    const raw = sum4(table, n, i);
    seen = f32x4.add(seen, f32x4.mul(raw, zero));
    const w = v128.load(weights + i);
    const g = f32x4.add(f32x4.mul(raw, scales), f32x4.mul(decays, w));
    const m = f32x4.add(f32x4.mul(momenta, v128.load(slot + i)), g);
    const direction = isNesterov ? f32x4.add(g, f32x4.mul(momenta, m)) : m;
    v128.store(slot + i, m);
    v128.store(weights + i, f32x4.sub(w, f32x4.mul(rates, direction)));
  }
  const scale = number(numbers, 0);
  const decay = number(numbers, 1);
  const rate = number(numbers, 2);
  const momentum = number(numbers, 3);
  let seen1: f32 = 0;
  for (; i < bytes; i += 4) {
    const raw = sum1(table, n, i);
    seen1 += raw * 0;
    const w = load<f32>(weights + i);
    const g = raw * scale + decay * w;
    const m = momentum * load<f32>(slot + i) + g;
    const direction = isNesterov ? g + momentum * m : m;
    store<f32>(slot + i, m);
    store<f32>(weights + i, w - rate * direction);
  }
  return allZero(seen, seen1);
}

/** g = (Σ gradients[r])·scale + decay·w;  m = momentum·m + g;  w −= rate·m. @returns as sgd. */
export function momentum(weights: usize, slots: usize, table: usize, n: i32, count: u32, numbers: usize): i32 {
  return update(weights, slots, table, n, count, numbers, false);
}

/** The same with w −= rate·(g + momentum·m). */
export function nesterov(weights: usize, slots: usize, table: usize, n: i32, count: u32, numbers: usize): i32 {
  return update(weights, slots, table, n, count, numbers, true);
}
