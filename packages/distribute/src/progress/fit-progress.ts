/**
 * Progress of `model.fit` and `model.fitDataset`, which print nothing on Node whatever their `verbose` says: a callback that shows
 * a bar on a terminal and lines elsewhere, with loss, metrics, examples a second and the time left, and a line for each epoch.
 */
import { nextFrame, type Scalar } from '@tensorflow/tfjs-core';
import { Callback } from '@tensorflow/tfjs-layers';
import { createProgress, duration, type Progress, RateMeter } from './progress.js';
import { type ColorMode, type ProgressMode, progressStyle, useColor } from './style.js';
import { type ProgressStream, standardError } from './terminal.js';

export interface FitProgressOptions {
  /**
   * In a replica, its context: the first replica shows progress for all, and the rate counts the examples of all. Losses and
   * metrics are its own, unless `context.metricAverageCallback()` comes before this callback; then an epoch's are the means.
   */
  readonly context?: { readonly replicaIdInSyncGroup: number; readonly numReplicasInSync: number };
  /** Default `auto`: a bar on a terminal, plain lines elsewhere. */
  readonly style?: ProgressMode;
  /** Colours of the bar. Default `auto`: on a terminal, unless the environment variable NO_COLOR is set. */
  readonly color?: ColorMode;
  /** Default: standard error. */
  readonly stream?: ProgressStream;
  /** Plain lines within an epoch come every so many milliseconds. Default 10,000. */
  readonly everyMs?: number;
}

/**
 * For `callbacks` of `model.fit`, alone or in a list with others that are objects of classes.
 *
 * @example await model.fit(x, y, { epochs: 3, verbose: 0, callbacks: fitProgress() });
 */
export function fitProgress(options: FitProgressOptions = {}): Callback {
  return new FitProgress(options);
}

type Logs = Readonly<Record<string, number | Scalar>>;

/** What is in logs besides the loss and the metrics. */
const NO_METRICS = ['batch', 'size'];
/** As often as TensorFlow.js lets the event loop run during a training that has no callbacks. */
const YIELD_MS = 125;

class FitProgress extends Callback {
  readonly #replicas: number;
  readonly #options: FitProgressOptions;
  #progress: Progress;
  #rate = new RateMeter();
  #yieldedAt = 0;
  #epoch = 0;
  /** What fitDataset does not say: the epoch that it begins with. */
  #firstEpoch: number | null = null;
  #epochBegan = 0;
  #steps = 0;
  #stepsOfEpoch: number | null = null;
  /** Of the epoch under way. */
  #examples = 0;

  constructor(options: FitProgressOptions) {
    super();
    this.#options = options;
    this.#replicas = options.context?.numReplicasInSync ?? 1;
    this.#progress = this.#create();
  }

  #create(): Progress {
    const { context, style = 'auto', color = 'auto', stream = standardError(), everyMs = 10_000 } = this.#options;
    return createProgress({
      style: (context?.replicaIdInSyncGroup ?? 0) > 0 ? 'none' : progressStyle(style, stream),
      color: useColor(color, stream),
      stream,
      everyMs,
      // Each epoch has a line of its own.
      ends: false,
    });
  }

  /** Each training begins anew. */
  override async onTrainBegin(): Promise<void> {
    this.#progress = this.#create();
    this.#steps = 0;
    this.#firstEpoch = null;
    this.#yieldedAt = performance.now();
    this.#stepsOfEpoch = this.#stepsInAll();
  }

  override async onEpochBegin(epoch: number): Promise<void> {
    this.#epoch = epoch;
    this.#firstEpoch ??= epoch;
    this.#epochBegan = performance.now();
    this.#examples = 0;
    // What lies between epochs, a validation, is no step's.
    this.#rate = new RateMeter();
  }

  override async onBatchEnd(batch: number, logs: Logs = {}): Promise<void> {
    this.#steps++;
    const size = await numberOf(logs.size ?? 0);
    this.#examples += size;
    if (performance.now() - this.#yieldedAt >= YIELD_MS) {
      await nextFrame();
      this.#yieldedAt = performance.now();
    }
    const epochs = this.#epochs;
    const perEpoch = this.#stepsOfEpoch;
    const steps = perEpoch === null ? Number.POSITIVE_INFINITY : perEpoch * (epochs - (this.#firstEpoch ?? 0));
    const rate = this.#rate.add(this.#steps) * size * this.#replicas;
    if (this.#silent || !this.#progress.isDue(this.#steps, steps)) return;
    const metrics = await textsOf(logs);
    const epoch = (this.#epoch + (perEpoch === null ? 0 : (batch + 1) / perEpoch)).toFixed(1);
    const step = perEpoch === null ? `${this.#steps}` : `${this.#steps}/${steps}`;
    this.#progress.update({
      step: this.#steps,
      steps,
      figures: (left) => [
        { text: `epoch ${epoch}/${epochs}`, wanted: 1, widest: `epoch ${epochs}.0/${epochs}`.length },
        { text: `step ${step}`, wanted: 4 + metrics.length },
        ...metrics.map((text, i) => ({ text, wanted: i === 0 ? 3 : 4 + i })),
        { text: rate > 0 ? `${rate.toFixed(0)} examples/s` : '… examples/s', wanted: 4, widest: 15 },
        { text: perEpoch === null ? '… left' : left, wanted: 2, widest: 11 },
      ],
    });
  }

  override async onEpochEnd(epoch: number, logs: Logs = {}): Promise<void> {
    // A data set without a length tells it by ending.
    this.#stepsOfEpoch ??= this.#steps;
    if (this.#silent) return;
    const seconds = (performance.now() - this.#epochBegan) / 1000;
    const rate = (this.#examples * this.#replicas) / seconds;
    const figures = [...(await textsOf(logs)), `${rate.toFixed(0)} examples/s`, duration(seconds)];
    this.#progress.message(`epoch ${epoch + 1}/${this.#epochs}  ${figures.join('  ')}`);
  }

  override async onTrainEnd(): Promise<void> {
    this.#progress.finish();
  }

  get #silent(): boolean {
    return (this.#options.context?.replicaIdInSyncGroup ?? 0) > 0 || this.#options.style === 'none';
  }

  get #epochs(): number {
    return (this.params as { epochs?: number }).epochs ?? 1;
  }

  /** Steps of an epoch, where it is known before one is over. */
  #stepsInAll(): number | null {
    const { steps, samples, batchSize } = this.params as { steps?: number; samples?: number; batchSize?: number };
    if (steps) return steps;
    return samples && batchSize ? Math.ceil(samples / batchSize) : null;
  }
}

/** 'loss 0.125', 'acc 0.931', …: the loss first. */
async function textsOf(logs: Logs): Promise<string[]> {
  const names = Object.keys(logs).filter((name) => !NO_METRICS.includes(name));
  return Promise.all(names.map(async (name) => `${name} ${short(await numberOf(logs[name] as number | Scalar))}`));
}

async function numberOf(value: number | Scalar): Promise<number> {
  return typeof value === 'number' ? value : ((await value.data())[0] as number);
}

/** Three decimals, or three digits of what is very small or very large. */
function short(value: number): string {
  const size = Math.abs(value);
  return size !== 0 && Number.isFinite(value) && (size < 0.001 || size >= 1e5)
    ? value.toExponential(2)
    : value.toFixed(3);
}
