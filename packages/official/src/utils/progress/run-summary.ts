/**
 * What a run came to, in a few lines at its end: how well, how fast, where a step's time went, and where to look further. An observer: the
 * figures are those that the screen and the event files had.
 */
import { shellQuote } from '@lockstep/distribute';
import type { EvaluationResult, RunObserver, StepReport } from '../logs/run-observer.js';

export interface RunSummaryOptions {
  /** Images of a step, of all workers together. */
  readonly batchSize: number;
  /** Of all workers together. */
  readonly replicas: number;
  readonly modelDir: string;
  /** Whether there are event files to show. */
  readonly hasEvents: boolean;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
}

/** A phase that takes less of the step is not worth a word. */
const SMALLEST_SHARE = 0.005;

export class RunSummary implements RunObserver {
  #best: EvaluationResult | null = null;
  /** Of the train call that is on. */
  #call = { step: 0, at: 0 };
  #steps = 0;
  #trainMs = 0;
  readonly #phases = new Map<string, number>();
  #stepMs = 0;
  #reports = 0;
  readonly #now: () => number;

  constructor(private readonly options: RunSummaryOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  callBegins(globalStep: number): void {
    this.#call = { step: globalStep, at: this.#now() };
  }

  callEnds(globalStep: number): void {
    this.#steps += globalStep - this.#call.step;
    this.#trainMs += this.#now() - this.#call.at;
  }

  step({ stepMs, phases }: StepReport): void {
    // The first step makes what all others use.
    if (this.#reports++ === 0) return;
    this.#stepMs += stepMs;
    for (const [name, ms] of Object.entries(phases)) this.#phases.set(name, (this.#phases.get(name) ?? 0) + ms);
  }

  evaluation(result: EvaluationResult): void {
    if (this.#best === null || result.accuracy > this.#best.accuracy) this.#best = result;
  }

  /** Empty where nothing was trained. */
  get lines(): readonly string[] {
    const { batchSize, replicas, modelDir, hasEvents } = this.options;
    if (this.#steps === 0) return [];
    const lines: string[] = [];
    if (this.#best) {
      const { accuracy, accuracyTop5, globalStep } = this.#best;
      lines.push(`Best accuracy: ${percent(accuracy)} at step ${globalStep}, top 5 ${percent(accuracyTop5)}`);
    }
    const perSecond = (1000 * this.#steps * batchSize) / this.#trainMs;
    const each = replicas > 1 ? `, ${(perSecond / replicas).toFixed(0)} on each of ${replicas} replicas` : '';
    const seconds = (this.#trainMs / 1000).toFixed(this.#trainMs < 10_000 ? 1 : 0);
    lines.push(
      `Throughput: ${perSecond.toFixed(0)} images/s${each}; ${this.#steps} step${this.#steps === 1 ? '' : 's'} in ${seconds} s of training`,
    );
    if (this.#stepMs > 0) {
      if (replicas > 1) lines.push(`Efficiency: ${this.#efficiency()}`);
      lines.push(`Time of a step: ${this.#shares()}`);
    }
    lines.push(`Files: ${modelDir}${hasEvents ? `; to look at them: lockstep board ${shellQuote([modelDir])}` : ''}`);
    return lines;
  }

  /** One run has no other to be compared with: what it knows is how long its steps waited. */
  #efficiency(): string {
    const waiting = (this.#phases.get('reduce') ?? 0) / this.#stepMs;
    const [used, lost] = [1 - waiting, waiting].map((share) => `${(100 * share).toFixed(1)} %`);
    return `${used}; ${lost} of a step the chief’s replica waits for others and for packs`;
  }

  #shares(): string {
    const known = [...this.#phases];
    const rest = this.#stepMs - known.reduce((sum, [, ms]) => sum + ms, 0);
    const shares = [...known, ['other', rest] as const]
      .map(([name, ms]) => [name, ms / this.#stepMs] as const)
      .filter(([, share]) => share >= SMALLEST_SHARE)
      .sort((a, b) => b[1] - a[1]);
    const mean = this.#stepMs / (this.#reports - 1);
    return `${mean.toFixed(mean < 10 ? 2 : 1)} ms; ${shares.map(([name, share]) => `${name} ${(100 * share).toFixed(0)} %`).join(', ')}`;
  }
}

const percent = (value: number): string => `${(100 * value).toFixed(2)} %`;
