/*
 * The benchmark loggers against upstream's logger_test.py: files, field names, types and the exact warnings.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { BenchmarkLoggerType } from '../flags/core.js';
import { recordingLog } from './log.js';
import {
  BaseBenchmarkLogger,
  BenchmarkFileLogger,
  benchmarkContext,
  createBenchmarkLogger,
  type RunStatus,
  runWithLogger,
} from './logger.js';
import { formatTimestamp, gatherRunInfo, onGcp, runParameters } from './run-info.js';

const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;

let dir = '';
beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), 'logger-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const lines = (name: string) =>
  readFileSync(path.join(dir, name), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('choice of the logger', () => {
  it('follows the flag', () => {
    const base = createBenchmarkLogger({ benchmark_logger_type: 'BaseBenchmarkLogger' });
    assert.equal(base.constructor, BaseBenchmarkLogger);
    const inner = path.join(dir, 'a', 'b');
    const flags = { benchmark_logger_type: 'BenchmarkFileLogger', benchmark_log_dir: inner } as const;
    assert.ok(createBenchmarkLogger(flags) instanceof BenchmarkFileLogger);
    assert.ok(existsSync(inner));
  });

  it('refuses what does not exist', () => {
    assert.throws(
      () => createBenchmarkLogger({ benchmark_logger_type: 'BenchmarkBigQueryLogger' }),
      /no BigQuery logger/,
    );
    assert.throws(() => createBenchmarkLogger({ benchmark_logger_type: 'foo' as BenchmarkLoggerType }), {
      message: 'Unrecognized benchmark_logger_type: foo',
    });
    assert.throws(() => createBenchmarkLogger({ benchmark_logger_type: 'BenchmarkFileLogger' }), /--benchmark_log_dir/);
    const file = path.join(dir, 'file');
    writeFileSync(file, '');
    assert.throws(
      () => new BenchmarkFileLogger(path.join(file, 'x')),
      /--benchmark_log_dir=.*x cannot be written to: a (file is in the way|part of the path is not a folder) \(\w+\)\.\nhelp: name a folder/,
    );
  });
});

describe('benchmarkContext', () => {
  class Watched extends BaseBenchmarkLogger {
    readonly statuses: RunStatus[] = [];
    override onFinish(status: RunStatus): void {
      this.statuses.push(status);
    }
  }

  it('tells success and failure, and throws on', async () => {
    const logger = new Watched();
    assert.equal(await runWithLogger(logger, async () => 7), 7);
    const fail = () => {
      throw new Error('boom');
    };
    await assert.rejects(runWithLogger(logger, fail), /boom/);
    await assert.rejects(
      runWithLogger(logger, async () => fail()),
      /boom/,
    );
    assert.deepEqual(logger.statuses, ['success', 'failure', 'failure']);
  });

  it('hands over the logger that the flags name', async () => {
    const flags = { benchmark_logger_type: 'BenchmarkFileLogger', benchmark_log_dir: dir } as const;
    await benchmarkContext(flags, (logger) => logger.logMetric('x', 1));
    assert.equal(lines('metric.log').length, 1);
  });
});

describe('BaseBenchmarkLogger', () => {
  it('writes into the log', () => {
    const log = recordingLog();
    const logger = new BaseBenchmarkLogger({ log });
    logger.logMetric('accuracy', 0.999, { globalStep: 1e4, extras: { name: 'value' } });
    assert.equal(log.lines.length, 1);
    const [, json] = /^info: Benchmark metric: (.*)$/.exec(log.lines[0]!)!;
    const { timestamp, ...metric } = JSON.parse(json!) as Record<string, unknown>;
    assert.match(timestamp as string, TIMESTAMP);
    assert.deepEqual(metric, {
      name: 'accuracy',
      value: 0.999,
      unit: null,
      global_step: 10000,
      extras: [{ name: 'name', value: 'value' }],
    });
    logger.logRunInfo({ modelName: 'resnet', datasetName: 'CIFAR-10', parameters: {} });
    assert.match(log.lines[1]!, /^info: Benchmark run: \{"model_name":"resnet"/);
  });
});

describe('BenchmarkFileLogger', () => {
  it('appends metrics in order', () => {
    const now = () => new Date(Date.UTC(2019, 3, 26, 1, 2, 3, 45));
    const logger = new BenchmarkFileLogger(dir, { now });
    logger.logMetric('accuracy', 0.999, { globalStep: 10000, extras: { b: 2, a: 'x' } });
    logger.logMetric('loss', 1, { unit: 'nat' });
    assert.deepEqual(lines('metric.log'), [
      {
        name: 'accuracy',
        value: 0.999,
        unit: null,
        global_step: 10000,
        timestamp: '2019-04-26T01:02:03.045000Z',
        extras: [
          { name: 'a', value: 'x' },
          { name: 'b', value: 2 },
        ],
      },
      { name: 'loss', value: 1, unit: 'nat', global_step: null, timestamp: '2019-04-26T01:02:03.045000Z', extras: [] },
    ]);
    new BenchmarkFileLogger(dir).logMetric('later', 3);
    assert.equal(lines('metric.log').length, 3);
  });

  it('writes nothing for what is not a number', () => {
    const log = recordingLog();
    const logger = new BenchmarkFileLogger(dir, { log });
    logger.logMetric('accuracy', 'lorem');
    logger.logMetric('accuracy', null);
    assert.equal(existsSync(path.join(dir, 'metric.log')), false);
    assert.deepEqual(log.lines, [
      'warning: Metric value to log should be a number. Got string',
      'warning: Metric value to log should be a number. Got null',
    ]);
    logger.logMetric('loss', Number.NaN);
    assert.equal(lines('metric.log')[0]!.value, null);
  });

  it('logs evaluation results in name order, without the step', () => {
    const logger = new BenchmarkFileLogger(dir);
    logger.logEvaluationResult({ loss: 0.46237424, global_step: 207082, accuracy: 0.9285 });
    assert.deepEqual(
      lines('metric.log').map(({ name, value, unit, global_step }) => [name, value, unit, global_step]),
      [
        ['accuracy', 0.9285, null, 207082],
        ['loss', 0.46237424, null, 207082],
      ],
    );
  });

  it('warns about evaluation results that are no record', () => {
    const log = recordingLog();
    for (const bad of [[1], 'x', null]) new BenchmarkFileLogger(dir, { log }).logEvaluationResult(bad);
    assert.equal(existsSync(path.join(dir, 'metric.log')), false);
    assert.equal(log.lines[0], 'warning: eval_results should be dictionary for logging. Got array');
    assert.equal(log.lines.length, 3);
  });

  it('overwrites the run log', () => {
    const logger = new BenchmarkFileLogger(dir);
    logger.logRunInfo({ modelName: 'one', datasetName: 'd', parameters: {} });
    logger.logRunInfo({ modelName: 'two', datasetName: 'd', parameters: { num_packs: 2 }, testId: 'some_test' });
    const [run, ...more] = lines('benchmark_run.log');
    assert.equal(more.length, 0);
    assert.deepEqual([run!.model_name, run!.test_id], ['two', 'some_test']);
    assert.deepEqual(run!.run_parameters, [{ name: 'num_packs', long_value: 2 }]);
  });

  it('warns, and goes on, when a file cannot be written', () => {
    const log = recordingLog();
    const logger = new BenchmarkFileLogger(dir, { log });
    // A folder in the place of the file fails for root, too.
    mkdirSync(path.join(dir, 'metric.log'));
    mkdirSync(path.join(dir, 'benchmark_run.log'));
    logger.logMetric('m', 2);
    logger.logRunInfo({ modelName: 'x', datasetName: 'd', parameters: {} });
    assert.match(
      log.lines[0]!,
      /^warning: Failed to dump metric to log file: name m, value 2, error a folder is in the way \(EISDIR\)/,
    );
    assert.match(
      log.lines[1]!,
      /^warning: Failed to dump benchmark run info to log file: a folder is in the way \(EISDIR\)/,
    );
  });
});

describe('run info', () => {
  it('has typed parameters in name order', () => {
    const parameters = {
      dtype: 'fp16',
      batch_size: 32,
      synthetic_data: true,
      train_epochs: 100.5,
      eval_only: false,
      all_reduce_alg: null,
      hooks: ['a', 'b'],
    };
    assert.deepEqual(runParameters(parameters), [
      { name: 'all_reduce_alg', string_value: 'None' },
      { name: 'batch_size', long_value: 32 },
      { name: 'dtype', string_value: 'fp16' },
      { name: 'eval_only', bool_value: 'False' },
      { name: 'hooks', string_value: 'a,b' },
      { name: 'synthetic_data', bool_value: 'True' },
      { name: 'train_epochs', float_value: 100.5 },
    ]);
  });

  it('describes this machine and the variables that change a run, and none that may be a secret', () => {
    const info = gatherRunInfo({
      modelName: 'resnet',
      datasetName: 'CIFAR-10',
      parameters: {},
      env: {
        TF_XLA_FLAGS: 'z',
        TF_CONFIG: 'a',
        HOME: '/root',
        TF_VAR_db_password: 'hunter2',
        TF_TOKEN_app_terraform_io: 'hunter3',
        TF_A: 'unknown',
      },
      gcp: false,
      gpus: ['Tesla P100', 'Other'],
    });
    assert.deepEqual(info.dataset, { name: 'CIFAR-10' });
    assert.deepEqual(info.tensorflow_environment_variables, [
      { name: 'TF_CONFIG', value: 'a' },
      { name: 'TF_XLA_FLAGS', value: 'z' },
    ]);
    assert.equal(info.tensorflow_version.version, '4.22.0');
    assert.deepEqual(info.machine_config.gpu_info, { count: 2, model: 'Tesla P100' });
    assert.equal(info.machine_config.cpu_info.num_cores, cpus().length);
    assert.equal(info.machine_config.memory_total, totalmem());
    assert.ok(info.machine_config.memory_available > 0);
    assert.match(info.run_date, TIMESTAMP);
    assert.equal(info.test_id, null);
    assert.equal('test_environment' in info, false);
    const there = gatherRunInfo({ modelName: 'm', datasetName: 'd', parameters: {}, gcp: true });
    assert.equal(there.test_environment, 'GCP');
    assert.deepEqual(there.machine_config.gpu_info, { count: 0 });
  });

  it('finds Google Cloud by the product name', () => {
    const file = path.join(dir, 'product');
    writeFileSync(file, 'Google Compute Engine\n');
    assert.equal(onGcp(file), true);
    writeFileSync(file, 'KVM\n');
    assert.equal(onGcp(file), false);
    assert.equal(onGcp(path.join(dir, 'missing')), false);
  });

  it('writes microseconds', () => {
    assert.equal(formatTimestamp(new Date(0)), '1970-01-01T00:00:00.000000Z');
  });
});
