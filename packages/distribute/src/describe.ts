/** A value that a user handed over, as an error names it. */
import * as tf from '@tensorflow/tfjs-core';

/** What was given, in a few words: 'undefined', "'0.1'", 'a tensor of shape [2]', 'an AdamOptimizer'. */
export function describe(value: unknown): string {
  if (value instanceof tf.Tensor)
    return `${value.dtype === 'int32' ? 'an' : 'a'} ${value.dtype} tensor of shape [${value.shape}]`;
  if (typeof value === 'string') return `'${value.slice(0, 50)}'`;
  if (typeof value === 'function') return 'a function';
  if (value === null || typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return `the list [${String(value).slice(0, 50)}]`;
  const name = value.constructor?.name ?? 'Object';
  if (name === 'Object') return `an object with members ${Object.keys(value).slice(0, 5).join(', ') || 'none'}`;
  return `${/^[AEIOU]/.test(name) ? 'an' : 'a'} ${name}`;
}
