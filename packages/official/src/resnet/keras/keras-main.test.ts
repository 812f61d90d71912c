/**
 * The Keras mains from end to end, as upstream's tests run them: made-up data, batch 4, one step, without a strategy, on one device and on
 * two; then real files, whose classes can be learnt.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { after, describe, it } from 'node:test';
import { registerDeviceProvider, unregisterDeviceProvider } from '@lockstep/distribute';
import { readEvents } from '../../summary/event-file.js';
import { BACKENDS, FAST, on } from '../../testing/provider.js';
import { loadExport, predict } from '../export/testing/trained.js';
import { writeData } from '../testing/run.js';
import { main as cifar } from './keras-cifar-main.js';
import type { KerasStats } from './keras-common.js';
import { main as imagenet } from './keras-imagenet-main.js';

const base = mkdtempSync(join(tmpdir(), 'keras-'));
after(() => rmSync(base, { recursive: true, force: true }));

async function run(main: typeof cifar, ...argv: string[]) {
  let text = '';
  const stop = new AbortController();
  const take = (more: string) => {
    text += more;
    if (argv.includes('--train_epochs=999') && /step \d/.test(more)) stop.abort(new Error('stopped'));
  };
  const stream = new Writable({
    write(chunk, _encoding, done) {
      take(String(chunk));
      done();
    },
  }) as unknown as NodeJS.WriteStream;
  let stats: KerasStats | null = null;
  const status = await main(['--seed=1', '--intra_op_parallelism_threads=1', ...argv], {
    out: take,
    err: take,
    stream,
    signal: stop.signal,
    onStats: (one) => {
      stats = one;
    },
  });
  return { status, text, stats: stats as KerasStats | null };
}

const SYNTHETIC = ['--use_synthetic_data', '--batch_size=4', '--train_steps=1'];
const WAYS: Record<string, readonly string[]> = {
  'no strategy': ['--distribution_strategy=off'],
  'no strategy, with enable_eager and enable_xla': ['--distribution_strategy=off', '--enable_eager', '--enable_xla'],
  'one device': ['--distribution_strategy=one_device'],
  'two devices': ['--distribution_strategy=mirrored', '--num_cpus=2'],
};

function checkStats(stats: KerasStats | null, text: string): void {
  assert.ok(stats, text);
  for (const name of ['loss', 'eval_loss', 'accuracy_top_1', 'training_accuracy_top_1', 'train_finish_time'] as const) {
    assert.ok(Number.isFinite(stats[name]), `${name}: ${stats[name]}\n${text}`);
  }
  assert.equal(stats.step_timestamp_log?.length, 1);
}

describe('keras_cifar_main', () => {
  for (const [name, flags] of Object.entries(WAYS)) {
    it(`takes a step of made-up data: ${name}`, async () => {
      const { status, text, stats } = await run(cifar, ...SYNTHETIC, '--resnet_size=8', ...flags);
      assert.equal(status, 0, text);
      checkStats(stats, text);
      assert.match(text, /Using pure synthetic data\./);
      if (name.includes('xla')) assert.match(text, /warning: --enable_xla has no effect here\./);
    });
  }

  it('takes a step in bf16', { skip: BACKENDS.length < 2 ? 'cpu computes in f32 only' : false }, async () => {
    const { status, text, stats } = await run(cifar, ...SYNTHETIC, '--resnet_size=8', '--dtype=bf16_emulated');
    assert.equal(status, 0, text);
    checkStats(stats, text);
  });

  it('trains the network of size 56, which is upstream’s', async () => {
    const { status, text, stats } = await run(cifar, ...SYNTHETIC, '--skip_eval');
    assert.equal(status, 0, text);
    assert.ok(Number.isFinite(stats?.loss));
    assert.equal(stats?.accuracy_top_1, undefined);
  });

  it('learns files, alike on one device and without a strategy, and leaves a model that can be used', async () => {
    const data = writeData(join(base, 'data'));
    const flags = [
      '--batch_size=8',
      '--train_epochs=3',
      '--epochs_between_evals=2',
      '--resnet_size=8',
      '--log_steps=5',
      `--data_dir=${data}`,
    ];
    const folder = join(base, 'model');
    const alone = await run(cifar, ...flags, '--distribution_strategy=off', `--export_dir=${folder}`);
    assert.equal(alone.status, 0, alone.text);
    assert.match(alone.text, /BenchmarkMetric: \{'num_batches':5, 'time_taken': /);
    assert.match(alone.text, /epoch 2: eval_loss /);
    assert.equal(alone.stats?.step_timestamp_log?.length, 3);
    const device = await run(cifar, ...flags, '--distribution_strategy=one_device');
    const same = ({ loss, eval_loss, accuracy_top_1 }: KerasStats) => [loss, eval_loss, accuracy_top_1];
    assert.deepEqual(same(device.stats as KerasStats), same(alone.stats as KerasStats));
    const two = await run(cifar, ...flags, '--distribution_strategy=mirrored', '--num_cpus=2');
    assert.equal(two.status, 0, two.text);
    const begin = await run(cifar, ...flags, '--train_steps=1', '--distribution_strategy=off');
    // The penalties are most of the loss, and the same; what falls is what was learnt.
    for (const { stats } of [alone, two]) assert.ok((stats?.loss as number) < (begin.stats?.loss as number));
    assert.deepEqual(readdirSync(folder).sort(), ['model.json', 'weights.bin']);
    await on(FAST, async () => {
      const model = await loadExport(join(folder, 'model.json'));
      const probabilities = predict(model, new Float32Array(3072).fill(0.5), [1, 32, 32, 3]);
      assert.ok(Math.abs(probabilities.reduce((a, b) => a + b, 0) - 1) < 1e-5);
      model.dispose();
    });
  });

  it('ends after its step when it is told to, on all replicas, and exports nothing then', async () => {
    const data = writeData(join(base, 'data'));
    const folder = join(base, 'stopped');
    const flags = [
      '--batch_size=8',
      '--train_epochs=999',
      '--resnet_size=8',
      `--data_dir=${data}`,
      '--log_steps=1',
      `--export_dir=${folder}`,
    ];
    const { status, text } = await run(cifar, ...flags, '--distribution_strategy=mirrored', '--num_cpus=2');
    assert.equal(status, 130, text);
    assert.match(text, /Interrupted after step \d+: a Keras run keeps no checkpoints/);
    assert.equal(existsSync(folder), false);
  });

  it('says what cannot be', async () => {
    const cases: [string[], number, RegExp][] = [
      [
        ['--profile_steps=5'],
        1,
        /^profile_steps must be a comma separated pair of positive integers, specifying the first and last steps to be profiled\.$/m,
      ],
      [['--profile_steps=1,1001'], 1, /^profile_steps should be of 1000 steps at most/m],
      [['--dtype=fp16'], 2, /flag --dtype=fp16: no device here computes in fp16/],
      [['--loss_scale=128'], 2, /flag --loss_scale=128: model\.fit here scales no loss/],
      [['--distribution_strategy=parameter_server'], 2, /the Keras mains train in one process/],
      [
        ['--distribution_strategy=mirrored', '--num_cpus=3', '--num_gpus=0'],
        1,
        /batch size must be a multiple of the number of available CPU devices/,
      ],
      [['--resnet_size=9'], 2, /flag --resnet_size=9: resnet_size must be 6n \+ 2: 9/],
      [['--batch_size=60000'], 2, /flag --batch_size=60000: there are 50000 training pictures, which make no batch/],
      [['--clean'], 2, /Unknown command line flag '--clean'/],
    ];
    for (const [flags, status, message] of cases) {
      const found = await run(cifar, ...SYNTHETIC, '--resnet_size=8', ...flags);
      assert.equal(found.status, status, `${flags}: ${found.text}`);
      assert.match(found.text, message);
    }
  });
});

it('with a GPU that is asked for and no strategy, the GPU computes', async () => {
  const code = "export default () => { throw new Error('this is the GPU'); }";
  registerDeviceProvider({
    ...{ name: 'one-gpu', priority: 5, types: ['GPU'], devices: () => [{ type: 'GPU', index: 0 }] },
    backendModule: `data:text/javascript,${encodeURIComponent(code)}`,
  });
  try {
    const { status, text } = await run(cifar, ...SYNTHETIC, '--num_gpus=1', '--distribution_strategy=off');
    assert.match(text, /Replica 0 \(gpu:0\) could not start: this is the GPU/);
    assert.equal(status, 1);
  } finally {
    unregisterDeviceProvider('one-gpu');
  }
});

it('--profile_steps writes a timeline of these steps, of every replica', async () => {
  const modelDir = join(base, 'timeline');
  const two = ['--distribution_strategy=mirrored', '--num_cpus=2', `--model_dir=${modelDir}`];
  const steps = ['--use_synthetic_data', '--batch_size=4', '--train_steps=3', '--resnet_size=8', '--skip_eval'];
  const { status, text } = await run(cifar, ...steps, ...two, '--profile_steps=2,3');
  assert.equal(status, 0, text);
  assert.match(text, /Saving timeline for 2-3 into '.*timeline-2-3\.json'/);
  const { traceEvents } = JSON.parse(readFileSync(join(modelDir, 'timeline-2-3.json'), 'utf8')) as {
    traceEvents: { ph: string; name: string; tid: number; ts: number; dur: number }[];
  };
  for (const replica of [0, 1]) {
    const spans = traceEvents.filter(({ ph, tid }) => ph === 'X' && tid === replica);
    for (const name of ['step 2', 'step 3']) {
      const step = spans.find((span) => span.name === name);
      assert.ok(step, `${name} of replica ${replica}`);
      const within = spans.filter(({ ts, dur }) => ts >= step.ts && ts + dur <= step.ts + step.dur + 1);
      for (const part of ['input', 'reduce', 'update'])
        assert.equal(within.filter((span) => span.name === part).length, 1, part);
    }
    assert.ok(!spans.some((span) => span.name === 'step 1'));
  }
});

it('--enable_tensorboard writes each epoch’s figures for TensorBoard, once for all replicas', async () => {
  const modelDir = mkdtempSync(join(tmpdir(), 'keras-board-'));
  try {
    const two = ['--distribution_strategy=mirrored', '--num_cpus=2', `--model_dir=${modelDir}`];
    const { status, text, stats } = await run(cifar, ...SYNTHETIC, '--resnet_size=8', ...two, '--enable_tensorboard');
    assert.equal(status, 0, text);
    const [file, ...more] = readdirSync(join(modelDir, 'train'));
    assert.deepEqual(more, []);
    const [, event] = [...readEvents(join(modelDir, 'train', file as string))];
    assert.equal(event?.step, 1);
    assert.equal(event?.scalars?.epoch_loss, Math.fround(stats?.loss as number));
    const without = await run(cifar, ...SYNTHETIC, '--resnet_size=8', `--model_dir=${modelDir}`);
    assert.match(without.text, /warning: --model_dir has no effect without --enable_tensorboard/);
  } finally {
    rmSync(modelDir, { recursive: true });
  }
});

describe('keras_imagenet_main', () => {
  for (const [name, flags] of Object.entries(WAYS).filter(([way]) => !way.includes('xla'))) {
    it(`takes a step of made-up data: ${name}`, async () => {
      const { status, text, stats } = await run(imagenet, ...SYNTHETIC, '--image_size=32', ...flags);
      assert.equal(status, 0, text);
      checkStats(stats, text);
    });
  }

  it('trains a trivial model', async () => {
    const { status, text, stats } = await run(imagenet, ...SYNTHETIC, '--image_size=32', '--use_trivial_model');
    assert.equal(status, 0, text);
    checkStats(stats, text);
  });
});
