/**
 * FlatKernels: what is done to flat buffers once a step, as one interface, and its SIMD implementation.
 *
 * Element-wise, so the result does not depend on how buffers are cut; sums run in the order of `sources`. The loops are
 * assembly/kernels.ts; this file turns typed arrays into addresses. It has no threads and no barriers in it.
 */
import { host } from '#host';
import type { UpdateName } from './updates/index.js';
import { Instance, Module, type WasmMemory, type WasmModule } from './webassembly.js';

/** All arrays of one call have the target's length; f32 where nothing else is said, every operation rounded to f32. */
export interface FlatKernels {
  /** 'simd' or 'plain', for messages and benchmarks. */
  readonly name: 'simd' | 'plain';
  /** Whether the arrays lie where these kernels reach. */
  accepts(arrays: readonly Float32Array[]): boolean;
  /** target = Σ sources, in order. The target may be one of the sources. */
  sum(target: Float32Array, sources: readonly Float32Array[]): void;
  /** Every buffer = Σ buffers, in order. */
  sumToAll(buffers: readonly Float32Array[]): void;
  copy(target: Float32Array, source: Float32Array): void;
  /** target = source · factor. */
  scale(target: Float32Array, source: Float32Array, factor: number): void;
  /**
   * An optimizer's loop over one piece, in one pass: sum, scale, decay, update.
   * @param numbers in the order that updates/<name>.ts lists; rounded to f32
   * @returns whether every summed gradient was finite
   */
  update(
    name: UpdateName,
    weights: Float32Array,
    slots: readonly Float32Array[],
    gradients: readonly Float32Array[],
    numbers: readonly number[],
  ): boolean;
  /** Σ source², in f64. */
  sumSquares(source: Float32Array): number;
  /** Σ (source·factor + decay·weights)², in f64: of the gradient as an optimizer sees it. */
  sumSquaresDecayed(source: Float32Array, weights: Float32Array, factor: number, decay: number): number;
  /** target = source, cut off at ±bound; NaN stays NaN. */
  clip(target: Float32Array, source: Float32Array, bound: number): void;
  allFinite(source: Float32Array): boolean;
  /**
   * target = source as bfloat16: the upper half of an f32, rounded to nearest, ties to even. An element is off by at most 2⁻⁸ of
   * itself; NaN stays NaN, overflow becomes infinity.
   */
  toBf16(target: Uint16Array, source: Float32Array): void;
  /** target = the f32 values of bfloat16 numbers; exact. */
  fromBf16(target: Float32Array, source: Uint16Array): void;
  /** target += the f32 values of bfloat16 numbers. */
  addBf16(target: Float32Array, source: Uint16Array): void;
}

/** Arguments of every optimizer's loop; `slots`, `table` and `numbers` are addresses of lists. */
type UpdateExport = (
  weights: number,
  slots: number,
  table: number,
  n: number,
  count: number,
  numbers: number,
) => number;

/** Exports of dist/simd/kernels.wasm. Addresses cross as i32, hence `>>> 0` is not needed: the bits are the same. */
interface KernelExports extends Record<UpdateName, UpdateExport> {
  sum(target: number, table: number, n: number, count: number): void;
  sumToAll(table: number, n: number, count: number): void;
  copy(target: number, source: number, count: number): void;
  scale(target: number, source: number, factor: number, count: number): void;
  sumSquares(source: number, count: number): number;
  sumSquaresDecayed(source: number, weights: number, factor: number, decay: number, count: number): number;
  clip(target: number, source: number, bound: number, count: number): void;
  allFinite(source: number, count: number): number;
  toBf16(target: number, source: number, count: number): void;
  fromBf16(target: number, source: number, count: number): void;
  addBf16(target: number, source: number, count: number): void;
}

/** Where the kernels work: a FlatMemory, seen from here. */
export interface KernelMemory {
  readonly memory: WasmMemory;
  contains(view: ArrayBufferView): boolean;
}

/** Longest table of addresses: most replicas of one process. */
export const MAX_SOURCES = 256;
const MAX_SLOTS = 8;
const MAX_NUMBERS = 24;
/** Words that one thread's kernels need for their arguments: addresses of sources and slots, and an update's numbers. */
export const TABLE_WORDS = MAX_SOURCES + MAX_SLOTS + MAX_NUMBERS;

/** The compiled kernels, or null if the package was built without them (`scripts/build-wasm.mjs` makes the file). */
export function compileKernels(): WasmModule | null {
  const bytes = host.readKernels();
  return bytes ? new Module(bytes) : null;
}

