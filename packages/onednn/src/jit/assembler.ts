/**
 * An assembler for the little of x86-64 that kernels here need: pointers and counters in 64-bit registers, vectors of 16 floats in AVX-512
 * registers, masks. Encodings are those of Intel's Software Developer's Manual, volume 2 (EVEX: section 2.7). Every memory operand is
 * written as base register and 32-bit displacement, which the prefix's compressed displacement does not touch.
 */

/** General registers by their number in the encoding. */
export const Reg = {
  rax: 0,
  rcx: 1,
  rdx: 2,
  rbx: 3,
  rsp: 4,
  rbp: 5,
  rsi: 6,
  rdi: 7,
  r8: 8,
  r9: 9,
  r10: 10,
  r11: 11,
  r12: 12,
  r13: 13,
  r14: 14,
  r15: 15,
} as const;

/** A memory operand. */
export interface Place {
  readonly base: number;
  readonly offset: number;
}

/** [base + offset] */
export function at(base: number, offset = 0): Place {
  return { base, offset };
}

/** A place in the code, which may be named before it is reached. */
export class Label {
  position = -1;
  /** Where its distance is to be filled in. */
  readonly uses: number[] = [];
}

/** Conditions of a jump: the low half of its opcode. */
const CONDITIONS = { equal: 0x4, notEqual: 0x5 } as const;

/** What an instruction's prefix says besides its operands. */
interface VectorCode {
  /** Opcode map: 1 is 0F, 2 is 0F 38, 3 is 0F 3A. */
  readonly map: 1 | 2 | 3;
  /** 0: none, 1: 66, 2: F3, 3: F2. */
  readonly prefix: 0 | 1 | 2 | 3;
  readonly opcode: number;
}

const code = (map: VectorCode['map'], prefix: VectorCode['prefix'], opcode: number): VectorCode => ({
  map,
  prefix,
  opcode,
});

const CODES = {
  add: code(1, 0, 0x58),
  multiply: code(1, 0, 0x59),
  subtract: code(1, 0, 0x5c),
  divide: code(1, 0, 0x5e),
  xor: code(1, 1, 0xef),
  /** target += a · b */
  multiplyAdd: code(2, 1, 0xb8),
  /** target −= a · b */
  multiplySubtract: code(2, 1, 0xbc),
} as const;

/** How wide: the prefix's L'L. */
const Bits = { v256: 1, v512: 2 } as const;

interface VectorOptions {
  readonly bits?: number;
  /** Mask register: elements where it is 0 become 0. */
  readonly zeroing?: number;
  readonly immediate?: number;
}

/** See the file's head. Vector registers 0 to 31 are zmm0 to zmm31, mask registers k1 to k7. */
export class Assembler {
  readonly #bytes: number[] = [];
  readonly #labels: Label[] = [];

  /** The code. @throws Error if a label was used and never placed */
  finish(): Uint8Array {
    const code = Uint8Array.from(this.#bytes);
    const view = new DataView(code.buffer);
    for (const { position, uses } of this.#labels) {
      if (position < 0) throw new Error('A label has no place.');
      for (const use of uses) view.setInt32(use, position - use - 4, true);
    }
    return code;
  }

  #byte(...bytes: number[]): void {
    this.#bytes.push(...bytes);
  }

