/**
 * What a data set is to everybody who does not know it: a split that was opened on the main thread, the reader that makes
 * pixels of its examples wherever examples are read, and the source that batches are taken from. A new data set writes two
 * files, one that opens it and one with its reader; nothing else has to know it.
 */

/** A split of a data set. Plain data that crosses threads; what is large in it is shared memory. */
export interface DataSet {
  /** For logs: 'CIFAR-10'. */
  readonly name: string;
  /** Examples. */
  readonly count: number;
  readonly numClasses: number;
  /** By label, where they have names. */
  readonly classNames?: readonly string[];
  readonly imageShape: readonly [height: number, width: number, channels: number];
  /** URL of the module whose default export is an {@link ExampleReaderFactory}; it is loaded where examples are read. */
  readonly reader: string;
  /** What the reader reads from. */
  readonly source: unknown;
}

/** Identifies an example of a run. */
export interface ExampleReference {
  readonly example: number;
  readonly epoch: number;
}

/** How examples are to be read. */
export interface ReaderOptions {
  readonly seed: number;
  /** Whether images are distorted at random, as the data set's recipe says. */
  readonly isTraining: boolean;
  /** Whether distortion may mirror images. */
  readonly randomFlip: boolean;
}

/** @param source the data set's @returns a promise where the reader has to load something first */
export type ExampleReaderFactory = (source: unknown, options: ReaderOptions) => ExampleReader | Promise<ExampleReader>;

export interface ExampleReader {
  /**
   * Writes an example's pixels, height × width × channels, at target[offset…]. They depend on the seed, the epoch and the
   * example alone, so that work can be split in any way.
   * @returns its label; a promise where reading has to wait, which the pipeline's threads may
   */
  read(example: ExampleReference, target: Float32Array, offset: number): number | Promise<number>;
}

/** A prepared batch. Valid until {@link InputSource.release}. */
export interface Batch {
  /** [size, height, width, channels] */
  readonly images: Float32Array;
  /** [size] */
  readonly labels: Int32Array;
  readonly size: number;
}

/** Where batches come from. */
export interface InputSource {
  /** Batches in all; infinitely many where nothing ends them. */
  readonly steps: number;
  /** Milliseconds that `next` has waited in all. */
  readonly waitMs: number;
  /** The next batch, or null after the last. */
  next(): Batch | null;
  /** Gives the last batch's memory back; its views are overwritten from now on. */
  release(): void;
  close(): Promise<void>;
}
