/**
 * The run loop over several replicas: the same bits for every number of packs and from run to run, evaluation with exactly
 * one device's figures, and every flag of the distribution with its effect, its note, or its error.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { type DeviceProvider, physicalCores, registerDeviceProvider } from '@lockstep/distribute';
import { prepareDigits } from '../data/digits.js';
import { readEvents } from '../summary/event-file.js';
import { CheckpointManager } from '../utils/checkpoint/checkpoint-manager.js';
import { main } from './cifar10-main.js';
import type { ResnetMainResult } from './resnet-run-loop.js';

const LIMIT = { timeout: 240_000 };
const provider = process.env.LOCKSTEP_TEST_PROVIDER;
// TensorFlow.js' own backend takes half a minute for a step of the smallest ResNet.
const skip = provider ? false : 'LOCKSTEP_TEST_PROVIDER names no device provider';
if (provider) registerDeviceProvider(((await import(provider)) as { deviceProvider: DeviceProvider }).deviceProvider);

const folder = mkdtempSync(join(tmpdir(), 'lockstep-distributed-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const dataDir = prepareDigits(join(folder, 'digits'));
let runs = 0;

interface Run {
  readonly status: number;
  readonly said: string;
  readonly modelDir: string;
  readonly result: ResnetMainResult | null;
}

/** One run of the CIFAR-10 main on the digits, with the smallest network. */
async function run(...flags: string[]): Promise<Run> {
  const modelDir = join(folder, `model-${runs++}`);
  let said = '';
  let result: ResnetMainResult | null = null;
  const write = (text: string) => {
    said += text;
    return true;
  };
  const stream = { write, isTTY: false } as unknown as NodeJS.WriteStream;
  const common = ['--resnet_size=8', '--batch_size=60', '--seed=7', '--hooks=', '--progress=plain', '--train_epochs=1'];
  const status = await main([...common, `--data_dir=${dataDir}`, `--model_dir=${modelDir}`, ...flags], {
    stream,
    out: write,
    err: write,
    signal: new AbortController().signal,
    onResult: (value) => {
      result = value;
    },
  });
  return { status, said, modelDir, result };
}

/** Every tensor of the newest checkpoint: weights, momenta, moving statistics. */
function tensorsOf({ modelDir, said, status }: Run): Record<string, unknown> {
  assert.equal(status, 0, said);
  const checkpoint = new CheckpointManager(modelDir).latest();
  assert.ok(checkpoint, said);
  const tensors = Object.entries(checkpoint.tensors).map(([name, { values }]) => [
    name,
    Array.from(values as Float32Array),
  ]);
  assert.ok(tensors.length > 20);
  return Object.fromEntries(tensors);
}

const TRAIN = ['--max_train_steps=6', '--distribution_strategy=mirrored'];

