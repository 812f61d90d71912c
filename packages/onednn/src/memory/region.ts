/**
 * Memory of a recorded step: buffers of any size side by side in few large pieces. What was given back joins its neighbours and is handed
 * out again for other sizes, so a step needs little more than what lives at a time, and a replay reads what it has just written while
 * that is still in the cache.
 *
 * Offsets and bytes only; the pool makes pieces and counts. A step asks in the same order every time, so first come is first served: the
 * smallest gap that is large enough (best fit), then what was never used.
 */

/** Consecutive bytes of a piece that nobody has. */
interface Gap {
  readonly piece: number;
  begin: number;
  end: number;
}

/** Where a buffer begins, and what it cost. */
export interface Place {
  readonly piece: number;
  readonly offset: number;
  /** Bytes of it that were never handed out before. */
  readonly unused: number;
}

/** See the file's head. */
export class Region {
  /** In the order of pieces and offsets; no two touch. */
  readonly #gaps: Gap[] = [];
  /** Of the last piece, what was never handed out. */
  #last: Gap | null = null;
  #pieces = 0;

  /** A place in what was given back, or there and beyond; null if a new piece is needed. */
  take(size: number): Place | null {
    let best: Gap | null = null;
    for (const gap of this.#gaps) {
      const length = gap.end - gap.begin;
      if (length >= size && (best === null || length < best.end - best.begin)) best = gap;
    }
    if (best !== null) {
      const { piece, begin: offset } = best;
      best.begin += size;
      if (best.begin === best.end) this.#gaps.splice(this.#gaps.indexOf(best), 1);
      return { piece, offset, unused: 0 };
    }
    const last = this.#last;
    const top = this.#gaps.at(-1);
    if (last === null || top?.piece !== last.piece || top.end !== last.begin || last.end - top.begin < size) {
      return this.#takeUnused(size);
    }
    this.#gaps.pop();
    const unused = size - (top.end - top.begin);
    last.begin += unused;
    return { piece: last.piece, offset: top.begin, unused };
  }

  #takeUnused(size: number): Place | null {
    const last = this.#last;
    if (last === null || last.end - last.begin < size) return null;
    const { piece, begin: offset } = last;
    last.begin += size;
    return { piece, offset, unused: size };
  }

  /**
   * A new piece of so many bytes, the next in number.
   * @returns bytes of the piece before that were never handed out, which are a gap from now on.
   */
  add(size: number): number {
    const last = this.#last;
    this.#last = { piece: this.#pieces++, begin: 0, end: size };
    if (last === null || last.begin === last.end) return 0;
    this.give(last.piece, last.begin, last.end - last.begin);
    return last.end - last.begin;
  }

  /** Takes a place back. */
  give(piece: number, offset: number, size: number): void {
    const gaps = this.#gaps;
    let at = gaps.length;
    while (at > 0 && isBehind(gaps[at - 1] as Gap, piece, offset)) at--;
    const before = gaps[at - 1];
    const after = gaps[at];
    const end = offset + size;
    const joinsBefore = before?.piece === piece && before.end === offset;
    const joinsAfter = after?.piece === piece && after.begin === end;
    if (joinsBefore && joinsAfter) {
      before.end = after.end;
      gaps.splice(at, 1);
    } else if (joinsBefore) before.end = end;
    else if (joinsAfter) after.begin = offset;
    else gaps.splice(at, 0, { piece, begin: offset, end });
  }
}

function isBehind(gap: Gap, piece: number, offset: number): boolean {
  return gap.piece > piece || (gap.piece === piece && gap.begin > offset);
}
