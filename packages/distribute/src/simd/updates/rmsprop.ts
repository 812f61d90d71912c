/**
 * RMSProp, also centered: assembly/updates/rmsprop.ts in plain TypeScript. Slots: mean square, momentum, and mean gradient where centered.
 * Numbers: gradient scale, weight decay, rate, rho, 1 − rho, momentum, epsilon.
 */
import { f32, sumAt, type Update } from './update.js';

type Seven = [number, number, number, number, number, number, number];

const update =
  (isCentered: boolean): Update =>
  (weights, slots, gradients, numbers) => {
    const [squares, moments, means] = slots as [Float32Array, Float32Array, Float32Array?];
    const [scale, decay, rate, rho, rest, momentum, epsilon] = numbers.map(f32) as Seven;
    let finite = true;
    for (let i = 0; i < weights.length; i++) {
      const raw = sumAt(gradients, i);
      finite &&= Number.isFinite(raw);
      const w = weights[i]!;
      const g = f32(f32(raw * scale) + f32(decay * w));
      const square = f32(f32(squares[i]! * rho) + f32(f32(g * g) * rest));
      squares[i] = square;
      let below = f32(square + epsilon);
      if (isCentered) {
        const mean = f32(f32(means![i]! * rho) + f32(g * rest));
        means![i] = mean;
        below = f32(square - f32(f32(mean * mean) + epsilon));
      }
      const moment = f32(f32(moments[i]! * momentum) + f32(f32(g * rate) / f32(Math.sqrt(below))));
      moments[i] = moment;
      weights[i] = w - moment;
    }
    return finite;
  };

export const rmsprop = update(false);
export const rmspropCentered = update(true);
