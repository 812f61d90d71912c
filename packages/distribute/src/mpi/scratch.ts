/**
 * Memory for messages on their way, reused from step to step: fresh memory is slow to touch for the first time.
 *
 * It is shared memory because that never moves, and each piece is a power of two long so that it fits again.
 */

/** A piece of memory; see {@link Scratch.take}. */
export type ScratchBuffer = Uint8Array<SharedArrayBuffer>;

export class Scratch {
  readonly #free = new Map<number, ScratchBuffer[]>();

  /** At least `bytes` long. Contents are whatever was there. */
  take(bytes: number): ScratchBuffer {
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 256)));
    return this.#free.get(size)?.pop() ?? new Uint8Array(new SharedArrayBuffer(size));
  }

  give(buffer: ScratchBuffer): void {
    const list = this.#free.get(buffer.length);
    if (list) list.push(buffer);
    else this.#free.set(buffer.length, [buffer]);
  }
}
