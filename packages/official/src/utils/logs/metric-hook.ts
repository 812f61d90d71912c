/*
 * LoggingMetricHook: values of the step as metrics of the benchmark log; upstream's
 * `official/utils/logs/metric_hook.py`.
 */
import { LoggingTensorHook, type LoggingTensorOptions } from './hooks.js';
import type { BaseBenchmarkLogger } from './logger.js';

/** Options of LoggingMetricHook. */
export interface LoggingMetricOptions extends Omit<LoggingTensorOptions, 'log'> {
  metricLogger: BaseBenchmarkLogger;
}

/** Logs each value as one metric, with the global step. */
export class LoggingMetricHook extends LoggingTensorHook {
  override readonly name = 'LoggingMetricHook';
  readonly #metricLogger: BaseBenchmarkLogger;

  /** @throws TypeError without a logger; RangeError for a wrong interval. */
  constructor(options: LoggingMetricOptions) {
    super(options);
    if (!options.metricLogger) throw new TypeError('metric_logger should be provided.');
    this.#metricLogger = options.metricLogger;
  }

  /** @throws Error without a global step. */
  override begin(globalStep?: number): void {
    super.begin(globalStep);
    if (globalStep === undefined) throw new Error('Global step should be created to use LoggingMetricHook.');
  }

  protected override report(step: number, values: readonly [string, number][]): void {
    for (const [name, value] of values) this.#metricLogger.logMetric(name, value, { globalStep: step });
  }
}
