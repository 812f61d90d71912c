/**
 * Code for batch normalization in training, forward (Ioffe & Szegedy, arXiv:1502.03167). Mean and squared deviations of a piece that fits the
 * first cache are found in two passes over it, and pieces are put together after Chan, Golub & LeVeque (1979), which loses no digits where the
 * mean is far from 0.
 */
import { at, Reg } from './assembler.js';
import type { OpenMpAddresses } from './machine.js';
import { NormCode, type NormShape, VECTOR, ZERO } from './norm-code.js';

/** Vectors whose mean is found before their deviations: 32 KiB of f32. */
const PIECE = 512;
/** Pieces of a unit that code is written out for. */
const MAX_PIECES = 64;
/** Places of the argument's addresses, in bytes; bits are there with ReLU, the addend in a residual network. */
const FORWARD = {
  scratch: 0,
  x: 8,
  y: 16,
  scale: 24,
  shift: 32,
  mean: 40,
  variance: 48,
  bits: 56,
  addend: 64,
} as const;
const { rbx, rsi, rdi, r8, r9, r10, r12 } = Reg;

/** Whether there is code for such data: where an image has up to 32,768 pixels, and there are fewer than 2²⁴ units. */
export function codeFits(shape: NormShape): boolean {
  return piecesOf(shape.pixels).count <= MAX_PIECES && shape.images * shape.blocks < 2 ** 24;
}

/** How a unit is cut. */
function piecesOf(pixels: number): { readonly count: number; readonly full: number; readonly rest: number } {
  const full = Math.ceil(pixels / Math.ceil(pixels / PIECE));
  return { count: Math.ceil(pixels / full), full, rest: pixels % full };
}

/** Bytes of scratch that the forward pass needs. */
export function forwardScratch({ images, blocks, pixels }: NormShape): number {
  return images * blocks * piecesOf(pixels).count * 2 * VECTOR;
}

/** x, scale, shift, addend → y, mean, variance, bits: see {@link FORWARD}. */
export function forwardCode(shape: NormShape, openMp: OpenMpAddresses): Uint8Array {
  const norm = new NormCode(shape, openMp, 1, 3);
  const { code, vectorBytes, unitBytes } = norm;
  const { images, pixels, type, relu, residual, epsilon } = shape;
  const pieces = piecesOf(pixels);
  const partBytes = pieces.count * 2 * VECTOR;

  /** Sum and squared deviations of the vectors at rsi, to rdi. */
  const measure = (count: number): void => {
    norm.clear(0, 4);
    code.move(r9, rsi);
    norm.vectors(count, [[r9, vectorBytes]], (way) => {
      if (type === 'f32') code.arithmetic('add', way, way, at(r9, way * vectorBytes));
      else {
        norm.load(8 + way, r9, way);
        code.arithmetic('add', way, way, 8 + way);
      }
    });
    norm.sum(0);
    code.storeFloats(at(rdi), 0);
    code.broadcast(4, 1 / count);
    code.arithmetic('multiply', 4, 0, 4);
    norm.clear(0, 4);
    norm.vectors(count, [[rsi, vectorBytes]], (way) => {
      // The piece is in cache, so memory has time to bring the next one.
      if ((way * vectorBytes) % VECTOR === 0) code.prefetch(at(rsi, count * vectorBytes + way * vectorBytes));
      norm.load(8 + way, rsi, way);
      code.arithmetic('subtract', 8 + way, 8 + way, 4);
      code.arithmetic('multiplyAdd', way, 8 + way, 8 + way);
    });
    norm.sum(0);
    code.storeFloats(at(rdi, VECTOR), 0);
    code.addConstant(rdi, 2 * VECTOR);
  };

  /** Mean, variance, and what a block's pixels are to be multiplied by. */
  const conclude = (): void => {
    code.load(r10, at(rbx, FORWARD.scratch));
    code.clear(0);
    norm.images(partBytes, () => {
      for (let i = 0; i < pieces.count; i++) code.arithmetic('add', 0, 0, at(rsi, i * 2 * VECTOR));
    });
    code.broadcast(1, 1 / (images * pixels));
    code.arithmetic('multiply', 0, 0, 1);
    code.clear(2);
    for (const [i, count] of [pieces.full, pieces.rest].entries()) {
      code.broadcast(4 + i, count);
      code.broadcast(6 + i, 1 / Math.max(1, count));
    }
    norm.images(partBytes, () => {
      for (let i = 0; i < pieces.count; i++) {
        const isRest = i === pieces.count - 1 && pieces.rest > 0 ? 1 : 0;
        code.loadFloats(8, at(rsi, i * 2 * VECTOR));
        code.arithmetic('multiplySubtract', 8, 0, 4 + isRest);
        code.arithmetic('add', 2, 2, at(rsi, i * 2 * VECTOR + VECTOR));
        code.arithmetic('multiply', 9, 8, 6 + isRest);
        code.arithmetic('multiplyAdd', 2, 8, 9);
      }
    });
    code.arithmetic('multiply', 2, 2, 1);
    norm.storeChannels(FORWARD.mean, r12, 0);
    norm.storeChannels(FORWARD.variance, r12, 2);
    code.broadcast(3, epsilon);
    code.arithmetic('add', 2, 2, 3);
    code.squareRoot(2, 2);
    norm.loadChannels(3, r12, FORWARD.scale);
    code.arithmetic('divide', 3, 3, 2);
    norm.loadChannels(4, r12, FORWARD.shift);
    norm.keep([0, 3, 4]);
  };

  return norm.assemble(() => {
    norm.units('forwards', () => {
      norm.unit(rsi, FORWARD.x, unitBytes);
      norm.unit(rdi, FORWARD.scratch, partBytes);
      norm.times(r8, pieces.rest > 0 ? pieces.count - 1 : pieces.count, () => measure(pieces.full));
      if (pieces.rest > 0) measure(pieces.rest);
    });
    norm.barrier();
    norm.blocks(conclude);
    norm.units('backwards', () => {
      norm.fetch(20);
      const pointers = norm.walk([
        [rsi, FORWARD.x, vectorBytes],
        [rdi, FORWARD.y, vectorBytes],
        ...(relu ? [[r9, FORWARD.bits, 2] as const] : []),
        ...(residual ? [[r8, FORWARD.addend, vectorBytes] as const] : []),
      ]);
      norm.vectors(pixels, pointers, (way) => {
        norm.load(way, rsi, way);
        code.arithmetic('subtract', way, way, 20);
        code.arithmetic('multiply', way, way, 21);
        code.arithmetic('add', way, way, 22);
        if (residual) {
          norm.load(8 + way, r8, way);
          code.arithmetic('add', way, way, 8 + way);
        }
        if (relu) {
          code.isGreater(1 + way, way, ZERO);
          code.select(way, 1 + way, way);
          code.storeMask(at(r9, 2 * way), 1 + way);
        }
        norm.store(rdi, way, way);
      });
    });
  });
}
