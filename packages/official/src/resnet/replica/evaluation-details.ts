/**
 * What an evaluation is told about beside its figures, where somebody wants to see it: which classes were taken for which, and sample
 * images, wrong ones first, the surest mistake before the others. Filled from the logits that evaluation has anyway.
 */
import type { SummaryPicture } from '@lockstep/distribute';
import type { EvaluationDetails, SampleImage } from '../../utils/logs/run-observer.js';
import type { LogitsObserver } from './evaluation.js';

const MAX_SAMPLES = 16;
/** Larger images are shown smaller. */
const MAX_SIDE = 96;
/** Of more classes nothing is collected: which were taken for which would be a table of gigabytes, summed over all replicas. */
const MOST_CLASSES = 4096;

export class DetailsCollector {
  /** @returns null for too many classes */
  static of(classes: number, imageShape: readonly number[]): DetailsCollector | null {
    return classes <= MOST_CLASSES ? new DetailsCollector(classes, imageShape) : null;
  }

  /** [label, prediction], how often: adds up over replicas. */
  readonly confusion: Float64Array;
  /** The worst first, as many as are shown. */
  readonly #samples: { readonly rank: number; readonly sample: SampleImage }[] = [];

  private constructor(
    private readonly classes: number,
    private readonly imageShape: readonly number[],
  ) {
    this.confusion = new Float64Array(classes * classes);
  }

  /** Of each batch. */
  readonly add: LogitsObserver = (logits, { images, labels, size }) => {
    const { classes } = this;
    for (let row = 0; row < size; row++) {
      const scores = logits.subarray(row * classes, (row + 1) * classes);
      const label = labels[row] as number;
      const prediction = largest(scores);
      const place = label * classes + prediction;
      this.confusion[place] = (this.confusion[place] as number) + 1;
      const probability = probabilityOf(scores, prediction);
      // Mistakes, surest first; then what is right, least sure first.
      const rank = prediction === label ? -probability : 1 + probability;
      const last = this.#samples.at(-1);
      if (!Number.isFinite(rank) || (this.#samples.length === MAX_SAMPLES && last && rank <= last.rank)) continue;
      const pixels = images.length / size;
      const sample = {
        label,
        prediction,
        probability,
        ...pictureOf(images.subarray(row * pixels, (row + 1) * pixels), this.imageShape),
      };
      const at = this.#samples.findIndex((one) => one.rank < rank);
      this.#samples.splice(at < 0 ? this.#samples.length : at, 0, { rank, sample });
      this.#samples.length = Math.min(this.#samples.length, MAX_SAMPLES);
    }
  };

  /** Plain data: it crosses threads. */
  get details(): EvaluationDetails {
    return { classes: this.classes, confusion: this.confusion, samples: this.#samples.map(({ sample }) => sample) };
  }
}

/** Input to a network has no fixed range: the image's own darkest and brightest become 0 and 255. */
export function pictureOf(image: Float32Array, imageShape: readonly number[]): SummaryPicture {
  const [height, width, channels] = imageShape as [number, number, number];
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of image) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const scale = high > low ? 255 / (high - low) : 0;
  const every = Math.ceil(Math.max(height, width) / MAX_SIDE);
  const shape = [Math.ceil(height / every), Math.ceil(width / every), channels] as const;
  const pixels = new Uint8Array(shape[0] * shape[1] * channels);
  let at = 0;
  for (let y = 0; y < height; y += every) {
    for (let x = 0; x < width; x += every) {
      for (let c = 0; c < channels; c++) {
        pixels[at++] = Math.round(((image[(y * width + x) * channels + c] as number) - low) * scale);
      }
    }
  }
  return { shape, pixels };
}

function largest(scores: Float32Array): number {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if ((scores[i] as number) > (scores[best] as number)) best = i;
  return best;
}

/** Softmax of the largest. */
function probabilityOf(scores: Float32Array, prediction: number): number {
  const highest = scores[prediction] as number;
  return 1 / scores.reduce((sum, score) => sum + Math.exp(score - highest), 0);
}
