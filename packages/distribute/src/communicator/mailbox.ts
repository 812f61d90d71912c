/**
 * Mailbox: messages from one rank to another through shared memory, in order, cut into parts.
 *
 * One box per ordered pair of ranks holds one part at a time, so a message that fits in it is sent without waiting for the
 * receiver. It compares no tags (the communicator keeps messages that were not asked for yet).
 */

/** Bytes of all boxes together; for many ranks each box gets smaller. */
const TOTAL_BYTES = 4 * 1024 * 1024;
const MAX_PART = 64 * 1024;
const MIN_PART = 1024;
const HEADER_BYTES = 64;
const FULL = 0;
const TAG = 1;

function partBytes(size: number): number {
  const part = Math.floor(TOTAL_BYTES / (size * size) / 64) * 64;
  return Math.min(MAX_PART, Math.max(MIN_PART, part));
}

export function mailboxBytes(size: number): number {
  return size * size * (HEADER_BYTES + partBytes(size));
}

/** Waits until `word[0]` is `value`. */
export type WaitForWord = (word: Int32Array<SharedArrayBuffer>, value: number) => void;

/** See the file's head. */
export class Mailbox {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #total: Float64Array<SharedArrayBuffer>;
  readonly #part: Uint8Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, size: number, source: number, destination: number) {
    const at = (source * size + destination) * (HEADER_BYTES + partBytes(size));
    this.#words = new Int32Array(buffer, at, 2);
    this.#total = new Float64Array(buffer, at + 8, 1);
    this.#part = new Uint8Array(buffer, at + HEADER_BYTES, partBytes(size));
  }

  /** Returns when the last part is in the box. */
  put(bytes: Uint8Array, tag: number, waitFor: WaitForWord): void {
    let offset = 0;
    do {
      waitFor(this.#words, 0);
      const part = bytes.subarray(offset, offset + this.#part.length);
      this.#part.set(part);
      this.#words[TAG] = tag;
      this.#total[0] = bytes.length;
      this.#set(1);
      offset += part.length;
    } while (offset < bytes.length);
  }

  /** The next message, whole. */
  take(waitFor: WaitForWord): { tag: number; bytes: Uint8Array } {
    waitFor(this.#words, 1);
    const tag = this.#words[TAG] as number;
    const bytes = new Uint8Array(this.#total[0] as number);
    let offset = 0;
    do {
      waitFor(this.#words, 1);
      const length = Math.min(this.#part.length, bytes.length - offset);
      bytes.set(this.#part.subarray(0, length), offset);
      offset += length;
      this.#set(0);
    } while (offset < bytes.length);
    return { tag, bytes };
  }

  #set(full: number): void {
    Atomics.store(this.#words, FULL, full);
    Atomics.notify(this.#words, FULL);
  }
}
