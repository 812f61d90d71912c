/**
 * What a person sees of a long run: on a terminal one bar with epoch, step, loss, accuracy, images a second and time left;
 * elsewhere plain lines at sensible intervals. Never both.
 */
import { MultiBar, type SingleBar } from 'cli-progress';
import pc from 'picocolors';

/** A moment of training. */
export interface TrainingProgress {
  /** Steps done and in all. */
  readonly step: number;
  readonly steps: number;
  /** Epochs done (may be fractional) and in all. */
  readonly epoch: number;
  readonly epochs: number;
  readonly loss: number;
  /** Of the batch, 0..1. */
  readonly accuracy: number;
  readonly imagesPerSecond: number;
}

export interface ProgressOptions {
  readonly style: 'bar' | 'plain' | 'none';
  readonly color: boolean;
  readonly stream?: NodeJS.WriteStream;
  /** Plain lines: every so many steps … */
  readonly everySteps?: number;
  /** … or every so many milliseconds, whichever comes first. Default 10,000. */
  readonly everyMs?: number;
}

export interface Progress {
  update(state: TrainingProgress): void;
  /** A line of its own, above the bar if there is one. */
  message(line: string): void;
  /** Ends the bar; the last state stays on the screen. */
  finish(): void;
}

const FORMAT =
  '{bar} epoch {epoch}/{epochs} · step {value}/{total} · loss {loss} · accuracy {accuracy} · {rate} images/s · {left} left';

/** Default stream: standard error, so that standard output stays for results. */
export function createProgress(options: ProgressOptions): Progress {
  const stream = options.stream ?? process.stderr;
  if (options.style === 'bar') return new BarProgress(options, stream);
  return new PlainProgress(options, stream);
}

class BarProgress implements Progress {
  readonly #bars: MultiBar;
  #bar: SingleBar | null = null;
  readonly #started = performance.now();
  #first: number | null = null;

  constructor(options: ProgressOptions, stream: NodeJS.WriteStream) {
    const colors = pc.createColors(options.color);
    this.#bars = new MultiBar({
      format: FORMAT.replace('{bar}', colors.cyan('{bar}')),
      barsize: 20,
      stream,
      hideCursor: true,
      clearOnComplete: false,
      stopOnComplete: false,
      forceRedraw: true,
      barCompleteChar: '█',
      barIncompleteChar: '░',
    });
  }

  update(state: TrainingProgress): void {
    this.#first ??= state.step - 1;
    const payload = { ...texts(state), left: timeLeft(state, this.#first, this.#started) };
    if (this.#bar) {
      this.#bar.setTotal(state.steps);
      this.#bar.update(state.step, payload);
    } else this.#bar = this.#bars.create(state.steps, state.step, payload);
  }

  message(line: string): void {
    if (!this.#bar) {
      // Before the first step there is no bar to keep out of the way of.
      process.stderr.write(`${line}\n`);
      return;
    }
    this.#bars.log(`${line}\n`);
    this.#bars.update();
  }

  finish(): void {
    this.#bars.update();
    this.#bars.stop();
  }
}

class PlainProgress implements Progress {
  #lastStep: number | null = null;
  #lastTime = performance.now();
  readonly #started = performance.now();
  #first: number | null = null;

  constructor(
    private readonly options: ProgressOptions,
    private readonly stream: NodeJS.WriteStream,
  ) {}

  update(state: TrainingProgress): void {
    if (this.options.style === 'none') return;
    const now = performance.now();
    this.#first ??= state.step - 1;
    const isFirst = this.#lastStep === null;
    const steps = state.step - (this.#lastStep ?? 0);
    const isDue =
      now - this.#lastTime >= (this.options.everyMs ?? 10_000) || steps >= (this.options.everySteps ?? Infinity);
    if (!isFirst && !isDue && state.step !== state.steps) return;
    this.#lastStep = state.step;
    this.#lastTime = now;
    const { epoch, epochs, loss, accuracy, rate } = texts(state);
    const left = timeLeft(state, this.#first, this.#started);
    this.stream.write(
      `epoch ${epoch}/${epochs}  step ${state.step}/${state.steps}  loss ${loss}  accuracy ${accuracy}  ${rate} images/s  ${left} left\n`,
    );
  }

  message(line: string): void {
    this.stream.write(`${line}\n`);
  }

  finish(): void {}
}

function texts({ epoch, epochs, loss, accuracy, imagesPerSecond }: TrainingProgress) {
  return {
    epoch: epoch.toFixed(1),
    epochs: String(epochs),
    loss: loss.toFixed(3),
    accuracy: `${(100 * accuracy).toFixed(1)} %`,
    rate: imagesPerSecond.toFixed(0),
  };
}

/** By the average pace since this run's first step. */
function timeLeft({ step, steps }: TrainingProgress, first: number, started: number): string {
  const perStep = (performance.now() - started) / Math.max(1, step - first);
  return duration(((steps - step) * perStep) / 1000);
}

/** 95 → '1m 35s'. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  if (hours > 0) return `${hours}h ${minutes}m`;
  return minutes > 0 ? `${minutes}m ${whole % 60}s` : `${whole}s`;
}
