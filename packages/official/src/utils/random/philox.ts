/**
 * Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): random numbers that are a function of
 * (key, counter). A draw needs no state but its index, so results do not depend on how work is split over threads, and a run
 * resumes by its counters.
 */

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** High 32 bits of the product of two unsigned 32-bit integers. */
function high(a: number, b: number): number {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const low = al * bl;
  const middle = ah * bl + (low >>> 16);
  const cross = (middle & 0xffff) + al * bh;
  return (ah * bh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0;
}

/**
 * The four 32-bit words for a counter and key, written to `out`.
 * @param counter four words @param key two words
 */
export function philox4x32(counter: ArrayLike<number>, key: ArrayLike<number>, out: Uint32Array): Uint32Array {
  let [c0, c1, c2, c3] = [counter[0] as number, counter[1] as number, counter[2] as number, counter[3] as number];
  let [k0, k1] = [key[0] as number, key[1] as number];
  for (let round = 0; round < 10; round++) {
    const h0 = high(M0, c0);
    const l0 = Math.imul(M0, c0) >>> 0;
    const h1 = high(M1, c2);
    const l1 = Math.imul(M1, c2) >>> 0;
    [c0, c1, c2, c3] = [(h1 ^ c1 ^ k0) >>> 0, l1, (h0 ^ c3 ^ k1) >>> 0, l0];
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
  return out;
}

/** A stream of numbers: stream `stream` of seed `seed`, from its beginning. Same arguments, same numbers. */
export class Philox {
  readonly #key: Uint32Array;
  readonly #counter = new Uint32Array(4);
  readonly #words = new Uint32Array(4);
  #used = 4;

  /** @param seed any safe integer from 0 @param stream up to three numbers that tell streams of one seed apart */
  constructor(seed: number, stream: readonly [number, number?, number?] = [0]) {
    this.#key = Uint32Array.of(seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0);
    this.#counter[2] = stream[0] >>> 0;
    this.#counter[3] = (stream[1] ?? 0) >>> 0;
    // Beside it a stream of one or two numbers would have draws 2³² and on.
    this.#counter[1] = (stream[2] ?? 0) >>> 0;
  }

  /** An integer in 0..2³²−1. */
  uint32(): number {
    if (this.#used === 4) {
      philox4x32(this.#counter, this.#key, this.#words);
      this.#used = 0;
      this.#counter[0] = ((this.#counter[0] as number) + 1) >>> 0;
      if (this.#counter[0] === 0) this.#counter[1] = ((this.#counter[1] as number) + 1) >>> 0;
    }
    return this.#words[this.#used++] as number;
  }

  /** In [0, 1), with 53 random bits. */
  uniform(): number {
    return ((this.uint32() >>> 5) * 67108864 + (this.uint32() >>> 6)) / 9007199254740992;
  }

  /** An integer in 0..bound−1, every one as likely (rejection). */
  integer(bound: number): number {
    const limit = Math.floor(2 ** 32 / bound) * bound;
    let value = this.uint32();
    while (value >= limit) value = this.uint32();
    return value % bound;
  }

  /** Standard normal (Box and Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Standard normal without what lies beyond two deviations, as TensorFlow's truncated_normal. */
  truncatedNormal(): number {
    let value = this.normal();
    while (Math.abs(value) > 2) value = this.normal();
    return value;
  }
}
