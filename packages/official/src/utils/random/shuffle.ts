/** A random order: Fisher–Yates, each order as likely as any other. */
import type { Philox } from './philox.js';

/** Shuffles in place, from the last item down; it takes one number below n for each n = length … 2. @returns `items` */
export function shuffle<Items extends unknown[] | Uint32Array>(items: Items, random: Philox): Items {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    const kept = items[i];
    items[i] = items[j];
    items[j] = kept;
  }
  return items;
}
