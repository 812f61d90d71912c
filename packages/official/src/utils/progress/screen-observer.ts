/** The screen as an observer: progress from steps, and a line for each evaluation and checkpoint. */
import { RateMeter } from '@lockstep/distribute/progress';
import type { EvaluationResult, RunObserver, StepReport } from '../logs/run-observer.js';
import { momentOf } from './progress.js';
import type { Screen } from './screen.js';

export class ScreenObserver implements RunObserver {
  #rate = new RateMeter();

  constructor(
    private readonly screen: Screen,
    /** Epochs in all, and images of a step of all workers together. */
    private readonly run: { readonly epochs: number; readonly batchSize: number },
  ) {}

  line(text: string, isDetail: boolean): void {
    this.screen[isDetail ? 'detail' : 'log'].info(text);
  }

  step({ globalStep, totalSteps, epoch, loss, accuracy, stepMs }: StepReport): void {
    const { epochs, batchSize } = this.run;
    const imagesPerSecond = this.#rate.add(globalStep) * batchSize;
    this.screen.progress.update(
      momentOf({
        step: globalStep,
        steps: totalSteps,
        epoch,
        epochs,
        loss,
        accuracy,
        imagesPerSecond: imagesPerSecond || (1000 * batchSize) / stepMs,
      }),
    );
  }

  evaluation({ accuracy, accuracyTop5, loss, globalStep }: EvaluationResult): void {
    // The time that it took is no step's.
    this.#rate = new RateMeter();
    this.screen.log.info(
      `Evaluation at step ${globalStep}: accuracy ${(100 * accuracy).toFixed(2)} %, top 5 ${(100 * accuracyTop5).toFixed(2)} %, loss ${loss.toFixed(4)}`,
    );
  }

  checkpoint(path: string): void {
    this.screen.log.info(`Saved checkpoint ${path}`);
  }
}
