/**
 * What event files get beside a step's figures, from the chief's replica: the network as a table, the first pictures of each train call as
 * the network sees them (upstream: six), and how weights and gradients are distributed, where somebody wants to know.
 */
import type { SummaryPicture, Trainer } from '@lockstep/distribute';
import type { Batch } from '../../data/data-set.js';
import { type Histogram, histogramOf } from '../../utils/logs/histogram.js';
import { pictureOf } from './evaluation-details.js';

/** Of upstream's tf.summary.image. */
const PICTURES = 6;

/** As many of a batch as are shown. */
export function inputPictures({ images, size }: Batch, imageShape: readonly number[]): SummaryPicture[] {
  const pixels = images.length / size;
  return Array.from({ length: Math.min(PICTURES, size) }, (_, i) =>
    pictureOf(images.subarray(i * pixels, (i + 1) * pixels), imageShape),
  );
}

/** A row for each variable, in Markdown: the network as text. */
export function networkTable(
  variables: readonly { readonly name: string; readonly shape: readonly number[] }[],
): string {
  const sizes = variables.map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  const rows = variables.map(({ name, shape }, i) => `| ${name} | ${shape.join(' × ')} | ${sizes[i]} |`);
  const total = sizes.reduce((a, b) => a + b, 0);
  return ['| variable | shape | weights |', '|---|---|---|', ...rows, `| all | | ${total} |`].join('\n');
}

/** Of one step, every so many. */
export class HistogramCollector {
  #gradients: Record<string, Histogram> | null = null;

  /** @param everySteps 0: never */
  constructor(
    private readonly trainer: Trainer,
    private readonly everySteps: number,
  ) {}

  /** @param step the global step that it will be @param lossScale asked in a step that is one of those */
  before(step: number, lossScale: () => number): void {
    if (this.everySteps === 0 || step % this.everySteps !== 0) return;
    const gradients: Record<string, Histogram> = {};
    this.#gradients = gradients;
    const scale = 1 / lossScale();
    this.trainer.watchGradients(({ name }, values) => {
      gradients[name] = histogramOf(values, scale);
    });
  }

  /** @returns by tag; null in a step that is none of those */
  after(): Readonly<Record<string, Histogram>> | null {
    const gradients = this.#gradients;
    if (gradients === null) return null;
    this.#gradients = null;
    this.trainer.watchGradients(null);
    const { weights, segments } = this.trainer;
    return Object.fromEntries(
      segments.flatMap(({ name, offset, length }) => {
        const own: [string, Histogram][] = [
          [`weights/${name}`, histogramOf(weights.subarray(offset, offset + length))],
        ];
        const gradient = gradients[name];
        return gradient ? [...own, [`gradients/${name}`, gradient] as const] : own;
      }),
    );
  }
}
