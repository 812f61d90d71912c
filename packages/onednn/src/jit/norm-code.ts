/**
 * What the code of a batch norm's two passes has in common: how data in blocks of 16 channels, [n][c/16][pixels][16], are gone through. One
 * vector is one pixel of one block.
 *
 * Memory is what both wait for. So blocks are worked off in groups that fit the caches, and a group's second pass finds there what its first
 * has read. A group's units, an image's pixels of one block, are dealt out to threads; what is added up is added in the order of images, so
 * the bits do not depend on how many threads there are.
 */
import { Assembler, at, Reg } from './assembler.js';
import type { OpenMpAddresses } from './machine.js';
import { call, threadShare, withFrame } from './parallel.js';

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

/** Bytes of a vector of f32. */
export const VECTOR = 64;

/** Bytes that a group may read. */
const GROUP = 2 ** 21;
/** Bytes of a result from which on it is written past the caches, which would not keep it for its reader. */
const STREAMED = 2 ** 24;

/** Blocks of a group, whose vectors lie on the stack. */
const MAX_GROUP = 64;

const { rax, rbx, rcx, rdx, rsp, rsi, r8, r10, r11, r12, r13, r14, r15 } = Reg;
/** A vector of zeros. */
export const ZERO = 31;
/** What {@link NormCode.store} clobbers. */
const SPARE = 30;

/** A register that moves on by so many bytes from one vector to the next. */
type Pointer = readonly [register: number, bytes: number];

/**
 * What both passes have in common. Registers: rbx is the argument, r13 the group's first block, r14 and r15 bound the thread's units of a
 * group, r12 is the one that it is at.
 */
export class NormCode {
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
    withFrame(code, () => {
      code.subtractConstant(rsp, this.group * this.parameters * VECTOR);
      code.andConstant(rsp, -VECTOR);
      threadShare(code, this.openMp, shape.images * this.group);
      code.clear(ZERO);
      code.constant(r13, 0);
      const next = code.label();
      code.place(next);
      group();
      code.addConstant(r13, this.group);
      code.compareConstant(r13, shape.blocks);
      code.jump(next, 'notEqual');
      if (this.isStreamed) code.fence();
    });
    return code.finish();
  }

  barrier(): void {
    call(this.code, this.openMp.barrier);
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

  /** Points registers at the unit's part of tensors, of so many bytes for each pixel. @returns what {@link vectors} moves on */
  walk(tensors: readonly (readonly [register: number, argument: number, bytes: number])[]): Pointer[] {
    for (const [register, argument, bytes] of tensors) this.unit(register, argument, this.shape.pixels * bytes);
    return tensors.map(([register, , bytes]) => [register, bytes]);
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
