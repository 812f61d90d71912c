/**
 * What a person sees of a long run: on a terminal one bar with figures and the time left; elsewhere plain lines at sensible
 * intervals. Never both.
 *
 * The bar is one line that is written over itself. It fits the terminal, however narrow, and hides nothing: no cursor, no
 * screen mode, so a program that is killed leaves the terminal as it was.
 */
import { barLine, type Figure, wrapText } from './layout.js';
import { type ProgressStream, standardError } from './terminal.js';

/** A moment of a run. */
export interface Moment {
  /** Steps done and in all; infinitely many where nothing ends them, or nobody knows. */
  readonly step: number;
  readonly steps: number;
  /** What is shown, in order; called when it is shown only. @param left '1m 35s left' */
  figures(left: string): readonly Figure[];
}

export interface ProgressOptions {
  readonly style: 'bar' | 'plain' | 'none';
  readonly color: boolean;
  /** Default: standard error, so that standard output stays for results. */
  readonly stream?: ProgressStream;
  /** Plain lines: every so many steps … */
  readonly everySteps?: number;
  /** … or every so many milliseconds, whichever comes first. Default 10,000. */
  readonly everyMs?: number;
  /** Plain lines for the first and the last step, too. Default true. */
  readonly ends?: boolean;
}

export interface Progress {
  /** Whether `update` would show it now: for those to whom the figures cost something. */
  isDue(step: number, steps: number): boolean;
  update(moment: Moment): void;
  /** A line of its own, above the bar if there is one; on a terminal it breaks between words. */
  message(line: string): void;
  /** Ends the bar; the last state stays on the screen. */
  finish(): void;
}

export function createProgress(options: ProgressOptions): Progress {
  const stream = options.stream ?? standardError();
  return options.style === 'bar' ? new BarProgress(options, stream) : new PlainProgress(options, stream);
}

/** A text as a stream takes it: on a terminal without a break in a word. @param mark as in {@link wrapText} */
export function fitText(text: string, stream: ProgressStream, mark?: string): string {
  return stream.isTTY && stream.columns ? wrapText(text, stream.columns, mark) : text;
}

const REDRAW_MS = 100;
const CLEAR_LINE = '\r\x1b[K';
const DEFAULT_COLUMNS = 80;
const CYAN = ['\x1b[36m', '\x1b[39m'] as const;

class BarProgress implements Progress {
  readonly #pace = new Pace();
  #moment: Moment | null = null;
  #drawnAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly options: ProgressOptions,
    private readonly stream: ProgressStream,
  ) {}

  isDue(step: number, steps: number): boolean {
    return performance.now() - this.#drawnAt >= REDRAW_MS || step === steps;
  }

  update(moment: Moment): void {
    this.#pace.add(moment);
    this.#moment = moment;
    if (this.isDue(moment.step, moment.steps)) this.#draw();
  }

  message(line: string): void {
    const text = fitText(line, this.stream);
    if (this.#moment === null) this.stream.write(`${text}\n`);
    else {
      this.stream.write(`${CLEAR_LINE}${text}\n`);
      this.#draw();
    }
  }

  finish(): void {
    if (this.#moment === null) return;
    this.#draw();
    this.stream.write('\n');
    this.#moment = null;
  }

  #draw(): void {
    const moment = this.#moment as Moment;
    this.#drawnAt = performance.now();
    const { step, steps } = moment;
    const done = Number.isFinite(steps) ? step / Math.max(1, steps) : 0;
    // One column less: a full line would wrap on some terminals, and could not be written over.
    const columns = (this.stream.columns || DEFAULT_COLUMNS) - 1;
    const { bar, text } = barLine(moment.figures(this.#pace.left(moment)), done, columns);
    const [on, off] = this.options.color && bar !== '' ? CYAN : ['', ''];
    this.stream.write(`${CLEAR_LINE}${on}${bar}${off}${text}`);
  }
}

class PlainProgress implements Progress {
  #lastStep: number | null = null;
  #lastTime = performance.now();
  readonly #pace = new Pace();

  constructor(
    private readonly options: ProgressOptions,
    private readonly stream: ProgressStream,
  ) {}

  isDue(step: number, steps: number): boolean {
    const { style, everyMs = 10_000, everySteps = Number.POSITIVE_INFINITY, ends = true } = this.options;
    if (style === 'none') return false;
    if (ends && (this.#lastStep === null || step === steps)) return true;
    return performance.now() - this.#lastTime >= everyMs || step - (this.#lastStep ?? 0) >= everySteps;
  }

  update(moment: Moment): void {
    if (this.options.style === 'none') return;
    this.#pace.add(moment);
    if (!this.isDue(moment.step, moment.steps)) return;
    this.#lastStep = moment.step;
    this.#lastTime = performance.now();
    const figures = moment.figures(this.#pace.left(moment)).map(({ text }) => text);
    this.message(figures.join('  '));
  }

  message(line: string): void {
    this.stream.write(`${fitText(line, this.stream)}\n`);
  }

  finish(): void {}
}

/** Time left by the average pace since the first step that was seen: that one is not counted, it also sets things up. */
class Pace {
  #first: { step: number; time: number } | null = null;

  add({ step }: Moment): void {
    this.#first ??= { step, time: performance.now() };
  }

  left({ step, steps }: Moment): string {
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

/** Steps a second over the last few reports. */
export class RateMeter {
  readonly #samples: { step: number; time: number }[] = [];

  /** @returns 0 until there are two. */
  add(step: number): number {
    this.#samples.push({ step, time: performance.now() });
    if (this.#samples.length > 20) this.#samples.shift();
    const first = this.#samples[0] as { step: number; time: number };
    const last = this.#samples.at(-1) as { step: number; time: number };
    return last.time > first.time ? (1000 * (last.step - first.step)) / (last.time - first.time) : 0;
  }
}
