/**
 * RMSProp (Tieleman and Hinton, 2012) as TensorFlow.js' RMSPropOptimizer computes it, also centered. Slots: mean square, momentum, and
 * mean gradient where centered. Numbers: gradient scale, weight decay, rate, rho, 1 − rho, momentum, epsilon.
 */
import { allZero, number, numbers4, slotAt, sum1, sum4 } from '../sums';

function update(weights: usize, slots: usize, table: usize, n: i32, count: u32, numbers: usize, isCentered: bool): i32 {
  const bytes = (<usize>count) << 2;
  const vector = bytes & ~(<usize>15);
  const squares = slotAt(slots, 0);
  const moments = slotAt(slots, 1);
  const means = isCentered ? slotAt(slots, 2) : 0;
  const scales = numbers4(numbers, 0);
  const decays = numbers4(numbers, 1);
  const rates = numbers4(numbers, 2);
  const rhos = numbers4(numbers, 3);
  const rests = numbers4(numbers, 4);
  const momenta = numbers4(numbers, 5);
  const epsilons = numbers4(numbers, 6);
  const zero = f32x4.splat(0);
  let seen = zero;
  let i: usize = 0;
  for (; i < vector; i += 16) {
    const raw = sum4(table, n, i);
    seen = f32x4.add(seen, f32x4.mul(raw, zero));
    const w = v128.load(weights + i);
    const g = f32x4.add(f32x4.mul(raw, scales), f32x4.mul(decays, w));
    const square = f32x4.add(f32x4.mul(v128.load(squares + i), rhos), f32x4.mul(f32x4.mul(g, g), rests));
    v128.store(squares + i, square);
    let below = f32x4.add(square, epsilons);
    if (isCentered) {
      const mean = f32x4.add(f32x4.mul(v128.load(means + i), rhos), f32x4.mul(g, rests));
      v128.store(means + i, mean);
      below = f32x4.sub(square, f32x4.add(f32x4.mul(mean, mean), epsilons));
    }
    const moment = f32x4.add(
      f32x4.mul(v128.load(moments + i), momenta),
      f32x4.div(f32x4.mul(g, rates), f32x4.sqrt(below)),
    );
    v128.store(moments + i, moment);
    v128.store(weights + i, f32x4.sub(w, moment));
  }
  const scale = number(numbers, 0);
  const decay = number(numbers, 1);
  const rate = number(numbers, 2);
  const rho = number(numbers, 3);
  const rest = number(numbers, 4);
  const momentum = number(numbers, 5);
  const epsilon = number(numbers, 6);
  let seen1: f32 = 0;
  for (; i < bytes; i += 4) {
    const raw = sum1(table, n, i);
    seen1 += raw * 0;
    const w = load<f32>(weights + i);
    const g = raw * scale + decay * w;
    const square = load<f32>(squares + i) * rho + g * g * rest;
    store<f32>(squares + i, square);
    let below: f32 = square + epsilon;
    if (isCentered) {
      const mean = load<f32>(means + i) * rho + g * rest;
      store<f32>(means + i, mean);
      below = square - (mean * mean + epsilon);
    }
    const moment = load<f32>(moments + i) * momentum + (g * rate) / sqrt<f32>(below);
    store<f32>(moments + i, moment);
    store<f32>(weights + i, w - moment);
  }
  return allZero(seen, seen1);
}

/**
 * g = (Σ gradients[r])·scale + decay·w;  s = rho·s + (1 − rho)·g²;  m = momentum·m + rate·g / √(s + epsilon);  w −= m.
 * @returns as sgd.
 */
export function rmsprop(weights: usize, slots: usize, table: usize, n: i32, count: u32, numbers: usize): i32 {
  return update(weights, slots, table, n, count, numbers, false);
}

/** The same with the mean gradient a = rho·a + (1 − rho)·g and the root of s − (a² + epsilon). */
export function rmspropCentered(weights: usize, slots: usize, table: usize, n: i32, count: u32, numbers: usize): i32 {
  return update(weights, slots, table, n, count, numbers, true);
}
