/**
 * Momentum with and without Nesterov: assembly/updates/momentum.ts in plain TypeScript. One slot. Numbers: gradient scale, weight decay,
 * rate, momentum.
 */
import { f32, sumAt, type Update } from './update.js';

const update =
  (isNesterov: boolean): Update =>
  (weights, slots, gradients, numbers) => {
    const [slot] = slots as [Float32Array];
    const [scale, decay, rate, momentum] = numbers.map(f32) as [number, number, number, number];
    let finite = true;
    for (let i = 0; i < weights.length; i++) {
      const raw = sumAt(gradients, i);
      finite &&= Number.isFinite(raw);
      const w = weights[i]!;
      const g = f32(f32(raw * scale) + f32(decay * w));
      const m = f32(f32(momentum * slot[i]!) + g);
      const direction = isNesterov ? f32(g + f32(momentum * m)) : m;
      slot[i] = m;
      weights[i] = w - f32(rate * direction);
    }
    return finite;
  };

export const momentum = update(false);
export const nesterov = update(true);
