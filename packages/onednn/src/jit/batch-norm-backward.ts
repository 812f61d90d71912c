/** Code for the gradients of batch normalization in training (Ioffe & Szegedy, arXiv:1502.03167). */
import { at, Reg } from './assembler.js';
import type { OpenMpAddresses } from './machine.js';
import { NormCode, type NormShape, VECTOR } from './norm-code.js';

/** Places of the argument's addresses, in bytes; bits are there with ReLU, what follows them in a residual network. */
const BACKWARD = {
  scratch: 0,
  x: 8,
  dy: 16,
  dx: 24,
  scale: 32,
  mean: 40,
  variance: 48,
  dScale: 56,
  dShift: 64,
  bits: 72,
  up: 80,
  second: 88,
} as const;

const { rbx, rdx, rsi, rdi, r8, r9, r10, r12 } = Reg;

/** Bytes of scratch that the backward pass needs. */
export function backwardScratch({ images, blocks }: NormShape): number {
  return images * blocks * 2 * VECTOR;
}

/** dy, second, x, scale, mean, variance, bits → dx, gradients of scale and shift, up: see {@link BACKWARD}. */
export function backwardCode(shape: NormShape, openMp: OpenMpAddresses): Uint8Array {
  const { images, pixels, relu, residual, hasSecond, epsilon } = shape;
  const norm = new NormCode(shape, openMp, hasSecond ? 4 : residual ? 3 : 2, 4);
  const { code, vectorBytes } = norm;
  const partBytes = 2 * VECTOR;
  const x = [rsi, BACKWARD.x, vectorBytes] as const;
  const dy = [rdi, BACKWARD.dy, vectorBytes] as const;
  const bits = relu ? [[r9, BACKWARD.bits, 2] as const] : [];
  const second = hasSecond ? [[r8, BACKWARD.second, vectorBytes] as const] : [];
  const up = residual ? [[r10, BACKWARD.up, vectorBytes] as const] : [];
  /** The gradient that arrives, where ReLU let something through. */
  const loadGradient = (target: number, way: number): void => {
    norm.load(target, rdi, way);
    if (hasSecond) {
      norm.load(16 + way, r8, way);
      code.arithmetic('add', target, target, 16 + way);
    }
    if (!relu) return;
    code.loadMask(1 + way, at(r9, 2 * way));
    code.select(target, 1 + way, target);
  };

  /** The sums, and what a block's pixels are to be multiplied by. */
  const conclude = (): void => {
    code.load(r10, at(rbx, BACKWARD.scratch));
    norm.clear(0, 2);
    norm.images(partBytes, () => {
      code.arithmetic('add', 0, 0, at(rsi));
      code.arithmetic('add', 1, 1, at(rsi, VECTOR));
    });
    norm.storeChannels(BACKWARD.dShift, r12, 0);
    norm.loadChannels(2, r12, BACKWARD.variance);
    code.broadcast(3, epsilon);
    code.arithmetic('add', 2, 2, 3);
    code.squareRoot(2, 2);
    code.broadcast(3, 1);
    // 1 / √(variance + ε)
    code.arithmetic('divide', 2, 3, 2);
    code.arithmetic('multiply', 1, 1, 2);
    norm.storeChannels(BACKWARD.dScale, r12, 1);
    // dx = scale / √(variance + ε) · (dy − Σdy / m − (x − mean) · Σ(dy · x̂) / m / √(variance + ε))
    norm.loadChannels(4, r12, BACKWARD.scale);
    code.arithmetic('multiply', 4, 4, 2);
    code.broadcast(3, -1 / (images * pixels));
    code.arithmetic('multiply', 5, 0, 3);
    code.arithmetic('multiply', 5, 5, 4);
    code.arithmetic('multiply', 6, 1, 3);
    code.arithmetic('multiply', 6, 6, 2);
    code.arithmetic('multiply', 6, 6, 4);
    norm.loadChannels(7, r12, BACKWARD.mean);
    norm.keep([7, 4, 5, 6]);
  };

  return norm.assemble(() => {
    norm.units('forwards', () => {
      norm.loadChannels(20, rdx, BACKWARD.mean);
      const pointers = norm.walk([x, dy, ...bits, ...second, ...up]);
      norm.clear(0, 8);
      norm.vectors(pixels, pointers, (way) => {
        loadGradient(8 + way, way);
        // It is read again in a moment.
        if (residual) norm.store(r10, way, 8 + way, false);
        norm.load(12 + way, rsi, way);
        code.arithmetic('subtract', 12 + way, 12 + way, 20);
        code.arithmetic('add', way, way, 8 + way);
        code.arithmetic('multiplyAdd', 4 + way, 8 + way, 12 + way);
      });
      norm.sum(0);
      norm.sum(4);
      norm.unit(rdi, BACKWARD.scratch, partBytes);
      code.storeFloats(at(rdi), 0);
      code.storeFloats(at(rdi, VECTOR), 4);
    });
    norm.barrier();
    norm.blocks(conclude);
    norm.units('backwards', () => {
      norm.fetch(20);
      const pointers = residual
        ? norm.walk([x, [rdi, BACKWARD.up, vectorBytes], [r8, BACKWARD.dx, vectorBytes]])
        : norm.walk([x, dy, ...bits, [r8, BACKWARD.dx, vectorBytes]]);
      norm.vectors(pixels, pointers, (way) => {
        if (residual) norm.load(way, rdi, way);
        else loadGradient(way, way);
        norm.load(4 + way, rsi, way);
        code.arithmetic('subtract', 4 + way, 4 + way, 20);
        code.arithmetic('multiply', 4 + way, 4 + way, 23);
        code.arithmetic('add', 4 + way, 4 + way, 22);
        code.arithmetic('multiplyAdd', 4 + way, way, 21);
        norm.store(r8, way, 4 + way);
      });
    });
  });
}
