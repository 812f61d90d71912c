/**
 * How long the communication thread may sleep while messages are on their way: as long as the network needs for a segment.
 *
 * Every time it wakes it takes the core from the thread that computes, and finds the more to do the longer it slept. Open MPI
 * and the kernel hold a few segments per message, so the network goes on meanwhile. Its rate is taken from the all-reduces
 * themselves: the best that a spell of them made, since all others waited for late ranks as well. It never falls, or a long
 * nap that slowed a spell down would make the next one longer.
 */
import { LONG_SEGMENT_BYTES } from './all-reduce/all-reduce.js';

/** Before anything is known, and on networks faster than 4 Gbit/s. */
const SHORTEST_NAP_MS = 2;
const LONGEST_NAP_MS = 16;
/** Shorter spells say more of latencies than of rates. */
const SPELL_BYTES = LONG_SEGMENT_BYTES;

/** See the file's head. Times are milliseconds of any one clock. */
export class Pace {
  #bytesPerMs = 0;
  /** Of the spell that goes on. */
  #begin = 0;
  #bytes = 0;
  #sleeps = 0;

  /** An all-reduce is taken up which sends `bytes`; the first one begins a spell. */
  add(bytes: number, now: number): void {
    if (this.#bytes === 0) this.#begin = now;
    this.#bytes += bytes;
  }

  /** Something came or left. */
  moved(): void {
    this.#sleeps = 0;
  }

  /** The last all-reduce under way has ended, and with it the spell. */
  end(now: number): void {
    const rate = this.#bytes / Math.max(now - this.#begin, 0.1);
    if (this.#bytes >= SPELL_BYTES) this.#bytesPerMs = Math.max(this.#bytesPerMs, rate);
    this.#bytes = 0;
  }

  /** The next nap in milliseconds; naps get longer while nothing moves, because the other ranks are not there yet. */
  nap(): number {
    const segment = this.#bytesPerMs === 0 ? 0 : LONG_SEGMENT_BYTES / this.#bytesPerMs;
    return Math.min(LONGEST_NAP_MS, Math.max(SHORTEST_NAP_MS, segment) * 1.5 ** this.#sleeps++);
  }
}
