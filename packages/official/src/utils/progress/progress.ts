/**
 * What a person sees of a long run: on a terminal one bar with epoch, step, loss, accuracy, images a second and time left;
 * elsewhere plain lines at sensible intervals. Never both.
 *
 * The bar is one line that is written over itself. It fits the terminal, however narrow, and hides nothing: no cursor, no
 * screen mode, so a program that is killed leaves the terminal as it was.
 */
import pc from 'picocolors';

/** A moment of training. */
export interface TrainingProgress {
  /** Steps done and in all; infinitely many where nothing ends them. */
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

/** Default stream: standard error, so that standard output stays for results. */
export function createProgress(options: ProgressOptions): Progress {
  const stream = options.stream ?? process.stderr;
  if (options.style === 'bar') return new BarProgress(options, stream);
  return new PlainProgress(options, stream);
}

const REDRAW_MS = 100;
const CLEAR_LINE = '\r\x1b[K';
const DEFAULT_COLUMNS = 80;
const SEPARATOR = ' · ';

class BarProgress implements Progress {
  readonly #pace = new Pace();
  readonly #colors: ReturnType<typeof pc.createColors>;
  #state: TrainingProgress | null = null;
  #drawnAt = Number.NEGATIVE_INFINITY;

  constructor(
    options: ProgressOptions,
    private readonly stream: NodeJS.WriteStream,
  ) {
    this.#colors = pc.createColors(options.color);
  }

  update(state: TrainingProgress): void {
    this.#pace.add(state);
    this.#state = state;
    if (performance.now() - this.#drawnAt >= REDRAW_MS || state.step === state.steps) this.#draw();
  }

  message(line: string): void {
    if (this.#state === null) this.stream.write(`${line}\n`);
    else {
      this.stream.write(`${CLEAR_LINE}${line}\n`);
      this.#draw();
    }
  }

  finish(): void {
    if (this.#state === null) return;
    this.#draw();
    this.stream.write('\n');
    this.#state = null;
  }

  #draw(): void {
    const state = this.#state as TrainingProgress;
    this.#drawnAt = performance.now();
    // One column less: a full line would wrap on some terminals, and could not be written over.
    const { bar, text } = barLine(state, this.#pace.left(state), (this.stream.columns || DEFAULT_COLUMNS) - 1);
    this.stream.write(`${CLEAR_LINE}${this.#colors.cyan(bar)}${text}`);
  }
}

/** What fits into so many columns: of the figures the most wanted, in their usual order; then a bar in what is left. */
export function barLine(state: TrainingProgress, left: string, columns: number): { bar: string; text: string } {
  const { epoch, epochs, steps, loss, accuracy, rate } = texts(state);
  const parts = [
    { text: `epoch ${epoch}/${epochs}`, wanted: 1 },
    { text: `step ${steps}`, wanted: 6 },
    { text: `loss ${loss}`, wanted: 4 },
    { text: `accuracy ${accuracy}`, wanted: 2 },
    { text: `${rate} images/s`, wanted: 5 },
    { text: left, wanted: 3 },
  ];
  const width = (count: number) =>
    parts.filter(({ wanted }) => wanted <= count).reduce((sum, { text }) => sum + text.length, 0) +
    SEPARATOR.length * (count - 1);
  let count = parts.length;
  while (count > 1 && width(count) > columns) count--;
  const text = parts
    .filter(({ wanted }) => wanted <= count)
    .map((part) => part.text)
    .join(SEPARATOR)
    .slice(0, columns);
  const cells = Math.min(24, columns - text.length - 1);
  if (cells < 5) return { bar: '', text };
  const full = Math.round(cells * Math.min(1, state.step / Math.max(1, state.steps)));
  return { bar: '█'.repeat(full) + '░'.repeat(cells - full), text: ` ${text}` };
}

class PlainProgress implements Progress {
  #lastStep: number | null = null;
  #lastTime = performance.now();
  readonly #pace = new Pace();

  constructor(
    private readonly options: ProgressOptions,
    private readonly stream: NodeJS.WriteStream,
  ) {}

  update(state: TrainingProgress): void {
    if (this.options.style === 'none') return;
    this.#pace.add(state);
    const now = performance.now();
    const isFirst = this.#lastStep === null;
    const steps = state.step - (this.#lastStep ?? 0);
    const isDue =
      now - this.#lastTime >= (this.options.everyMs ?? 10_000) || steps >= (this.options.everySteps ?? Infinity);
    if (!isFirst && !isDue && state.step !== state.steps) return;
    this.#lastStep = state.step;
    this.#lastTime = now;
    const { epoch, epochs, steps: of, loss, accuracy, rate } = texts(state);
    this.stream.write(
      `epoch ${epoch}/${epochs}  step ${of}  loss ${loss}  accuracy ${accuracy}  ${rate} images/s  ${this.#pace.left(state)}\n`,
    );
  }

  message(line: string): void {
    this.stream.write(`${line}\n`);
  }

  finish(): void {}
}

function texts({ epoch, epochs, step, steps, loss, accuracy, imagesPerSecond }: TrainingProgress) {
  return {
    steps: Number.isFinite(steps) ? `${step}/${steps}` : `${step}`,
    epoch: epoch.toFixed(1),
    epochs: String(epochs),
    loss: loss.toFixed(3),
    accuracy: `${(100 * accuracy).toFixed(1)} %`,
    rate: imagesPerSecond.toFixed(0),
  };
}

/** Time left by the average pace since the first step that was seen: that one is not counted, it also sets things up. */
class Pace {
  #first: { step: number; time: number } | null = null;

  add({ step }: TrainingProgress): void {
    this.#first ??= { step, time: performance.now() };
  }

  left({ step, steps }: TrainingProgress): string {
    const first = this.#first;
    if (!Number.isFinite(steps)) return 'no end';
    if (step >= steps) return `${duration(0)} left`;
    if (first === null || step <= first.step) return '… left';
    return `${duration(((steps - step) * (performance.now() - first.time)) / (step - first.step) / 1000)} left`;
  }
}

/** 95 → '1m 35s'. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  if (hours > 0) return `${hours}h ${minutes}m`;
  return minutes > 0 ? `${minutes}m ${whole % 60}s` : `${whole}s`;
}
