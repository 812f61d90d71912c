/**
 * Summaries of a run for TensorBoard, as an observer: upstream's scalars by upstream's names (learning_rate, cross_entropy, l2_loss,
 * train_accuracy; the Estimator's loss and global_step/sec), images per second, where a step's time goes, evaluations, and the run's
 * parameters as a table.
 */
import type { RunInfoOptions } from '../utils/logs/run-info.js';
import type {
  EvaluationDetails,
  EvaluationResult,
  RunObserver,
  StepReport,
  SummaryReport,
} from '../utils/logs/run-observer.js';
import { evaluationSummary } from './evaluation-summary.js';
import type { EventFileWriter } from './event-file.js';
import { encodePng } from './png.js';

export interface SummaryOptions {
  /** Steps from one summary to the next: the Estimator's save_summary_steps. */
  readonly everySteps: number;
  /** Images of a step, of all replicas and workers. */
  readonly batchSize: number;
  /** Of all workers. Default 1. */
  readonly replicas?: number;
  /** Into the table of parameters, beside the run's own. */
  readonly parameters?: Readonly<Record<string, unknown>>;
}

/** Reports come a few times a second by themselves, often enough for a summary every so many steps. */
const SELDOM = 100;

export class SummaryObserver implements RunObserver {
  readonly wantsEveryStep: boolean;
  #run: RunInfoOptions | null = null;
  #isDescribed = false;
  #hasFigures = false;
  #last: { readonly step: number; readonly at: number } | null = null;

  constructor(
    private readonly writer: EventFileWriter,
    private readonly options: SummaryOptions,
  ) {
    this.wantsEveryStep = options.everySteps < SELDOM;
  }

  begin(run: RunInfoOptions): void {
    // Written with the first figures: a run that comes to nothing leaves no file.
    this.#run = run;
  }

  callBegins(globalStep: number): void {
    this.#last = { step: globalStep, at: performance.now() };
  }

  step(step: StepReport): void {
    const { everySteps, batchSize } = this.options;
    const { globalStep, loss, crossEntropy, learningRate, callAccuracy, callAccuracyTop5, lossScale, phases } = step;
    const last = this.#last ?? { step: globalStep - 1, at: performance.now() - step.stepMs };
    const steps = globalStep - last.step;
    // As the Estimator's saver: at the first step, then when so many have passed.
    if (steps < everySteps && this.#hasFigures) return;
    this.#hasFigures = true;
    const now = performance.now();
    const perSecond = (1000 * steps) / (now - last.at);
    this.#last = { step: globalStep, at: now };
    this.#describe();
    const times = Object.entries(phases).map(([name, ms]) => [`step_ms/${name}`, ms]);
    this.writer.add({
      step: globalStep,
      scalars: {
        ...{ loss, cross_entropy: crossEntropy, l2_loss: loss - crossEntropy },
        ...{ learning_rate: learningRate, train_accuracy: callAccuracy, train_accuracy_top_5: callAccuracyTop5 },
        ...(lossScale !== 1 && { loss_scale: lossScale }),
        ...this.#reduction(step),
        ...{
          'global_step/sec': perSecond,
          images_per_second: perSecond * batchSize,
          images_per_second_per_replica: (perSecond * batchSize) / this.#replicas,
          step_ms: step.stepMs,
        },
        ...Object.fromEntries(times),
      },
    });
  }

  summary({ globalStep, texts = {}, histograms = {}, pictures = {} }: SummaryReport): void {
    this.#describe();
    const images = Object.entries(pictures).map(([tag, { pixels, shape }]) => [tag, encodePng(pixels, shape)] as const);
    this.writer.add({ step: globalStep, texts, histograms, images: Object.fromEntries(images) });
  }

  /**
   * What the step waited for replicas and packs, and the bus bandwidth that this makes, as NCCL's tests define it: 2(n−1)/n of the
   * gradients' bytes. What backward has hidden is no part of the time.
   */
  #reduction({ gradientBytes, phases }: StepReport): Record<string, number> {
    const n = this.#replicas;
    if (n === 1) return {};
    const bytes = (2 * (n - 1) * gradientBytes) / n;
    return { 'all_reduce/ms': phases.reduce, 'all_reduce/bus_gb_per_s': bytes / 1e6 / phases.reduce };
  }

  get #replicas(): number {
    return this.options.replicas ?? 1;
  }

  evaluation({ accuracy, accuracyTop5, loss, globalStep }: EvaluationResult, details?: EvaluationDetails): void {
    this.#describe();
    const scalars = {
      'evaluation/accuracy': accuracy,
      'evaluation/accuracy_top_5': accuracyTop5,
      'evaluation/loss': loss,
    };
    this.writer.add({ step: globalStep, scalars });
    if (details) this.writer.add({ step: globalStep, ...evaluationSummary(details) });
    this.writer.flush();
  }

  checkpoint(): void {
    // Whoever looks at the newest checkpoint finds its figures.
    this.writer.flush();
  }

  end(): void {
    this.writer.close();
  }

  #describe(): void {
    if (this.#isDescribed) return;
    this.#isDescribed = true;
    if (this.#run === null) return;
    const { modelName, datasetName, parameters } = this.#run;
    const more = this.options.parameters;
    const rows = Object.entries({ model: modelName, dataset: datasetName, ...parameters, ...more });
    const cell = (value: unknown) => String(value).replaceAll('|', '\\|');
    const table = ['| | |', '|---|---|', ...rows.map(([name, value]) => `| ${cell(name)} | ${cell(value)} |`)].join(
      '\n',
    );
    this.writer.add({ texts: { parameters: table } });
  }
}
