/**
 * Points of one tag of one run, in typed arrays that grow, sorted by step; and the same thinned out to what a plot has room for: buckets
 * of equally many points, each with its mean, smallest and largest value, so that no peak is lost however far one is away.
 */
import type { SeriesAnswer } from './protocol.js';

const FIRST = 64;

export class Series {
  length = 0;
  steps = new Float64Array(FIRST);
  /** Seconds since 1970. */
  times = new Float64Array(FIRST);
  values = new Float64Array(FIRST);
  #file = -1;

  /**
   * @param file a number that grows from file to file: a run that goes on behind a checkpoint writes some steps again, and what the
   * earlier file has of them is void
   */
  append(step: number, time: number, value: number, file: number): void {
    let at = this.length;
    if (at > 0 && step <= (this.steps[at - 1] as number)) {
      at = this.#firstFrom(step);
      if (file > this.#file) this.length = at;
      // A later value of the same step takes its place.
      else if (this.steps[at] !== step) this.#makeRoom(at);
    }
    if (at === this.steps.length) this.#grow();
    this.steps[at] = step;
    this.times[at] = time;
    this.values[at] = value;
    if (at >= this.length) this.length = at + 1;
    this.#file = Math.max(file, this.#file);
  }

  /** Largest finite value; null without any. */
  get highest(): number | null {
    let highest = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < this.length; i++) {
      const value = this.values[i] as number;
      if (value > highest && value < Number.POSITIVE_INFINITY) highest = value;
    }
    return highest === Number.NEGATIVE_INFINITY ? null : highest;
  }

  /** Null without any, or where it is no finite number. */
  get last(): number | null {
    const value = this.values[this.length - 1];
    return this.length > 0 && Number.isFinite(value) ? (value as number) : null;
  }

  /**
   * At most `points` of the points with from ≤ step ≤ to, and one on each side of them, so that lines go on to a plot's edge.
   * @param points at least 2
   */
  sample(
    points: number,
    from = Number.NEGATIVE_INFINITY,
    to = Number.POSITIVE_INFINITY,
  ): Omit<SeriesAnswer, 'run' | 'tag'> {
    const begin = Math.max(0, this.#firstFrom(from) - 1);
    const end = Math.min(this.length, this.#firstFrom(to) + 2);
    const count = Math.max(0, end - begin);
    if (count <= points) {
      const part = (array: Float64Array) => Array.from(array.subarray(begin, end));
      return { count, steps: part(this.steps), times: part(this.times), values: part(this.values).map(finite) };
    }
    const steps: number[] = [];
    const times: number[] = [];
    const values: (number | null)[] = [];
    const low: (number | null)[] = [];
    const high: (number | null)[] = [];
    for (let bucket = 0; bucket < points; bucket++) {
      const first = begin + Math.floor((bucket * count) / points);
      const next = begin + Math.floor(((bucket + 1) * count) / points);
      let [sum, finites, smallest, largest] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
      for (let i = first; i < next; i++) {
        const value = this.values[i] as number;
        // Also false for NaN.
        if (!(Math.abs(value) < Number.POSITIVE_INFINITY)) continue;
        sum += value;
        finites++;
        if (value < smallest) smallest = value;
        if (value > largest) largest = value;
      }
      // The first and the last point stay where they are: a run's length is not to shrink.
      const place = bucket === 0 ? first : bucket === points - 1 ? next - 1 : (first + next - 1) >> 1;
      steps.push(this.steps[place] as number);
      times.push(this.times[place] as number);
      values.push(finites === 0 ? null : sum / finites);
      low.push(finites === 0 ? null : smallest);
      high.push(finites === 0 ? null : largest);
    }
    return { count, steps, times, values, low, high };
  }

  /** Place of the first point whose step is not smaller. */
  #firstFrom(step: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.steps[middle] as number) < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #makeRoom(at: number): void {
    if (this.length === this.steps.length) this.#grow();
    for (const array of [this.steps, this.times, this.values]) array.copyWithin(at + 1, at, this.length);
    this.length++;
  }

  #grow(): void {
    const larger = (array: Float64Array) => {
      const grown = new Float64Array(2 * array.length);
      grown.set(array);
      return grown;
    };
    this.steps = larger(this.steps);
    this.times = larger(this.times);
    this.values = larger(this.values);
  }
}

const finite = (value: number): number | null => (Number.isFinite(value) ? value : null);
