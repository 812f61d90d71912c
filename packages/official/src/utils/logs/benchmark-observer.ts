/** The benchmark logger as an observer: the run's description, and every evaluation. */
import type { BaseBenchmarkLogger } from './logger.js';
import type { RunObserver } from './run-observer.js';

export function benchmarkObserver(logger: BaseBenchmarkLogger): RunObserver {
  return {
    begin: (run) => logger.logRunInfo(run),
    evaluation: ({ accuracy, accuracyTop5, loss, globalStep }) =>
      logger.logEvaluationResult({ accuracy, accuracy_top_5: accuracyTop5, loss, global_step: globalStep }),
  };
}