/** See the file's head. */
export class SimdKernels implements FlatKernels {
  readonly name = 'simd';
  readonly #exports: KernelExports;
  readonly #slots: Uint32Array;
  readonly #numbers: Float32Array;

  /**
   * @param owner Where all arrays must lie.
   * @param table Room for {@link TABLE_WORDS} words there, used by this thread alone.
   */
  constructor(
    module: WasmModule,
    private readonly owner: KernelMemory,
    private readonly table: Uint32Array,
  ) {
    const { memory } = owner;
    this.#slots = table.subarray(MAX_SOURCES, MAX_SOURCES + MAX_SLOTS);
    const numbersAt = table.byteOffset + table.BYTES_PER_ELEMENT * (MAX_SOURCES + MAX_SLOTS);
    this.#numbers = new Float32Array(table.buffer, numbersAt, MAX_NUMBERS);
    this.#exports = new Instance(module, { env: { memory } }).exports as unknown as KernelExports;
  }

  accepts(arrays: readonly Float32Array[]): boolean {
    return arrays.every((array) => this.owner.contains(array));
  }

  sum(target: Float32Array, sources: readonly Float32Array[]): void {
    const table = this.#write(sources);
    this.#exports.sum(this.#at(target), table, sources.length, target.length);
  }

  sumToAll(buffers: readonly Float32Array[]): void {
    this.#exports.sumToAll(this.#write(buffers), buffers.length, (buffers[0] as Float32Array).length);
  }

  copy(target: Float32Array, source: Float32Array): void {
    this.#exports.copy(this.#at(target), this.#at(source), target.length);
  }

  scale(target: Float32Array, source: Float32Array, factor: number): void {
    this.#exports.scale(this.#at(target), this.#at(source), factor, target.length);
  }

  update(
    name: UpdateName,
    weights: Float32Array,
    slots: readonly Float32Array[],
    gradients: readonly Float32Array[],
    numbers: readonly number[],
  ): boolean {
    if (slots.length > MAX_SLOTS || numbers.length > MAX_NUMBERS) {
      throw new RangeError(`An update takes ${MAX_SLOTS} slots and ${MAX_NUMBERS} numbers at most.`);
    }
    const table = this.#write(gradients);
    for (let i = 0; i < slots.length; i++) this.#slots[i] = this.#at(slots[i] as Float32Array);
    this.#numbers.set(numbers);
    const [at, slotsAt, numbersAt] = [this.#at(weights), this.#slots.byteOffset, this.#numbers.byteOffset];
    return this.#exports[name](at, slotsAt, table, gradients.length, weights.length, numbersAt) === 1;
  }

  sumSquares(source: Float32Array): number {
    return this.#exports.sumSquares(this.#at(source), source.length);
  }

  sumSquaresDecayed(source: Float32Array, weights: Float32Array, factor: number, decay: number): number {
    return this.#exports.sumSquaresDecayed(this.#at(source), this.#at(weights), factor, decay, source.length);
  }

  clip(target: Float32Array, source: Float32Array, bound: number): void {
    this.#exports.clip(this.#at(target), this.#at(source), bound, target.length);
  }

  allFinite(source: Float32Array): boolean {
    return this.#exports.allFinite(this.#at(source), source.length) === 1;
  }

  toBf16(target: Uint16Array, source: Float32Array): void {
    this.#exports.toBf16(this.#at(target), this.#at(source), target.length);
  }

  fromBf16(target: Float32Array, source: Uint16Array): void {
    this.#exports.fromBf16(this.#at(target), this.#at(source), target.length);
  }

  addBf16(target: Float32Array, source: Uint16Array): void {
    this.#exports.addBf16(this.#at(target), this.#at(source), target.length);
  }

  #write(arrays: readonly Float32Array[]): number {
    if (arrays.length > MAX_SOURCES) {
      throw new RangeError(`The kernels sum at most ${MAX_SOURCES} buffers, got ${arrays.length}.`);
    }
    for (let i = 0; i < arrays.length; i++) this.table[i] = this.#at(arrays[i] as Float32Array);
    return this.table.byteOffset;
  }

  #at(array: Float32Array | Uint16Array): number {
    if (!this.owner.contains(array)) {
      throw new RangeError(
        'A SIMD kernel was given an array outside its FlatMemory.\nhelp: allocate it with FlatMemory.allocate(), or use plainKernels.',
      );
    }
    return array.byteOffset;
  }
}
