/**
 * Made-up input (upstream's get_synth_input_fn): one batch of truncated normal images, mean 127 and deviation 60, and uniform
 * labels, given again and again. It measures everything but the input pipeline.
 */
import { Philox } from '../utils/random/philox.js';
import type { Batch, DataSet, InputSource } from './data-set.js';

const MEAN = 127;
const DEVIATION = 60;
const STREAM = 3;

export interface SyntheticInputOptions {
  readonly plan: Pick<DataSet, 'imageShape' | 'numClasses'>;
  /** Images of each batch. */
  readonly batchSize: number;
  readonly seed: number;
  /** Tells replicas apart. */
  readonly stream: number;
}

/** The same batch, for ever. */
export class SyntheticInput implements InputSource {
  readonly steps = Number.POSITIVE_INFINITY;
  readonly waitMs = 0;
  readonly #batch: Batch;

  constructor({ plan, batchSize, seed, stream }: SyntheticInputOptions) {
    const random = new Philox(seed, [STREAM, stream]);
    const pixels = batchSize * plan.imageShape.reduce((a, b) => a * b, 1);
    this.#batch = {
      images: Float32Array.from({ length: pixels }, () => MEAN + DEVIATION * random.truncatedNormal()),
      // Upstream's upper bound is exclusive of the last class.
      labels: Int32Array.from({ length: batchSize }, () => random.integer(plan.numClasses - 1)),
      size: batchSize,
    };
  }

  next(): Batch {
    return this.#batch;
  }

  release(): void {}

  async close(): Promise<void> {}
}
