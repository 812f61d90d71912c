/*
 * Flags that say where measurements go: upstream's `official/utils/flags/_benchmark.py`. The loggers themselves are in
 * utils/logs/logger.ts. The BigQuery flags exist so that command lines stay valid; that logger does not exist here.
 */
import { requirePath } from './checks.js';
import type { FlagValues } from './flag-values.js';

declare module './flag-values.js' {
  interface FlagTypes {
    benchmark_logger_type: BenchmarkLoggerType;
    benchmark_test_id: string | null;
    log_steps: number;
    benchmark_log_dir: string | null;
    gcp_project: string | null;
    bigquery_data_set: string;
    bigquery_run_table: string;
    bigquery_run_status_table: string;
    bigquery_metric_table: string;
  }
}

/** The texts that --benchmark_logger_type accepts. */
export type BenchmarkLoggerType = 'BaseBenchmarkLogger' | 'BenchmarkFileLogger' | 'BenchmarkBigQueryLogger';

/** Which optional benchmark flags to define; on unless switched off. */
export interface BenchmarkSwitches {
  benchmark_log_dir?: boolean;
  /** Defines the GCP and BigQuery flags. */
  bigquery_uploader?: boolean;
}

const group = 'Benchmark';
const BIGQUERY_NOTE = 'There is no BigQuery logger here; the flag is accepted and has no effect.';

/**
 * Defines the benchmark flags.
 *
 * @returns names of the key flags among them: none, as upstream.
 */
export function defineBenchmark(flags: FlagValues, switches: BenchmarkSwitches = {}): string[] {
  const logDir = switches.benchmark_log_dir ?? true;
  flags.DEFINE_enum({
    name: 'benchmark_logger_type',
    default: 'BaseBenchmarkLogger',
    enumValues: ['BaseBenchmarkLogger', 'BenchmarkFileLogger', 'BenchmarkBigQueryLogger'],
    group,
    local: true,
    help: 'Where measurements go. BaseBenchmarkLogger writes them into the log, BenchmarkFileLogger into metric.log and benchmark_run.log in benchmark_log_dir. BenchmarkBigQueryLogger does not exist here and is an error.',
  });
  flags.DEFINE_string({
    name: 'benchmark_test_id',
    shortName: 'bti',
    default: null,
    group,
    local: true,
    help: 'A name of this run for people who read the logs; written to benchmark_run.log, without any other effect.',
  });
  flags.DEFINE_integer({
    name: 'log_steps',
    default: 100,
    lowerBound: 1,
    group,
    local: true,
    help: 'Steps between two lines of timing information where progress is printed as plain lines.',
  });
  if (logDir) {
    flags.DEFINE_string({
      name: 'benchmark_log_dir',
      shortName: 'bld',
      default: null,
      group,
      local: true,
      help: 'Folder of metric.log and benchmark_run.log; made if missing.',
    });
    requirePath(flags, 'benchmark_log_dir');
  }
  if (switches.bigquery_uploader ?? true) {
    const upload = (name: string, shortName: string, standard: string | null, what: string) =>
      flags.DEFINE_string({ name, shortName, default: standard, group, help: `${what} ${BIGQUERY_NOTE}` });
    upload('gcp_project', 'gp', null, 'Google Cloud project for uploads.');
    upload('bigquery_data_set', 'bds', 'test_benchmark', 'BigQuery data set for uploads.');
    upload('bigquery_run_table', 'brt', 'benchmark_run', 'BigQuery table for run information.');
    upload('bigquery_run_status_table', 'brst', 'benchmark_run_status', 'BigQuery table for the state of runs.');
    upload('bigquery_metric_table', 'bmt', 'benchmark_metric', 'BigQuery table for metrics.');
  }
  if (logDir) {
    flags.registerMultiFlagsValidator(
      ['benchmark_logger_type', 'benchmark_log_dir'],
      (values) => values.benchmark_logger_type !== 'BenchmarkFileLogger' || values.benchmark_log_dir,
      '--benchmark_logger_type=BenchmarkFileLogger will require --benchmark_log_dir being set',
    );
  }
  return [];
}