  #int32(value: number): void {
    this.#byte(value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255);
  }

  /** ModR/M and what follows it. */
  #operand(reg: number, operand: number | Place): void {
    const field = (reg & 7) << 3;
    if (typeof operand === 'number') {
      this.#byte(0xc0 | field | (operand & 7));
      return;
    }
    this.#byte(0x80 | field | (operand.base & 7));
    // rsp's and r12's number asks for a SIB byte.
    if ((operand.base & 7) === 4) this.#byte(0x24);
    this.#int32(operand.offset);
  }

  /** A 64-bit instruction of one or more opcode bytes. */
  #wide(opcode: readonly number[], reg: number, operand: number | Place): void {
    const base = typeof operand === 'number' ? operand : operand.base;
    this.#byte(0x48 | ((reg >> 3) << 2) | (base >> 3), ...opcode);
    this.#operand(reg, operand);
  }

  /** An instruction that is 64 bits wide by itself, or of no width. */
  #short(opcode: readonly number[], reg: number, operand: number | Place, hasOperand = true): void {
    const base = typeof operand === 'number' ? operand : operand.base;
    if (base > 7) this.#byte(0x41);
    this.#byte(...opcode);
    if (hasOperand) this.#operand(reg, operand);
  }

  label(): Label {
    const label = new Label();
    this.#labels.push(label);
    return label;
  }

  /** Puts a label here. */
  place(label: Label): void {
    label.position = this.#bytes.length;
  }

  jump(label: Label, condition?: keyof typeof CONDITIONS): void {
    if (condition === undefined) this.#byte(0xe9);
    else this.#byte(0x0f, 0x80 | CONDITIONS[condition]);
    label.uses.push(this.#bytes.length);
    this.#int32(0);
  }

  /** @param value up to 2⁵³ */
  constant(target: number, value: number): void {
    this.#byte(0x48 | (target >> 3), 0xb8 | (target & 7));
    this.#int32(value % 2 ** 32);
    this.#int32(Math.floor(value / 2 ** 32));
  }

  move(target: number, source: number): void {
    this.#wide([0x89], source, target);
  }

  load(target: number, source: Place): void {
    this.#wide([0x8b], target, source);
  }

  add(target: number, source: number): void {
    this.#wide([0x01], source, target);
  }

  /** An operation, by the field that names it, of a register and a constant of 32 bits, which is extended by its sign. */
  #constant(operation: number, register: number, value: number): void {
    this.#wide([0x81], operation, register);
    this.#int32(value);
  }

  addConstant(target: number, value: number): void {
    this.#constant(0, target, value);
  }

  /** Sets the flags, too: 'equal' is 0 then. */
  subtractConstant(target: number, value: number): void {
    this.#constant(5, target, value);
  }

  /** target &= value, which is extended by its sign */
  andConstant(target: number, value: number): void {
    this.#constant(4, target, value);
  }

  compare(a: number, b: number): void {
    this.#wide([0x39], b, a);
  }

  compareConstant(register: number, value: number): void {
    this.#constant(7, register, value);
  }

  /** target = source · factor */
  scale(target: number, source: number, factor: number): void {
    this.#wide([0x69], target, source);
    this.#int32(factor);
  }

  /** rax = rax / divisor, rdx = the remainder */
  divide(divisor: number): void {
    this.#byte(0x31, 0xd2);
    this.#wide([0xf7], 6, divisor);
  }

  /** Asks for the cache line at a place, which need not exist. */
  prefetch(place: Place): void {
    this.#short([0x0f, 0x18], 1, place);
  }

  call(register: number): void {
    this.#short([0xff], 2, register);
  }

  push(register: number): void {
    this.#short([0x50 | (register & 7)], 0, register, false);
  }

  pop(register: number): void {
    this.#short([0x58 | (register & 7)], 0, register, false);
  }

  /** Streamed stores are seen by others from here on. */
  fence(): void {
    this.#byte(0x0f, 0xae, 0xf8);
  }

  return(): void {
    this.#byte(0xc3);
  }

  /** Ends the use of wide vectors, which would slow down older code of the caller. */
  clearUpper(): void {
    this.#byte(0xc5, 0xf8, 0x77);
  }

  #vector(
    { map, prefix, opcode }: VectorCode,
    reg: number,
    first: number,
    operand: number | Place,
    { bits = Bits.v512, zeroing = 0, immediate }: VectorOptions = {},
  ): void {
    const isRegister = typeof operand === 'number';
    const rm = isRegister ? operand : operand.base;
    const inverted = (value: number, bit: number) => (~value >> bit) & 1;
    this.#byte(
      0x62,
      (inverted(reg, 3) << 7) |
        ((isRegister ? inverted(rm, 4) : 1) << 6) |
        (inverted(rm, 3) << 5) |
        (inverted(reg, 4) << 4) |
        map,
      ((~first & 15) << 3) | 4 | prefix,
      ((zeroing ? 1 : 0) << 7) | (bits << 5) | (inverted(first, 4) << 3) | zeroing,
      opcode,
    );
    this.#operand(reg, operand);
    if (immediate !== undefined) this.#byte(immediate);
  }

  /** An operation of {@link CODES} on 16 floats. */
  arithmetic(operation: keyof typeof CODES, target: number, a: number, b: number | Place): void {
    this.#vector(CODES[operation], target, a, b);
  }

  clear(vector: number): void {
    this.arithmetic('xor', vector, vector, vector);
  }

  squareRoot(target: number, source: number): void {
    this.#vector(code(1, 0, 0x51), target, 0, source);
  }

  loadFloats(target: number, source: Place): void {
    this.#vector(code(1, 0, 0x10), target, 0, source);
  }

  storeFloats(target: Place, source: number): void {
    this.#vector(code(1, 0, 0x11), source, 0, target);
  }

  /** Past the caches. The target must be at a multiple of 64 bytes. */
  streamFloats(target: Place, source: number): void {
    this.#vector(code(1, 0, 0x2b), source, 0, target);
  }

  /** 16 bf16, which are the upper halves of floats. */
  loadHalves(target: number, source: Place): void {
    this.#vector(code(2, 1, 0x33), target, 0, source);
    this.#vector(code(1, 1, 0x72), 6, target, target, { immediate: 16 });
  }

  /** Rounds 16 floats to bf16, to the nearest, and stores them; `scratch` is a vector to do it in. Needs AVX512_BF16. */
  storeHalves(target: Place, source: number, scratch: number): void {
    this.#halves(0x11, target, source, scratch);
  }

  /** As {@link storeHalves}, past the caches. The target must be at a multiple of 32 bytes. */
  streamHalves(target: Place, source: number, scratch: number): void {
    this.#halves(0x2b, target, source, scratch);
  }

  #halves(store: number, target: Place, source: number, scratch: number): void {
    this.#vector(code(2, 2, 0x72), scratch, 0, source);
    this.#vector(code(1, 0, store), scratch, 0, target, { bits: Bits.v256 });
  }

  /** One float to all 16. Clobbers rax. */
  broadcast(target: number, value: number): void {
    const bits = new Int32Array(Float32Array.of(value).buffer)[0] as number;
    this.#byte(0xb8);
    this.#int32(bits);
    this.#vector(code(2, 1, 0x7c), target, 0, Reg.rax);
  }

  /** mask = a > b, which NaN is not. */
  isGreater(mask: number, a: number, b: number): void {
    this.#vector(code(1, 0, 0xc2), mask, a, b, { immediate: 0x1e });
  }

  /** target = source where the mask is 1, else 0 */
  select(target: number, mask: number, source: number): void {
    this.#vector(code(1, 0, 0x28), target, 0, source, { zeroing: mask });
  }

  #mask(opcode: number, mask: number, place: Place): void {
    this.#byte(0xc4, 0xc0 | ((~(place.base >> 3) & 1) << 5) | 1, 0x78, opcode);
    this.#operand(mask, place);
  }

  loadMask(mask: number, source: Place): void {
    this.#mask(0x90, mask, source);
  }

  storeMask(target: Place, mask: number): void {
    this.#mask(0x91, mask, target);
  }
}
