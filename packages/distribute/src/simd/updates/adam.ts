/**
 * Adam and AdamW: assembly/updates/adam.ts in plain TypeScript. Slots: first and second moment. Numbers: gradient scale, weight decay
 * (AdamW: what is kept of a weight), rate, beta1, 1 − beta1, beta2, 1 − beta2, 1/(1 − beta1ᵗ), 1/(1 − beta2ᵗ), epsilon.
 */
import { f32, sumAt, type Update } from './update.js';

type Ten = [number, number, number, number, number, number, number, number, number, number];

const update =
  (isDecoupled: boolean): Update =>
  (weights, slots, gradients, numbers) => {
    const [first, second] = slots as [Float32Array, Float32Array];
    const [scale, decay, rate, beta1, rest1, beta2, rest2, correct1, correct2, epsilon] = numbers.map(f32) as Ten;
    let finite = true;
    for (let i = 0; i < weights.length; i++) {
      const raw = sumAt(gradients, i);
      finite &&= Number.isFinite(raw);
      const w = weights[i]!;
      const mean = f32(raw * scale);
      const g = isDecoupled ? mean : f32(mean + f32(decay * w));
      const m = f32(f32(first[i]! * beta1) + f32(g * rest1));
      const v = f32(f32(second[i]! * beta2) + f32(f32(g * g) * rest2));
      first[i] = m;
      second[i] = v;
      const size = f32(f32(Math.sqrt(f32(v * correct2))) + epsilon);
      const step = f32(f32(f32(m * correct1) / size) * rate);
      weights[i] = (isDecoupled ? f32(w * decay) : w) - step;
    }
    return finite;
  };

export const adam = update(false);
export const adamw = update(true);
