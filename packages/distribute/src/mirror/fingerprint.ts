/**
 * Fingerprints: 32 bits that differ, all but surely, when what they stand for does; and the words for a difference. Replicas compare
 * them in every step, so they are made without garbage. Murmur3 (public domain) over words: every bit of every word counts.
 */

/** Anything whose bits are its value. */
export type Numbers = Float32Array | Int32Array | Uint8Array;

/** Of the values' bits: −0 is not 0, and a NaN is equal to itself. @param seed A fingerprint to go on from. */
export function hashNumbers(values: Numbers, seed = 0): number {
  if (values instanceof Uint8Array) {
    let hash = seed;
    for (let i = 0; i < values.length; i++) hash = mix(hash, values[i] as number);
    return finish(hash, values.length);
  }
  const words = new Int32Array(values.buffer, values.byteOffset, values.length);
  let hash = seed;
  for (let i = 0; i < words.length; i++) {
    let word = Math.imul(words[i] as number, 0xcc9e2d51);
    word = Math.imul((word << 15) | (word >>> 17), 0x1b873593);
    hash ^= word;
    hash = (Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64) | 0;
  }
  return finish(hash, words.length);
}

/** Of a text's characters. */
export function hashText(text: string, seed = 0): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) hash = mix(hash, text.charCodeAt(i));
  return finish(hash, text.length);
}

/** One more word. A fingerprint of several words ends with {@link finish}. */
export function mix(hash: number, word: number): number {
  let mixed = Math.imul(word, 0xcc9e2d51);
  mixed = Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593) ^ hash;
  mixed = (mixed << 13) | (mixed >>> 19);
  return (Math.imul(mixed, 5) + 0xe6546b64) | 0;
}

/** Spreads the last words' bits. @param length Number of words. */
export function finish(hash: number, length: number): number {
  let spread = hash ^ length;
  spread = Math.imul(spread ^ (spread >>> 16), 0x85ebca6b);
  spread = Math.imul(spread ^ (spread >>> 13), 0xc2b2ae35);
  return spread ^ (spread >>> 16);
}

/** 'replicas 0, 2: 0.1; replica 1: 0.01': who has what, equal ones together. @param values One text per replica. */
export function whoHasWhat(values: readonly string[], noun = 'replica'): string {
  const holders = new Map<string, number[]>();
  for (const [replica, value] of values.entries()) holders.set(value, [...(holders.get(value) ?? []), replica]);
  return [...holders].map(([value, replicas]) => `${inWords(replicas, noun)}: ${value}`).join('; ');
}

/** 'replica 1', 'replicas 0, 2' */
export function inWords(replicas: readonly number[], noun = 'replica'): string {
  return `${noun}${replicas.length === 1 ? '' : 's'} ${replicas.join(', ')}`;
}

/** The first values and the length of the vector: enough to tell whose is the odd one. */
export function summary(values: Numbers): string {
  const first = Array.from(values.subarray(0, 3), (value) => Number(value.toPrecision(6)));
  let squares = 0;
  for (const value of values) squares += value * value;
  return `[${first.join(', ')}${values.length > 3 ? ', …' : ''}] (norm ${Number(Math.sqrt(squares).toPrecision(6))})`;
}

/**
 * Names the variables that only some replicas have, and who; null if all have the same.
 * @param lists Each replica's.
 */
export function describeMissing(lists: readonly (readonly string[])[], what: string): string | null {
  const names = new Set(lists.flat());
  const lines: string[] = [];
  for (const name of names) {
    const having = lists.flatMap((list, replica) => (list.includes(name) ? [replica] : []));
    if (having.length === lists.length) continue;
    const missing = lists.flatMap((list, replica) => (list.includes(name) ? [] : [replica]));
    lines.push(`'${name}' has ${what} on ${inWords(having)} and none on ${inWords(missing)}`);
  }
  if (lines.length === 0) return null;
  return lines.slice(0, 3).join('; ') + (lines.length > 3 ? `; and ${lines.length - 3} more` : '');
}
