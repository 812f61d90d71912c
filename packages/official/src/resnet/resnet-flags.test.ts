/*
 * The ResNet mains' flags against the tables of upstream's define_resnet_flags, cifar10_main and imagenet_main: every
 * name, short name, kind and default, written out by hand.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FlagValues, UsageError } from '../utils/flags/core.js';
import { CIFAR10_RECIPE } from './lr-schedule.js';
import {
  boundariesOf,
  checkFlagsHere,
  defineCifarFlags,
  defineImagenetFlags,
  defineResnetFlags,
  resnetRunParameters,
} from './resnet-flags.js';

/** name: [short name, kind, default, key]; defaults of define_resnet_flags(). num_gpus differs from upstream's 1. */
const UPSTREAM: Record<string, [string | null, string, unknown, boolean]> = {
  data_dir: ['dd', 'string', '/tmp', true],
  model_dir: ['md', 'string', '/tmp', true],
  clean: [null, 'bool', false, true],
  train_epochs: ['te', 'integer', 1, true],
  epochs_between_evals: ['ebe', 'integer', 1, true],
  stop_threshold: ['st', 'float', null, false],
  batch_size: ['bs', 'integer', 32, true],
  num_gpus: ['ng', 'integer', 0, false],
  hooks: ['hk', 'list', ['LoggingTensorHook'], true],
  export_dir: ['ed', 'string', null, true],
  distribution_strategy: ['ds', 'string', 'default', false],
  inter_op_parallelism_threads: ['inter', 'integer', 0, false],
  intra_op_parallelism_threads: ['intra', 'integer', 0, false],
  use_synthetic_data: ['synth', 'bool', false, false],
  max_train_steps: ['mts', 'integer', null, false],
  dtype: ['dt', 'enum', 'fp32', false],
  loss_scale: ['ls', 'string', null, false],
  all_reduce_alg: ['ara', 'string', null, false],
  num_packs: [null, 'integer', 1, false],
  tf_gpu_thread_mode: ['gt_mode', 'string', null, false],
  per_gpu_thread_count: ['pgtc', 'integer', 0, false],
  datasets_num_private_threads: [null, 'integer', null, false],
  datasets_num_parallel_batches: [null, 'integer', null, false],
  data_format: ['df', 'enum', null, true],
  benchmark_logger_type: [null, 'enum', 'BaseBenchmarkLogger', false],
  benchmark_test_id: ['bti', 'string', null, false],
  log_steps: [null, 'integer', 100, false],
  benchmark_log_dir: ['bld', 'string', null, false],
  gcp_project: ['gp', 'string', null, false],
  bigquery_data_set: ['bds', 'string', 'test_benchmark', false],
  bigquery_run_table: ['brt', 'string', 'benchmark_run', false],
  bigquery_run_status_table: ['brst', 'string', 'benchmark_run_status', false],
  bigquery_metric_table: ['bmt', 'string', 'benchmark_metric', false],
  resnet_version: ['rv', 'enum', '1', true],
  fine_tune: ['ft', 'bool', false, true],
  pretrained_model_checkpoint_path: ['pmcp', 'string', null, true],
  eval_only: [null, 'bool', false, true],
  image_bytes_as_serving_input: [null, 'bool', false, true],
  use_train_and_evaluate: [null, 'bool', false, true],
  worker_hosts: [null, 'string', null, true],
  task_index: [null, 'integer', -1, true],
  enable_lars: [null, 'bool', false, true],
  label_smoothing: [null, 'float', 0, true],
  weight_decay: [null, 'float', 1e-4, true],
  resnet_size: ['rs', 'string', '50', true],
};
const OURS = [
  'gradient_dtype',
  'num_cpus',
  'worker_late_secs',
  'worker_lost_secs',
  'worker_start_secs',
  'worker_timeout_secs',
  'seed',
  'backend',
  'save_checkpoints_secs',
  'save_checkpoints_steps',
  'keep_checkpoint_max',
  'save_summary_steps',
  'save_histogram_steps',
  'profile_steps',
  'checkpoint_format',
  'export_format',
  'quantize',
  'resume',
  'progress',
  'color',
  'board',
  'lr_boundary_epochs',
  'random_flip',
  'batch_norm_decay',
];

function table(flags: FlagValues): Record<string, unknown> {
  return Object.fromEntries(flags.definitions().map((d) => [d.name, [d.shortName, d.kind, d.default, d.key]] as const));
}

