/**
 * Code for batch normalization in training (Ioffe & Szegedy, arXiv:1502.03167) of data in blocks of 16 channels, [n][c/16][pixels][16]: one
 * vector is one pixel of one block.
 *
 * Memory is what it waits for. So blocks are worked off in groups that fit the caches, and a group's second pass finds there what its first
 * has read. Mean and squared deviations of a piece that fits the first cache are found in two passes over it, and pieces are put together
 * after Chan, Golub & LeVeque (1979), which loses no digits where the mean is far from 0.
 *
 * A group's units, an image's pixels of one block, are dealt out to threads. What is added up is added in the order of images, so the bits do
 * not depend on how many threads there are.
 */
import { Assembler, at, Reg } from './assembler.js';
import type { OpenMpAddresses } from './machine.js';

/** Of f32 data vectors are 64 bytes, of bf16 32. */
export type DataType = 'f32' | 'bf16';

/** What code is made for. */
export interface NormShape {
  readonly images: number;
  /** Blocks of 16 channels. */
  readonly blocks: number;
  readonly pixels: number;
  readonly type: DataType;
  readonly epsilon: number;
  /** Whether ReLU follows. One bit for each element says where its result is greater than 0. */
  readonly relu: boolean;
  /**
   * Whether a tensor is added before ReLU, as in a residual network. Backward the gradient behind ReLU is a result of its own then, which is
   * that tensor's gradient.
   */
  readonly residual: boolean;
  /** Backward: whether the gradient that arrives is given as two parts, whose sum it is. */
  readonly hasSecond: boolean;
}

const VECTOR = 64;

/** Vectors whose mean is found before their deviations: 32 KiB of f32. */
const PIECE = 512;
/** Bytes that a group may read. */
const GROUP = 2 ** 21;
/** Bytes of a result from which on it is written past the caches, which would not keep it for its reader. */
const STREAMED = 2 ** 24;

/** Places of the argument's addresses, in bytes. Bits are there with ReLU, what follows them in a residual network. */
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

/** Pieces of a unit that code is written out for. */
const MAX_PIECES = 64;
/** Blocks of a group, whose vectors lie on the stack. */
const MAX_GROUP = 64;

/** Whether there is code for such data: not where one image's channel has more than 32,768 pixels, or takes more than 2 GiB. */
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

/** Bytes of scratch that the backward pass needs. */
export function backwardScratch({ images, blocks }: NormShape): number {
  return images * blocks * 2 * VECTOR;
}

const { rax, rbx, rcx, rdx, rbp, rsp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 } = Reg;
const SAVED = [rbx, rbp, r12, r13, r14, r15];
/** Vectors with a purpose of their own. */
const ZERO = 31;
const SPARE = 30;

type Pointer = readonly [register: number, bytes: number];

/**
 * What both passes have in common. Registers: rbx is the argument, r13 the group's first block, r14 and r15 bound the thread's units of a
 * group, r12 is the one that it is at.
 */
class NormCode {
  readonly code = new Assembler();
  readonly vectorBytes: number;
  readonly unitBytes: number;
  /** Blocks of a group. */
  readonly group: number;
  readonly isStreamed: boolean;

  /**
   * @param sources tensors that are read
   * @param parameters vectors that are kept for each block, on the stack
   */
  constructor(
    readonly shape: NormShape,
    private readonly openMp: OpenMpAddresses,
    sources: number,
    private readonly parameters: number,
  ) {
    const { type, pixels, images, blocks } = shape;
    this.vectorBytes = type === 'f32' ? VECTOR : VECTOR / 2;
    this.unitBytes = pixels * this.vectorBytes;
    let group = Math.max(1, Math.min(blocks, MAX_GROUP, Math.floor(GROUP / (images * this.unitBytes * sources))));
    while (blocks % group > 0) group--;
    this.group = group;
    this.isStreamed = images * blocks * this.unitBytes >= STREAMED;
  }

