/** Options of `strategy.run`, the same for every strategy: a limit that is no number would be no limit, or end at once. */
import type { RunOptions } from '../replica/run-replicas.js';

/** setTimeout counts milliseconds in 31 bits, and takes more for 1. */
const LONGEST_SECONDS = Math.floor((2 ** 31 - 1) / 1000);

/** @throws RangeError, TypeError naming the option and what was given. */
export function checkRunOptions({ onReport, signal, graceSeconds, timeoutSeconds, bindThreads }: RunOptions): void {
  checkSeconds('timeoutSeconds', timeoutSeconds, (value) => value > 0);
  // Without a limit: as long as a step takes.
  if (graceSeconds !== Number.POSITIVE_INFINITY) checkSeconds('graceSeconds', graceSeconds, (value) => value >= 0);
  if (onReport !== undefined && typeof onReport !== 'function') {
    throw new TypeError(`onReport must be a function, got ${typeof onReport}.`);
  }
  if (bindThreads !== undefined && typeof bindThreads !== 'boolean') {
    throw new TypeError(`bindThreads must be true or false, got ${String(bindThreads)}.`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError(`signal must be an AbortSignal, got ${typeof signal}.\nhelp: new AbortController().signal`);
  }
}

function checkSeconds(name: string, value: number | undefined, isGood: (value: number) => boolean): void {
  if (value === undefined) return;
  if (typeof value === 'number' && isGood(value) && value <= LONGEST_SECONDS) return;
  throw new RangeError(
    `${name} must be a number of seconds, at most ${LONGEST_SECONDS.toLocaleString('en')} (24 days), got ${String(value)}.`,
  );
}
