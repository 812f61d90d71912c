/** Stochastic gradient descent: assembly/updates/sgd.ts in plain TypeScript. Numbers: gradient scale, weight decay, rate. */
import { f32, sumAt, type Update } from './update.js';

export const sgd: Update = (weights, _slots, gradients, numbers) => {
  const [scale, decay, rate] = numbers.map(f32) as [number, number, number];
  let finite = true;
  for (let i = 0; i < weights.length; i++) {
    const raw = sumAt(gradients, i);
    finite &&= Number.isFinite(raw);
    const w = weights[i]!;
    weights[i] = w - f32(rate * f32(f32(raw * scale) + f32(decay * w)));
  }
  return finite;
};