  /** The whole: `group` is run for each group of blocks. */
  assemble(group: () => void): Uint8Array {
    const { code, shape } = this;
    for (const register of SAVED) code.push(register);
    code.move(rbp, rsp);
    code.subtractConstant(rsp, this.group * this.parameters * VECTOR);
    code.andConstant(rsp, -VECTOR);
    code.move(rbx, rdi);
    this.#bounds();
    code.clear(ZERO);
    code.constant(r13, 0);
    const next = code.label();
    code.place(next);
    group();
    code.addConstant(r13, this.group);
    code.compareConstant(r13, shape.blocks);
    code.jump(next, 'notEqual');
    if (this.isStreamed) code.fence();
    code.clearUpper();
    code.move(rsp, rbp);
    for (const register of SAVED.toReversed()) code.pop(register);
    code.return();
    return code.finish();
  }

  /** The thread's share of a group's units: from units · thread / threads to units · (thread + 1) / threads. */
  #bounds(): void {
    const { code, openMp, shape } = this;
    this.#call(openMp.thread);
    code.move(r12, rax);
    this.#call(openMp.threads);
    code.move(r13, rax);
    const units = shape.images * this.group;
    for (const bound of [r14, r15]) {
      code.scale(rax, r12, units);
      code.divide(r13);
      code.move(bound, rax);
      code.addConstant(r12, 1);
    }
  }

  #call(address: number): void {
    this.code.constant(rax, address);
    this.code.call(rax);
  }

  barrier(): void {
    this.#call(this.openMp.barrier);
    // The callee may have used every vector.
    this.code.clear(ZERO);
  }

  /** Each of the thread's units: r11 is its number among all units, rdx its block in the group. */
  units(order: 'forwards' | 'backwards', body: () => void): void {
    const { code } = this;
    const [next, done] = [code.label(), code.label()];
    code.move(r12, order === 'forwards' ? r14 : r15);
    code.place(next);
    code.compare(r12, order === 'forwards' ? r15 : r14);
    code.jump(done, 'equal');
    if (order === 'backwards') code.subtractConstant(r12, 1);
    code.move(rax, r12);
    code.constant(r11, this.group);
    code.divide(r11);
    code.scale(r11, rax, this.shape.blocks);
    code.add(r11, r13);
    code.add(r11, rdx);
    body();
    if (order === 'forwards') code.addConstant(r12, 1);
    code.jump(next);
    code.place(done);
  }

  /** Each of the group's blocks, in r12; every thread does all. */
  blocks(body: () => void): void {
    const { code } = this;
    code.constant(r12, 0);
    const next = code.label();
    code.place(next);
    body();
    code.addConstant(r12, 1);
    code.compareConstant(r12, this.group);
    code.jump(next, 'notEqual');
  }

  /** `body` for each image, with rsi at what was written to scratch for the block of {@link blocks}. */
  images(partBytes: number, body: () => void): void {
    const { code, shape } = this;
    code.move(rsi, r12);
    code.add(rsi, r13);
    code.scale(rsi, rsi, partBytes);
    code.add(rsi, r10);
    this.times(r8, shape.images, () => {
      body();
      code.addConstant(rsi, shape.blocks * partBytes);
    });
  }

  /** `body` so many times, in a loop that counts down in a register. */
  times(register: number, count: number, body: () => void): void {
    const { code } = this;
    if (count > 1) code.constant(register, count);
    const again = code.label();
    code.place(again);
    if (count > 0) body();
    if (count <= 1) return;
    code.subtractConstant(register, 1);
    code.jump(again, 'notEqual');
  }

  /** `body` for each of so many vectors, four at once; pointers move on. It gets its vector's number among the four. */
  vectors(count: number, pointers: readonly Pointer[], body: (way: number) => void): void {
    const { code } = this;
    const group = (size: number): void => {
      for (let way = 0; way < size; way++) body(way);
      for (const [register, bytes] of pointers) code.addConstant(register, size * bytes);
    };
    this.times(rcx, Math.floor(count / 4), () => group(4));
    if (count % 4 > 0) group(count % 4);
  }

  load(target: number, base: number, way: number): void {
    const place = at(base, way * this.vectorBytes);
    if (this.shape.type === 'f32') this.code.loadFloats(target, place);
    else this.code.loadHalves(target, place);
  }

  store(base: number, way: number, source: number, isStreamed = this.isStreamed): void {
    const { code, shape } = this;
    const place = at(base, way * this.vectorBytes);
    if (shape.type === 'f32') {
      if (isStreamed) code.streamFloats(place, source);
      else code.storeFloats(place, source);
    } else if (isStreamed) code.streamHalves(place, source, SPARE);
    else code.storeHalves(place, source, SPARE);
  }

  clear(first: number, count: number): void {
    for (let i = 0; i < count; i++) this.code.clear(first + i);
  }

  /** The first of four vectors becomes their sum. */
  sum(first: number): void {
    const { code } = this;
    code.arithmetic('add', first, first, first + 1);
    code.arithmetic('add', first + 2, first + 2, first + 3);
    code.arithmetic('add', first, first, first + 2);
  }

  /** target = the argument's address + the unit's number · bytes */
  unit(target: number, argument: number, bytes: number): void {
    const { code } = this;
    code.scale(target, r11, bytes);
    code.load(rax, at(rbx, argument));
    code.add(target, rax);
  }

  /** The 16 values of a block, whose number in the group is in a register. */
  #channels(block: number, argument: number): void {
    const { code } = this;
    code.move(rax, block);
    code.add(rax, r13);
    code.scale(rax, rax, VECTOR);
    code.load(rcx, at(rbx, argument));
    code.add(rcx, rax);
  }

  loadChannels(vector: number, block: number, argument: number): void {
    this.#channels(block, argument);
    this.code.loadFloats(vector, at(rcx));
  }

  storeChannels(argument: number, block: number, vector: number): void {
    this.#channels(block, argument);
    this.code.storeFloats(at(rcx), vector);
  }

  /** rax = where the block's vectors are kept */
  #kept(block: number): void {
    this.code.scale(rax, block, this.parameters * VECTOR);
    this.code.add(rax, rsp);
  }

  keep(vectors: readonly number[]): void {
    this.#kept(r12);
    for (const [i, vector] of vectors.entries()) this.code.storeFloats(at(rax, i * VECTOR), vector);
  }

  /** What was kept for the unit's block, in vectors from `first` on. */
  fetch(first: number): void {
    this.#kept(rdx);
    for (let i = 0; i < this.parameters; i++) this.code.loadFloats(first + i, at(rax, i * VECTOR));
  }
}

