/**
 * Weights that a run uses and does not train (--fine_tune): one flat array, as the trainer's, so that both are saved, restored
 * and sent to other replicas alike. Each replica has a copy of its own.
 */
import { FlatVariables, layOut, type TrainerSegment } from '@lockstep/distribute';
import type * as tf from '@tensorflow/tfjs-core';

export class FrozenWeights {
  readonly segments: readonly TrainerSegment[];
  /** All of them, in order. Whoever writes to it calls {@link update} then. */
  readonly values: Float32Array;
  readonly #variables: FlatVariables;

  constructor(variables: readonly tf.Variable[]) {
    this.segments = layOut(variables);
    this.values = new Float32Array(this.segments.reduce((total, { length }) => total + length, 0));
    this.#variables = new FlatVariables(variables, this.segments, this.values);
    this.#variables.fill();
    this.#variables.bind();
  }

  /** The variables get the values of the array. */
  update(): void {
    this.#variables.update();
  }

  /** rate · Σw²/2 over those that decay: the loss has it, although no gradient follows. */
  weightDecayLoss(rate: number, decays: (name: string) => boolean): number {
    let sum = 0;
    for (const { name, offset, length } of this.segments) {
      if (decays(name)) for (let i = offset; i < offset + length; i++) sum += (this.values[i] as number) ** 2;
    }
    return (rate * sum) / 2;
  }
}
