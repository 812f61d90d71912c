/**
 * Variables over one flat array, which holds what counts: where each lies, and how new values reach them. Where the backend's tensors
 * are the arrays that they are made of, every variable becomes a view of its place; elsewhere it is given a copy whenever the array
 * has changed. Whose values count, and how they reach other replicas, is the business of whoever owns the array.
 */
import * as tf from '@tensorflow/tfjs-core';
import { hostAccess, readNow } from '../devices/host-access.js';
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

/** A variable becomes a view of these values, where the backend's tensors are the arrays that they are made of; a copy of them elsewhere. */
export function makeView(variable: tf.Variable, values: Float32Array): void {
  const view = tf.tensor(values, variable.shape, 'float32');
  variable.assign(view);
  view.dispose();
}

/** See the file's head. Once they are bound, nobody else is to assign the variables. */
export class FlatVariables {
  readonly #access = hostAccess();
  /** The identities of the variables' data, as they were left here. */
  readonly #data: object[] = [];

  /** @param values Holds, or will hold, what counts. */
  constructor(
    private readonly variables: readonly tf.Variable[],
    private readonly segments: readonly TrainerSegment[],
    private readonly values: Float32Array,
  ) {}

  /** Copies the variables' values to their places. */
  fill(): void {
    for (const [i, { offset }] of this.segments.entries()) {
      this.values.set(readNow(this.variables[i] as tf.Variable) as Float32Array, offset);
    }
  }

  /** The variables get the values of their places, for good. */
  bind(): void {
    if (!this.#access.aliases) {
      this.update();
      return;
    }
    for (const [i, variable] of this.variables.entries()) {
      makeView(variable, this.#place(i));
      this.#data[i] = variable.dataId;
    }
  }

  /** The array has changed. Nothing to do where variables are views of it. */
  update(): void {
    if (this.#access.aliases) return;
    for (const [i, variable] of this.variables.entries()) {
      this.#access.write(variable, this.#place(i));
      this.#data[i] = variable.dataId;
    }
  }

  /** @throws Error naming the first variable that somebody else has assigned. @param remedy what to do instead of assigning. */
  check(remedy: string): void {
    for (const [i, variable] of this.variables.entries()) {
      if (variable.dataId === this.#data[i]) continue;
      throw new Error(
        `Variable '${variable.name}' was assigned, so the trainer's weights no longer reach it.\nhelp: ${remedy}`,
      );
    }
  }

  #place(i: number): Float32Array {
    const { offset, length } = this.segments[i] as TrainerSegment;
    return this.values.subarray(offset, offset + length);
  }
}