/** Arguments as {@link FORWARD}: x, scale, shift, addend → y, mean, variance, bits. */
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
      norm.unit(rsi, FORWARD.x, unitBytes);
      norm.unit(rdi, FORWARD.y, unitBytes);
      if (relu) norm.unit(r9, FORWARD.bits, 2 * pixels);
      norm.fetch(20);
      const pointers: Pointer[] = [
        [rsi, vectorBytes],
        [rdi, vectorBytes],
      ];
      if (relu) pointers.push([r9, 2]);
      if (residual) {
        norm.unit(r8, FORWARD.addend, unitBytes);
        pointers.push([r8, vectorBytes]);
      }
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

/** Arguments as {@link BACKWARD}: dy, second, x, scale, mean, variance, bits → dx, gradients of scale and shift, up. */
export function backwardCode(shape: NormShape, openMp: OpenMpAddresses): Uint8Array {
  const { images, pixels, relu, residual, hasSecond, epsilon } = shape;
  const norm = new NormCode(shape, openMp, hasSecond ? 4 : residual ? 3 : 2, 4);
  const { code, vectorBytes } = norm;
  const partBytes = 2 * VECTOR;
  /** Tensors that a pass goes through, by the registers that point into them. */
  const walk = (tensors: readonly (readonly [register: number, argument: number, bytes: number])[]): Pointer[] => {
    for (const [register, argument, bytes] of tensors) norm.unit(register, argument, pixels * bytes);
    return tensors.map(([register, , bytes]) => [register, bytes]);
  };
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
      const pointers = walk([x, dy, ...bits, ...second, ...up]);
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
        ? walk([x, [rdi, BACKWARD.up, vectorBytes], [r8, BACKWARD.dx, vectorBytes]])
        : walk([x, dy, ...bits, [r8, BACKWARD.dx, vectorBytes]]);
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
