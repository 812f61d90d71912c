/**
 * Variables over one flat buffer: where each lies, and how it becomes a view of its place. Every trainer stands on this; which
 * replica's values count, and how they reach the others, is the trainer's own.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { TrainerSegment } from './trainer.js';

/** Each variable's place, one after another in their order. */
export function layOut(variables: readonly tf.Variable[]): TrainerSegment[] {
  let offset = 0;
  return variables.map(({ name, shape, size }) => {
    const segment = { name, offset, length: size, shape: [...shape] };
    offset += size;
    return segment;
  });
}

/** Copies the variables' values to their places in `weights`. */
export function fillWeights(
  variables: readonly tf.Variable[],
  segments: readonly TrainerSegment[],
  weights: Float32Array,
): void {
  for (const [i, { offset }] of segments.entries()) {
    weights.set((variables[i] as tf.Variable).dataSync() as Float32Array, offset);
  }
}

/** Makes every variable a view of its place. @returns the views' identities, for {@link checkViews}. */
export function viewWeights(
  variables: readonly tf.Variable[],
  segments: readonly TrainerSegment[],
  weights: Float32Array,
): object[] {
  return segments.map(({ offset, length, shape }, i) => {
    const variable = variables[i] as tf.Variable;
    const view = tf.tensor(weights.subarray(offset, offset + length), [...shape], 'float32');
    variable.assign(view);
    view.dispose();
    return variable.dataId;
  });
}

/** @throws Error naming the first variable that is a view no longer. @param remedy what to do instead of assigning. */
export function checkViews(variables: readonly tf.Variable[], views: readonly object[], remedy: string): void {
  for (const [i, variable] of variables.entries()) {
    if (variable.dataId === views[i]) continue;
    throw new Error(
      `Variable '${variable.name}' was assigned, so it is no longer a view of the trainer's weights.\nhelp: ${remedy}`,
    );
  }
}
