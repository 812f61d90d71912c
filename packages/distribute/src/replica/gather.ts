/** Ordered values of all ranks, as JSON: for small things such as names, shapes and counts, not for tensors. */
import type { Communicator } from '../communicator/communicator.js';

/** Collective. `undefined` members and the like are lost, as JSON loses them. */
export function gatherJson<T>(communicator: Communicator, value: T): T[] {
  const text = JSON.stringify(value ?? null);
  if (communicator.size === 1) return [JSON.parse(text) as T];
  const bytes = new TextEncoder().encode(text);
  const lengths = new Int32Array(communicator.size);
  communicator.allGather(Int32Array.of(bytes.length), lengths);
  const longest = Math.max(...lengths);
  const send = new Uint8Array(longest);
  send.set(bytes);
  const receive = new Uint8Array(longest * communicator.size);
  communicator.allGather(send, receive);
  const decoder = new TextDecoder();
  return Array.from(lengths, (length, rank) => {
    return JSON.parse(decoder.decode(receive.subarray(rank * longest, rank * longest + length))) as T;
  });
}
