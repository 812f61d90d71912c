/** Ordered values of all ranks, as text: for small things such as names, shapes, counts and losses, not for tensors. */
import type { Communicator } from './communicator.js';
import { parseValues, stringifyValues } from './plain-values.js';

/**
 * Every rank's value, in rank order, as it was sent: NaN, infinities, −0 and undefined included. Collective.
 * @throws TypeError for what cannot be sent (see {@link stringifyValues}), before any other rank is met.
 */
export function gatherValues<T>(communicator: Communicator, value: T): T[] {
  return gatherTexts(communicator, stringifyValues(value)).map((text) => parseValues(text) as T);
}

/** Every rank's text, in rank order. Collective. */
export function gatherTexts(communicator: Communicator, text: string): string[] {
  if (communicator.size === 1) return [text];
  const bytes = new TextEncoder().encode(text);
  const lengths = new Int32Array(communicator.size);
  communicator.allGather(Int32Array.of(bytes.length), lengths);
  const longest = Math.max(...lengths, 1);
  const send = new Uint8Array(longest);
  send.set(bytes);
  const receive = new Uint8Array(longest * communicator.size);
  communicator.allGather(send, receive);
  const decoder = new TextDecoder();
  return Array.from(lengths, (length, rank) => decoder.decode(receive.slice(rank * longest, rank * longest + length)));
}