describe('resnet flags', () => {
  it('are exactly upstream’s and ours', () => {
    const flags = new FlagValues();
    defineResnetFlags({}, flags);
    const actual = table(flags);
    for (const [name, expected] of Object.entries(UPSTREAM)) assert.deepEqual(actual[name], expected, name);
    assert.deepEqual(Object.keys(actual).sort(), [...Object.keys(UPSTREAM), ...OURS].sort());
  });

  it('of these and no others may machines have their own: folders, threads, the screen, the task', () => {
    const flags = defineCifarFlags(new FlagValues());
    const local = flags.definitions().flatMap((definition) => (definition.local ? [definition.name] : []));
    assert.deepEqual(local.sort(), [
      'benchmark_log_dir',
      'benchmark_logger_type',
      'benchmark_test_id',
      'board',
      'clean',
      'color',
      'data_dir',
      'datasets_num_parallel_batches',
      'datasets_num_private_threads',
      'export_dir',
      'export_format',
      'hooks',
      'inter_op_parallelism_threads',
      'intra_op_parallelism_threads',
      'log_steps',
      'model_dir',
      'progress',
      'quantize',
      'task_index',
    ]);
  });

  it('CIFAR-10 overrides', () => {
    const flags = defineCifarFlags(new FlagValues());
    flags.parse([]);
    const f = flags.FLAGS;
    assert.deepEqual(
      [f.data_dir, f.model_dir, f.resnet_size, f.train_epochs, f.epochs_between_evals, f.batch_size],
      ['/tmp/cifar10_data/cifar-10-batches-bin', '/tmp/cifar10_model', '56', 182, 10, 128],
    );
    assert.deepEqual([f.image_bytes_as_serving_input, f.num_cpus, f.num_gpus, f.seed], [false, 0, 0, null]);
    assert.deepEqual([f.save_checkpoints_secs, f.keep_checkpoint_max, f.resume], [86400, 5, true]);
    flags.parse(['--resnet_size=14', '-rv', '2']);
    assert.deepEqual([flags.FLAGS.resnet_size, flags.FLAGS.resnet_version], ['14', '2']);
    assert.throws(() => flags.parse(['--resnet_version=3']), /<1\|2>/);
  });

  it('ImageNet overrides', () => {
    const flags = defineImagenetFlags(new FlagValues());
    flags.parse([]);
    assert.deepEqual(
      [flags.FLAGS.train_epochs, flags.FLAGS.batch_size, flags.FLAGS.resnet_size, flags.FLAGS.resnet_version],
      [90, 32, '50', '1'],
    );
    assert.throws(() => flags.parse(['--resnet_size=56']), /one of <18\|34\|50\|101\|152\|200>/);
  });

  it('the same flags can be defined for two programs in one process', () => {
    const one = defineCifarFlags(new FlagValues());
    const two = defineCifarFlags(new FlagValues());
    one.parse(['--batch_size=1']);
    two.parse([]);
    assert.equal(two.FLAGS.batch_size, 128);
    assert.throws(() => defineCifarFlags(one), /already has/);
  });

  it('loss_scale may be dynamic in every main, unless one forbids it', () => {
    const cifar = defineCifarFlags(new FlagValues());
    cifar.parse(['--loss_scale=dynamic']);
    const fixed = new FlagValues();
    defineResnetFlags({ dynamicLossScale: false }, fixed);
    assert.throws(() => fixed.parse(['--loss_scale=dynamic']), UsageError);
  });

  it('flags that cannot work here are errors, flags without effect are named', () => {
    const flags = defineCifarFlags(new FlagValues());
    flags.parse(['--inter=1']);
    assert.deepEqual(checkFlagsHere(flags), []);
    flags.parse(['--inter=4', '--gcp_project=p', '--data_format=channels_first']);
    const notes = checkFlagsHere(flags);
    assert.equal(notes.length, 3);
    assert.match(notes[0]!, /--data_format=channels_first has no effect/);
    assert.match(notes[1]!, /--inter_op_parallelism_threads=4 has no effect/);
    flags.parse(['--use_train_and_evaluate']);
    assert.match(checkFlagsHere(flags).join(), /--use_train_and_evaluate has no effect/);
    for (const argument of ['--tf_gpu_thread_mode=gpu_private', '--per_gpu_thread_count=2']) {
      flags.parse([argument]);
      assert.throws(() => checkFlagsHere(flags), UsageError);
    }
  });

  it('--lr_boundary_epochs replaces the schedule, a tenth at each boundary', () => {
    const flags = defineCifarFlags(new FlagValues());
    const rates = (...argv: string[]) => {
      flags.parse(argv);
      const { boundaryEpochs, decayRates } = boundariesOf(flags.FLAGS, CIFAR10_RECIPE);
      return [boundaryEpochs, decayRates];
    };
    assert.deepEqual(rates(), [
      [91, 136, 182],
      [1, 0.1, 0.01, 0.001],
    ]);
    assert.deepEqual(rates('--lr_boundary_epochs=6,9.5'), [
      [6, 9.5],
      [1, 0.1, 0.01],
    ]);
    assert.deepEqual(rates('--lr_boundary_epochs='), [[], [1]]);
    for (const bad of ['9,6', '-1', 'six', 'inf']) {
      assert.throws(() => flags.parse([`--lr_boundary_epochs=${bad}`]), /should be epochs, none negative, ascending/);
    }
  });

  it('run parameters hold num_packs and all_reduce_alg', () => {
    const flags = defineCifarFlags(new FlagValues());
    flags.parse(['--num_packs=2', '-bs', '64', '-synth']);
    assert.deepEqual(resnetRunParameters(flags.FLAGS, 1), {
      batch_size: 64,
      dtype: 'fp32',
      resnet_size: '56',
      resnet_version: '1',
      synthetic_data: true,
      train_epochs: 182,
      num_workers: 1,
      num_packs: 2,
      all_reduce_alg: null,
    });
    const chosen = resnetRunParameters(flags.FLAGS, 2, { allReduceAlg: 'sharded', numPacks: 4 });
    assert.deepEqual([chosen.all_reduce_alg, chosen.num_packs, chosen.num_workers], ['sharded', 4, 2]);
  });
});