describe('training on several replicas', { skip }, () => {
  test('two replicas: the same bits from run to run, for 1, 2, 8 packs, for every algorithm', LIMIT, async () => {
    const first = tensorsOf(await run(...TRAIN, '--num_cpus=2'));
    for (const more of [
      ['--num_packs=1'],
      ['--num_packs=2'],
      ['--num_packs=8'],
      ['--num_packs=3', '--all_reduce_alg=hierarchical_copy'],
      ['--num_packs=2', '--all_reduce_alg=reduction_to_one_device'],
      ['--all_reduce_alg=sharded', '--datasets_num_private_threads=2', '--datasets_num_parallel_batches=3'],
    ]) {
      assert.deepEqual(tensorsOf(await run(...TRAIN, '--num_cpus=2', ...more)), first, `${more}`);
    }
  });

  test('steps that the backend recorded leave the bits that TensorFlow.js leaves', LIMIT, async () => {
    // The fifth step is the first that can be a replay; the dynamic loss scale begins so high that it falls on the way.
    const flags = ['--max_train_steps=12', '--distribution_strategy=mirrored', '--num_cpus=2', '--num_packs=2'];
    const more = ['--dtype=bf16_emulated', '--loss_scale=dynamic', '--max_train_steps=16'];
    for (const all of [flags, [...flags, ...more]]) {
      const replayed = tensorsOf(await run(...all));
      process.env.LOCKSTEP_RECORDING = '0';
      try {
        assert.deepEqual(tensorsOf(await run(...all)), replayed);
      } finally {
        delete process.env.LOCKSTEP_RECORDING;
      }
    }
  });

  test('three replicas: the same bits for 1 and 5 packs, and other bits than those of two', LIMIT, async () => {
    const one = tensorsOf(await run(...TRAIN, '--num_cpus=3'));
    assert.deepEqual(tensorsOf(await run(...TRAIN, '--num_cpus=3', '--num_packs=5')), one);
    // Batch norm normalises each replica's share, so the number of replicas does matter: the comparison above can fail.
    assert.notDeepEqual(tensorsOf(await run(...TRAIN, '--num_cpus=2')), one);
  });

  test('evaluation over replicas gives exactly the figures of one device', LIMIT, async () => {
    const trained = await run('--max_train_steps=30', '--num_cpus=1');
    assert.equal(trained.status, 0, trained.said);
    const evaluate = async (...flags: string[]) => {
      const again = await run(`--model_dir=${trained.modelDir}`, '--eval_only', ...flags);
      assert.equal(again.status, 0, again.said);
      return again.result?.evaluation;
    };
    const single = await evaluate('--distribution_strategy=off');
    assert.ok(
      Number.isFinite(single?.loss) && (single?.accuracyTop5 ?? 0) > (single?.accuracy ?? 1),
      JSON.stringify(single),
    );
    assert.equal(single?.globalStep, 30);
    // 1,000 images: 500 each; 334, 333 and 333; and batches that do not divide them.
    for (const flags of [
      ['--distribution_strategy=one_device'],
      ['--num_cpus=2', '--distribution_strategy=mirrored'],
      ['--num_cpus=3', '--distribution_strategy=mirrored'],
      ['--num_cpus=2', '--distribution_strategy=mirrored', '--batch_size=14'],
      ['--distribution_strategy=off', '--batch_size=1000'],
    ]) {
      assert.deepEqual(await evaluate(...flags), single, `${flags}`);
    }
  });
});

