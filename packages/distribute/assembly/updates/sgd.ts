/** Stochastic gradient descent: TensorFlow's GradientDescentOptimizer. Numbers: gradient scale, weight decay, rate. */
import { allZero, number, numbers4, sum1, sum4 } from '../sums';

/** g = (Σ gradients[r])·scale + decay·w;  w −= rate·g. @returns 1 if every summed gradient was finite, else 0. */
export function sgd(weights: usize, _slots: usize, table: usize, n: i32, count: u32, numbers: usize): i32 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const scales = numbers4(numbers, 0);
  const decays = numbers4(numbers, 1);
  const rates = numbers4(numbers, 2);
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
  const scale = number(numbers, 0);
  const decay = number(numbers, 1);
  const rate = number(numbers, 2);
  let seen1: f32 = 0;
  for (; i < bytes; i += 4) {
    const raw = sum1(table, n, i);
    seen1 += raw * 0;
    const w = load<f32>(weights + i);
    store<f32>(weights + i, w - rate * (raw * scale + decay * w));
  }
  return allZero(seen, seen1);
}
