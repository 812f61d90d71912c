/**
 * What may cross from one thread to another: not tensors, whose values belong to one thread's backend. Structured clone would turn
 * them into objects that look like tensors and hold nothing.
 */
import * as tf from '@tensorflow/tfjs-core';

/** Arrays longer than this are looked through at their beginning only: data, not options. */
const LONGEST = 1_000;
const DEEPEST = 6;

/**
 * @param what 'the arguments of strategy.run()'
 * @throws TypeError naming the place of the first tensor, variable or model in `value`.
 */
export function checkMessage(value: unknown, what: string): void {
  const found = findTensor(value, '', 0, new Set());
  if (found === null) return;
  const place = found.path === '' ? '' : ` at ${found.path.replace(/^\./, '')}`;
  throw new TypeError(
    `There is a ${found.kind} in ${what}${place}: it cannot leave the thread in which it was made.\n` +
      'help: hand over its numbers, tensor.arraySync() or { values: tensor.dataSync(), shape: tensor.shape }, and make the tensor ' +
      'anew on the other side; data that every replica reads is best read in the replica.',
  );
}

function findTensor(
  value: unknown,
  path: string,
  depth: number,
  seen: Set<object>,
): { path: string; kind: string } | null {
  if (typeof value !== 'object' || value === null || seen.has(value)) return null;
  if (value instanceof tf.Variable) return { path, kind: 'variable' };
  if (value instanceof tf.Tensor) return { path, kind: 'tensor' };
  if (ArrayBuffer.isView(value) || depth >= DEEPEST) return null;
  seen.add(value);
  const entries: Iterable<[unknown, unknown]> = Array.isArray(value)
    ? value.slice(0, LONGEST).entries()
    : value instanceof Map
      ? value.entries()
      : value instanceof Set
        ? [...value].slice(0, LONGEST).entries()
        : isPlain(value)
          ? Object.entries(value)
          : [];
  for (const [key, member] of entries) {
    const inner = typeof key === 'string' && /^[\w$]+$/.test(key) ? `${path}.${key}` : `${path}[${String(key)}]`;
    const found = findTensor(member, inner, depth + 1, seen);
    if (found) return found;
  }
  return null;
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
