/*
 * Benchmark loggers: upstream's `official/utils/logs/logger.py`. A run logs its description once, metrics as they come,
 * and the results of every evaluation; the base logger writes them into the log, the file logger into metric.log and
 * benchmark_run.log. There is no global logger: benchmarkContext hands it to the code that runs inside.
 */
import { appendFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { probeFolder, reasonOf } from '../files/file-errors.js';
import { makeFolder } from '../files/make-folder.js';
import type { FlagsObject } from '../flags/core.js';
import { type Log, stderrLog } from './log.js';
import { formatTimestamp, gatherRunInfo, type RunInfo, type RunInfoOptions, sortedEntries } from './run-info.js';

/** File names of the file logger. */
export const METRIC_LOG_FILE_NAME = 'metric.log';
export const BENCHMARK_RUN_LOG_FILE_NAME = 'benchmark_run.log';

/** How a run ended, or that it has not. */
export type RunStatus = 'success' | 'failure' | 'running';

/** One line of metric.log. */
export interface Metric {
  readonly name: string;
  /** null stands for NaN and infinities, which JSON does not have. */
  readonly value: number | null;
  readonly unit: string | null;
  readonly global_step: number | null;
  /** UTC, `2019-04-26T12:00:00.000000Z`. */
  readonly timestamp: string;
  readonly extras: readonly { readonly name: string; readonly value: unknown }[];
}

/** What may come with a metric. */
export interface MetricOptions {
  unit?: string | null;
  globalStep?: number | null;
  extras?: Readonly<Record<string, unknown>>;
}

/** Options of every logger. */
export interface LoggerOptions {
  /** Where lines and warnings go; default standard error. */
  log?: Log;
  /** The clock of timestamps; default the system's. */
  now?: () => Date;
}

/** Writes metrics and the description of the run into the log. */
export class BaseBenchmarkLogger {
  protected readonly log: Log;
  protected readonly now: () => Date;

  constructor(options: LoggerOptions = {}) {
    this.log = options.log ?? stderrLog;
    this.now = options.now ?? (() => new Date());
  }

  /**
   * Logs every entry of an evaluation's results as a metric, in name order, at the step in `global_step`, which is not
   * logged itself. Anything but a record is a warning.
   */
  logEvaluationResult(evalResults: unknown): void {
    if (typeof evalResults !== 'object' || evalResults === null || Array.isArray(evalResults)) {
      this.log.warning(`eval_results should be dictionary for logging. Got ${typeName(evalResults)}`);
      return;
    }
    const results = evalResults as Readonly<Record<string, unknown>>;
    const globalStep = typeof results.global_step === 'number' ? results.global_step : null;
    for (const [name, value] of sortedEntries(results)) {
      if (name !== 'global_step') this.logMetric(name, value, { globalStep });
    }
  }

  /** Logs one number. Anything but a number is a warning, and nothing is written. */
  logMetric(name: string, value: unknown, options: MetricOptions = {}): void {
    if (typeof value !== 'number') {
      this.log.warning(`Metric value to log should be a number. Got ${typeName(value)}`);
      return;
    }
    this.writeMetric({
      name,
      value: Number.isFinite(value) ? value : null,
      unit: options.unit ?? null,
      global_step: options.globalStep ?? null,
      timestamp: formatTimestamp(this.now()),
      extras: sortedEntries(options.extras ?? {}).map(([key, extra]) => ({ name: key, value: extra })),
    });
  }

  /** Logs the description of the run: once, before training. */
  logRunInfo(options: RunInfoOptions): void {
    this.writeRunInfo(gatherRunInfo({ now: this.now(), ...options }));
  }

  /** Called once at the end of the run. */
  onFinish(_status: RunStatus): void {}

  protected writeMetric(metric: Metric): void {
    this.log.info(`Benchmark metric: ${JSON.stringify(metric)}`);
  }

  protected writeRunInfo(runInfo: RunInfo): void {
    this.log.info(`Benchmark run: ${JSON.stringify(runInfo)}`);
  }
}

/**
 * Appends metrics to metric.log and writes benchmark_run.log, both with one JSON object a line. A line that cannot be
 * written is a warning: a full disk does not end a training run because of its measurements.
 */
export class BenchmarkFileLogger extends BaseBenchmarkLogger {
  /** @throws Error when the folder cannot be made, or nothing can be written there. */
  constructor(
    readonly loggingDir: string,
    options: LoggerOptions = {},
  ) {
    super(options);
    try {
      makeFolder(loggingDir);
      probeFolder(loggingDir, METRIC_LOG_FILE_NAME);
    } catch (error) {
      throw new Error(
        `--benchmark_log_dir=${loggingDir} cannot be written to: ${reasonOf(error)}.\nhelp: name a folder that you may write to.`,
        { cause: error },
      );
    }
  }

  protected override writeMetric(metric: Metric): void {
    try {
      appendFileSync(path.join(this.loggingDir, METRIC_LOG_FILE_NAME), `${JSON.stringify(metric)}\n`);
    } catch (error) {
      this.log.warning(
        `Failed to dump metric to log file: name ${metric.name}, value ${metric.value}, error ${reasonOf(error)}`,
      );
    }
  }

  protected override writeRunInfo(runInfo: RunInfo): void {
    try {
      writeFileSync(path.join(this.loggingDir, BENCHMARK_RUN_LOG_FILE_NAME), `${JSON.stringify(runInfo)}\n`);
    } catch (error) {
      this.log.warning(`Failed to dump benchmark run info to log file: ${reasonOf(error)}`);
    }
  }
}

function typeName(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'array' : typeof value;
}

/** The flags that choose a logger. */
export type LoggerFlags = Pick<FlagsObject, 'benchmark_logger_type'> & { readonly benchmark_log_dir?: string | null };

/**
 * The logger that the flags name (upstream's `config_benchmark_logger`).
 *
 * @throws Error for the BigQuery logger, which does not exist here, and for an unknown type.
 */
export function createBenchmarkLogger(flagsObj: LoggerFlags, options: LoggerOptions = {}): BaseBenchmarkLogger {
  const type: string = flagsObj.benchmark_logger_type;
  switch (type) {
    case 'BaseBenchmarkLogger':
      return new BaseBenchmarkLogger(options);
    case 'BenchmarkFileLogger':
      if (!flagsObj.benchmark_log_dir) {
        throw new Error('--benchmark_logger_type=BenchmarkFileLogger will require --benchmark_log_dir being set');
      }
      return new BenchmarkFileLogger(flagsObj.benchmark_log_dir, options);
    case 'BenchmarkBigQueryLogger':
      throw new Error(
        '--benchmark_logger_type=BenchmarkBigQueryLogger: there is no BigQuery logger here. Use BenchmarkFileLogger with --benchmark_log_dir and upload its JSON lines.',
      );
    default:
      throw new Error(`Unrecognized benchmark_logger_type: ${type}`);
  }
}

/**
 * Runs `body` with the logger that the flags name and tells the logger how it ended: `success`, or `failure` with the
 * error thrown on.
 */
export async function benchmarkContext<T>(
  flagsObj: LoggerFlags,
  body: (logger: BaseBenchmarkLogger) => Promise<T> | T,
  options: LoggerOptions = {},
): Promise<T> {
  const logger = createBenchmarkLogger(flagsObj, options);
  return runWithLogger(logger, body);
}

/** benchmarkContext with a logger that exists already. */
export async function runWithLogger<T>(
  logger: BaseBenchmarkLogger,
  body: (logger: BaseBenchmarkLogger) => Promise<T> | T,
): Promise<T> {
  let result: T;
  try {
    result = await body(logger);
  } catch (error) {
    logger.onFinish('failure');
    throw error;
  }
  logger.onFinish('success');
  return result;
}
