/**
 * Memory for messages on their way, reused from step to step: fresh memory is slow to touch for the first time.
 *
 * It is memory that never moves, and that the SIMD kernels reach. Each piece is a power of two long so that it fits again.
 * One thread's own.
 */
import { type FlatKernels, FlatMemory } from '../../simd/index.js';

/** A piece of memory; see {@link Scratch.take}. */
export type ScratchBuffer = Uint8Array<SharedArrayBuffer>;

export class Scratch {
  readonly #free = new Map<number, ScratchBuffer[]>();
  #memory: FlatMemory | null = null;

  /** At least `bytes` long. Contents are whatever was there. */
  take(bytes: number): ScratchBuffer {
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 256)));
    const free = this.#free.get(size)?.pop();
    if (free) return free;
    const { buffer, byteOffset } = this.#own.allocate(size / Float32Array.BYTES_PER_ELEMENT);
    return new Uint8Array(buffer, byteOffset, size);
  }

  give(buffer: ScratchBuffer): void {
    const list = this.#free.get(buffer.length);
    if (list) list.push(buffer);
    else this.#free.set(buffer.length, [buffer]);
  }

  /** Kernels for pieces of this memory. */
  get kernels(): FlatKernels {
    return this.#own.kernels;
  }

  get #own(): FlatMemory {
    this.#memory ??= FlatMemory.create(0);
    return this.#memory;
  }
}
