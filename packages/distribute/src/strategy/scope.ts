/**
 * The current strategy, as `with strategy.scope():` has it.
 *
 * Variables are made inside replicas, so a scope changes nothing about them; it tells code that was not handed a strategy
 * which one it runs under. The scope follows asynchronous calls and never leaks into others.
 */
import { host } from '#host';
import type { Strategy } from './strategy.js';

const current = host.scope<Strategy>();

/** Runs `body` with `strategy` as the current one. */
export function runInScope<Result>(strategy: Strategy, body: () => Result): Result {
  return current.run(strategy, body);
}

/** tf.distribute.get_strategy, except that outside every scope there is none. */
export function getStrategy(): Strategy | null {
  return current.get() ?? null;
}
