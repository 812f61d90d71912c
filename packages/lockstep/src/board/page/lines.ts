/** From series to what a plot draws: places on its axis, smoothed values, and the band that a point stands for. Pure functions. */
import type { RunEntry, SeriesAnswer } from '../protocol.js';
import type { Axis } from './store.js';

export interface Line {
  readonly run: RunEntry;
  readonly x: readonly number[];
  /** What is drawn strongly: smoothed, if that is wanted. */
  readonly y: readonly (number | null)[];
  /** Means of what each point stands for, not smoothed. */
  readonly raw: readonly (number | null)[];
  readonly low: readonly (number | null)[];
  readonly high: readonly (number | null)[];
  readonly steps: readonly number[];
}

export function lineOf(
  run: RunEntry,
  answer: SeriesAnswer,
  axis: Axis,
  smoothing: number,
  transform: (value: number) => number,
): Line {
  const change = (values: readonly (number | null)[]) =>
    values.map((value) => (value === null ? null : transform(value)));
  const raw = change(answer.values);
  const begin = run.begin ?? 0;
  const x =
    axis === 'step' ? answer.steps : axis === 'wall' ? answer.times : answer.times.map((time) => (time - begin) / 3600);
  return {
    ...{ run, x: ascending(x), raw, steps: answer.steps },
    y: smoothing > 0 && raw.length > 2 ? smooth(raw, smoothing) : raw,
    low: answer.low ? change(answer.low) : raw,
    high: answer.high ? change(answer.high) : raw,
  };
}

/** An exponential moving average without the bias of its beginning, as TensorBoard's. @param weight of what was before, 0 ≤ weight < 1 */
export function smooth(values: readonly (number | null)[], weight: number): (number | null)[] {
  let average = 0;
  let mass = 0;
  return values.map((value) => {
    if (value === null) return null;
    average = average * weight + (1 - weight) * value;
    mass = mass * weight + (1 - weight);
    return average / mass;
  });
}

/** Clocks may be set back; a plot's axis may not. */
function ascending(x: readonly number[]): readonly number[] {
  for (let i = 1; i < x.length; i++) {
    if ((x[i] as number) >= (x[i - 1] as number)) continue;
    let last = Number.NEGATIVE_INFINITY;
    return x.map((value) => {
      last = Math.max(last, value);
      return last;
    });
  }
  return x;
}

/** Place of the point that is nearest; -1 without any. @param x ascending */
export function nearest(x: readonly number[], wanted: number): number {
  let low = 0;
  let high = x.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((x[middle] as number) < wanted) low = middle + 1;
    else high = middle;
  }
  if (high < 0) return -1;
  return low > 0 && wanted - (x[low - 1] as number) < (x[low] as number) - wanted ? low - 1 : low;
}

/** Smallest and largest value of what is drawn between two places; null without any. */
export function extent(lines: readonly Line[], from: number, to: number, isPositive: boolean): [number, number] | null {
  let [smallest, largest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  // In every picture of a zoom: no arrays, no closures.
  for (const { x, low, high, y } of lines) {
    for (let i = 0; i < x.length; i++) {
      const place = x[i] as number;
      if (place < from || place > to) continue;
      const least = low[i];
      const most = high[i];
      const drawn = y[i];
      if (typeof least === 'number' && least < smallest && (!isPositive || least > 0)) smallest = least;
      if (typeof drawn === 'number' && drawn < smallest && (!isPositive || drawn > 0)) smallest = drawn;
      if (typeof most === 'number' && most > largest) largest = most;
      if (typeof drawn === 'number' && drawn > largest) largest = drawn;
    }
  }
  return smallest <= largest ? [smallest, largest] : null;
}
