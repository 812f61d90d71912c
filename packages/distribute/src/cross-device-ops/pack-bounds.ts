/** Where flat gradients are cut into packs. Backward fills a buffer from its end, so packs start from the end, too. */
import { splitIntoPacks } from './packing.js';

/** 8 MB of f32: long enough for the network's full rate, and most of a large model is on its way before backward ends. */
const PACK_ELEMENTS = 2 ** 21;
/** 512 KB: what is still to be sent when backward is over. */
const LAST_PACK_ELEMENTS = 2 ** 17;

/**
 * `count` packs as upstream's num_packs cuts them, with one process and with many: the last one has what ⌊elements ÷ count⌋ each
 * leaves over. Empty packs, of more packs than elements, are left out: they would be messages of nothing.
 * @returns first elements, and the end.
 */
export function evenBounds(elements: number, count: number): number[] {
  const packs = splitIntoPacks(elements, count).filter(({ length }) => length > 0);
  return [0, ...packs.map(({ offset, length }) => offset + length)];
}

/**
 * Packs of 8 MB. The pack at the start of the buffer is full when backward ends, and nothing is left to hide its journey: so
 * packs get shorter towards the start, each half as long as the one behind it, down to 512 KB. A buffer that is one pack stays
 * one. @returns first elements, and the end.
 */
export function taperedBounds(elements: number): number[] {
  if (elements < 1.5 * PACK_ELEMENTS) return evenBounds(elements, 1);
  const bounds = [0];
  let size = LAST_PACK_ELEMENTS;
  let end = size;
  // What is left at the end of the buffer joins its neighbour if it is less than half a pack.
  while (elements - end >= PACK_ELEMENTS / 2) {
    bounds.push(end);
    size = Math.min(PACK_ELEMENTS, 2 * size);
    end += size;
  }
  return [...bounds, elements];
}