describe('flags of the distribution', { skip }, () => {
  const short = ['--max_train_steps=1', '--use_synthetic_data', '--epochs_between_evals=1'];

  test('what is taken for what is counted alike over replicas, and adds up to the accuracy', LIMIT, async () => {
    const trained = await run('--max_train_steps=30', '--num_cpus=1');
    assert.equal(trained.status, 0, trained.said);
    const details = async (...flags: string[]) => {
      // Trained already: it evaluates, and writes that down.
      const again = await run(`--model_dir=${trained.modelDir}`, '--max_train_steps=30', ...flags);
      assert.equal(again.status, 0, again.said);
      const files = readdirSync(trained.modelDir).filter((name) => name.includes('tfevents'));
      const texts = files.flatMap((name) =>
        [...readEvents(join(trained.modelDir, name))].map(({ texts }) => texts ?? {}),
      );
      const last = (tag: string) => texts.findLast((one) => one[tag] !== undefined)?.[tag] as string;
      return {
        matrix: JSON.parse(last('evaluation/confusion')).matrix as number[][],
        samples: JSON.parse(last('evaluation/samples')),
        said: again.said,
        files,
      };
    };
    const single = await details('--distribution_strategy=off');
    const sum = single.matrix.flat().reduce((a, b) => a + b, 0);
    const right = single.matrix.reduce((total, row, label) => total + (row[label] as number), 0);
    assert.equal(sum, 1000);
    assert.match(single.said, new RegExp(`accuracy ${((100 * right) / sum).toFixed(2)} %`));
    assert.equal(single.samples.items.length, 16);
    const isWrong = single.samples.items.map(
      (one: { label: number; prediction: number }) => one.label !== one.prediction,
    );
    assert.deepEqual(
      isWrong,
      [...isWrong].sort((a, b) => Number(b) - Number(a)),
      'mistakes first',
    );
    for (const replicas of [2, 3]) {
      const several = await details(`--num_cpus=${replicas}`, '--distribution_strategy=mirrored');
      assert.deepEqual(several.matrix, single.matrix, `${replicas} replicas`);
    }
    const before = (await details('--save_summary_steps=1')).files.length;
    assert.equal((await details('--save_summary_steps=0')).files.length, before, 'nothing where nothing is wanted');
  });

  test('the benchmark log records num_packs and the algorithm in force, also one that was chosen', LIMIT, async () => {
    const recorded = async (...flags: string[]) => {
      const directory = join(folder, `log-${runs}`);
      const logging = ['--benchmark_logger_type=BenchmarkFileLogger', `--benchmark_log_dir=${directory}`];
      const { status, said } = await run(...short, ...logging, ...flags);
      assert.equal(status, 0, said);
      const log = JSON.parse(readFileSync(join(directory, 'benchmark_run.log'), 'utf8')) as {
        run_parameters: { name: string; long_value?: number; string_value?: string }[];
      };
      const of = (name: string) => log.run_parameters.find((parameter) => parameter.name === name);
      return [of('num_packs')?.long_value, of('all_reduce_alg')?.string_value];
    };
    const two = ['--num_cpus=2', '--distribution_strategy=mirrored'];
    assert.deepEqual(await recorded(...two, '--num_packs=4'), [4, 'sharded']);
    assert.deepEqual(await recorded(...two, '--num_packs=2', '--all_reduce_alg=hierarchical_copy'), [
      2,
      'hierarchical_copy',
    ]);
    assert.deepEqual(await recorded(), [1, 'None']);
  });

  test('the chosen reduction is said; a flag without effect is said once', LIMIT, async () => {
    const count = (text: string, part: string) => text.split(part).length - 1;
    const two = await run(...short, '--num_cpus=2', '--num_packs=3', '--inter_op_parallelism_threads=4');
    assert.equal(two.status, 0, two.said);
    assert.equal(two.result?.replicas, 2);
    assert.match(two.said, /gradients are reduced by ShardedAllReduce\(num_packs=3\)/);
    assert.equal(count(two.said, '--inter_op_parallelism_threads=4 has no effect'), 1);
    const one = await run(
      ...short,
      ...['--num_packs=3', '--all_reduce_alg=nccl', '--datasets_num_private_threads=2'],
      '--datasets_num_parallel_batches=5',
    );
    assert.equal(one.status, 0, one.said);
    for (const part of [
      'num_packs=3 has no effect with one device',
      'all_reduce_alg=nccl has no effect with one device',
      '--datasets_num_private_threads=2 has no effect with --use_synthetic_data',
      '--datasets_num_parallel_batches=5 has no effect with --use_synthetic_data',
    ]) {
      assert.equal(count(one.said, part), 1, `${part}: ${one.said}`);
    }
  });

  test('num_cpus=-1 is one replica per physical core', LIMIT, async () => {
    const cores = physicalCores().length;
    const all = await run(...short, '--num_cpus=-1', `--batch_size=${4 * cores}`, '--intra_op_parallelism_threads=1');
    assert.equal(all.status, 0, all.said);
    assert.equal(all.result?.replicas, cores);
  });

  test('what cannot be is an error that says why, before anything is trained', LIMIT, async () => {
    const refused: [string[], number, RegExp][] = [
      [['--tf_gpu_thread_mode=gpu_private'], 2, /--tf_gpu_thread_mode=gpu_private: this machine's devices have no GPU/],
      [['--per_gpu_thread_count=2'], 2, /--per_gpu_thread_count=2: this machine's devices have no GPU threads/],
      [['--num_gpus=-2'], 1, /`num_gpus` can not be negative\./],
      [['--num_gpus=1'], 2, /flag --num_gpus=1: no GPU is offered here\. Use --num_gpus=0, /],
      [['--num_gpus=2', '--distribution_strategy=off'], 1, /When 2 GPUs and {2}1 workers are specified/],
      [['--num_cpus=2', '--distribution_strategy=off'], 1, /When 2 CPU devices are specified/],
      [['--num_cpus=2', '--distribution_strategy=one_device'], 1, /can not be used for more than one device/],
      [
        ['--num_cpus=2', '--all_reduce_alg=ring'],
        1,
        /valid values for all_reduce_alg are \['nccl', 'hierarchical_copy'\]/,
      ],
      [['--num_cpus=2', '--all_reduce_alg=nccl'], 1, /NCCL all-reduce works on NVIDIA devices only/],
      [['--num_cpus=2', '--num_packs=0'], 1, /requires num_packs > 0, but 0 is specified/],
      [['--num_cpus=2', '--batch_size=31'], 1, /Found 2 CPU devices with a batch size of 31; try --batch_size=30/],
      [
        ['--distribution_strategy=sideways'],
        1,
        /Unrecognized Distribution Strategy: 'sideways'\nhelp: .*off, default, one_device, mirrored/,
      ],
    ];
    for (const [flags, status, message] of refused) {
      const { said, ...run_ } = await run(...short, ...flags);
      assert.match(said, message);
      assert.equal(run_.status, status, `${flags}: ${said}`);
    }
    // -1 counts the GPUs that there are, here none: the CPU trains.
    assert.equal((await run(...short, '--num_gpus=-1')).status, 0);
  });
});
