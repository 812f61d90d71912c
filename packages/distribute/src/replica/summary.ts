/**
 * SEAM: what a replica function wants to have shown of its training: figures, texts, pictures, distributions. It goes to whoever was given
 * to `strategy.run` as `summary`, on the main thread; the chief's first replica speaks for all. Who turns it into files is no business of
 * this package: @lockstep/official writes TensorBoard's.
 */

/** What is told of one step. Plain data, by tag. */
export interface SummaryEvent {
  readonly step: number;
  readonly scalars?: Readonly<Record<string, number>>;
  /** Markdown. */
  readonly texts?: Readonly<Record<string, string>>;
  /** Values whose distribution is shown. */
  readonly values?: Readonly<Record<string, Float32Array>>;
  /** 8-bit pixels, row by row: grey, or red, green and blue. */
  readonly pictures?: Readonly<Record<string, SummaryPicture>>;
}

export interface SummaryPicture {
  readonly shape: readonly [height: number, width: number, channels: number];
  readonly pixels: Uint8Array;
}

/** Who takes them, on the main thread. */
export interface SummarySink {
  add(event: SummaryEvent): void;
}

/** What a replica function has as `context.summary`. On other replicas than the chief's first, and where nobody takes them, nothing happens. */
export class Summary {
  /** @param send Null: nobody takes them from here. */
  constructor(private readonly send: ((event: SummaryEvent) => void) | null) {}

  /** Whether somebody takes what is told here: whoever has to compute it first may ask. */
  get isWanted(): boolean {
    return this.send !== null;
  }

  /** @throws TypeError for what is no number, RangeError for a step that is not a whole one */
  scalar(tag: string, value: number, step: number): void {
    if (typeof value !== 'number') throw new TypeError(`summary.scalar('${tag}'): ${typeof value} is no number.`);
    this.#add(step, () => ({ scalars: { [tag]: value } }));
  }

  text(tag: string, markdown: string, step: number): void {
    this.#add(step, () => ({ texts: { [tag]: String(markdown) } }));
  }

  /** @param values of a tensor, for instance `await tensor.data()`; copied */
  histogram(tag: string, values: ArrayLike<number>, step: number): void {
    this.#add(step, () => ({ values: { [tag]: Float32Array.from(values) } }));
  }

  /**
   * @param pixels 0..255, row by row; copied
   * @throws RangeError for another number of pixels than the shape says, or other channels than 1 or 3
   */
  image(
    tag: string,
    pixels: ArrayLike<number>,
    shape: readonly [height: number, width: number, channels: number],
    step: number,
  ): void {
    const [height, width, channels] = shape;
    if ((channels !== 1 && channels !== 3) || pixels.length !== height * width * channels || pixels.length === 0) {
      throw new RangeError(
        `summary.image('${tag}'): ${pixels.length} pixels are none of ${height} × ${width} with ${channels} channels.\n` +
          'help: the shape is [height, width, channels], with 1 channel for grey or 3 for colours.',
      );
    }
    this.#add(step, () => ({ pictures: { [tag]: { shape, pixels: Uint8Array.from(pixels) } } }));
  }

  #add(step: number, make: () => Omit<SummaryEvent, 'step'>): void {
    if (!Number.isSafeInteger(step) || step < 0) {
      throw new RangeError(`A summary belongs to a step, a whole number from 0 on; got ${step}.`);
    }
    this.send?.({ step, ...make() });
  }
}
