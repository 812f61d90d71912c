/**
 * Gradients of several calls, added up before they count: an effective batch of so many. Each variable's sum is over the calls in which it
 * had a gradient, and the mean over all calls: one that had none counts as zero.
 */
import * as tf from '@tensorflow/tfjs-core';

/** See the file's head. */
export class GradientSums {
  readonly #sums = new Map<string, tf.Tensor>();
  #calls = 0;

  constructor(private readonly steps: number) {}

  /**
   * @param gradients By name; null for a variable that the loss does not reach.
   * @returns the mean, if this was the last call of so many, for the caller to dispose; else null. Names keep the order in which they came.
   */
  add(gradients: ReadonlyMap<string, tf.Tensor | null>): Map<string, tf.Tensor | null> | null {
    for (const [name, gradient] of gradients) {
      if (gradient === null) continue;
      const before = this.#sums.get(name);
      this.#sums.set(name, tf.keep(tf.tidy(() => (before ? tf.add(before, gradient) : tf.clone(gradient)))));
      before?.dispose();
    }
    if (++this.#calls < this.steps) return null;
    const names = new Set([...gradients.keys(), ...this.#sums.keys()]);
    const means = new Map(
      [...names].map((name) => {
        const sum = this.#sums.get(name);
        return [name, sum ? tf.keep(tf.tidy(() => tf.div(sum, this.steps))) : null] as const;
      }),
    );
    this.clear();
    return means;
  }

  /** Forgets what has been added up. */
  clear(): void {
    tf.dispose([...this.#sums.values()]);
    this.#sums.clear();
    this.#calls = 0;
  }
}
