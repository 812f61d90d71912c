/**
 * Weights that a run uses and does not train (--fine_tune): one flat array, as the trainer's, so that both are saved, restored
 * and sent to other replicas alike. Each replica has a copy of its own.
 */
import type { TrainerSegment } from '@lockstep/distribute';
import * as tf from '@tensorflow/tfjs-core';

export class FrozenWeights {
  readonly segments: readonly TrainerSegment[];
  /** All of them, in order; the variables are views of it. */
  readonly values: Float32Array;

  constructor(variables: readonly tf.Variable[]) {
    let offset = 0;
    this.segments = variables.map(({ name, shape, size }) => {
      const segment = { name, offset, length: size, shape: [...shape] };
      offset += size;
      return segment;
    });
    this.values = new Float32Array(offset);
    for (const [i, segment] of this.segments.entries()) {
      const variable = variables[i] as tf.Variable;
      const view = this.values.subarray(segment.offset, segment.offset + segment.length);
      view.set(variable.dataSync() as Float32Array);
      const tensor = tf.tensor(view, [...segment.shape], 'float32');
      variable.assign(tensor);
      tensor.dispose();
    }
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
