/**
 * The official ResNet on GPUs of @lockstep/webgpu: the first steps on the digits are those of TensorFlow.js' `cpu` to rounding; the rules
 * by which flags choose a strategy hold where there are GPUs; a GPU that is lost ends the run with an error, and the same command goes on.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { registerDeviceProvider, unregisterDeviceProvider } from '@lockstep/distribute';
import { prepareFewDigits } from '@lockstep/official/data/testing/few-digits';
import type { TestRun } from '@lockstep/official/resnet/testing/run';
import { deviceProvider } from '@lockstep/webgpu';

/** Files for tests, which packages do not export, or not of that name. */
const testing = (name: string, path: string) => new URL(path, import.meta.resolve(name)).href;
const { whyNoGpu } = (await import(testing('@lockstep/webgpu', './testing/software-gpu.js'))) as {
  whyNoGpu(): string;
};
// Replicas without a GPU compute on TensorFlow.js' `cpu`: this process registers nothing faster.
delete process.env.LOCKSTEP_TEST_PROVIDER;
const { run, readCheckpoint } = await import('@lockstep/official/resnet/testing/run');

const folder = mkdtempSync(join(tmpdir(), 'gpu-run-'));
const data = join(folder, 'digits');

function train(model: string, steps: number, ...flags: string[]): Promise<TestRun> {
  return run([
    ...[`--data_dir=${data}`, `--model_dir=${join(folder, model)}`, `--max_train_steps=${steps}`, '--train_epochs=1'],
    ...['--batch_size=4', '--random_flip=false', ...flags],
  ]);
}

/** Of a checkpoint, every tensor. */
function tensors(model: string, step: number): Record<string, Float32Array> {
  const { tensors } = readCheckpoint(join(folder, model), step);
  return Object.fromEntries(Object.entries(tensors).map(([name, { values }]) => [name, values as Float32Array]));
}

/** The root of the mean square of the difference, over that of `right`. */
function distance(left: Float32Array, right: Float32Array): number {
  let [difference, size] = [0, 0];
  for (const [i, value] of right.entries()) {
    difference += (value - (left[i] as number)) ** 2;
    size += value ** 2;
  }
  return Math.sqrt(difference / Math.max(size, 1e-12));
}

describe('the official ResNet on GPUs', { skip: whyNoGpu() || false }, () => {
  before(() => {
    prepareFewDigits(data, 9);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const [gpus, ...flags] of [['1'], ['2', '--num_packs=3']] as const) {
    test(`ResNet-8 learns digits on ${gpus} of them as on as many CPU devices`, async () => {
      const steps = 2;
      const gpu = await train(`gpu ${gpus}`, steps, `--num_gpus=${gpus}`, ...flags);
      assert.equal(gpu.status, 0, gpu.text);
      const strategy = gpus === '1' ? 'OneDeviceStrategy' : 'MirroredStrategy';
      assert.deepEqual([gpu.result?.strategy, gpu.result?.replicas], [strategy, Number(gpus)]);
      const cpu = await train(`cpu ${gpus}`, steps, `--num_cpus=${gpus}`, ...flags);
      assert.equal(cpu.status, 0, cpu.text);
      const [found, wanted] = [tensors(`gpu ${gpus}`, steps), tensors(`cpu ${gpus}`, steps)];
      assert.deepEqual(Object.keys(found).sort(), Object.keys(wanted).sort());
      for (const [name, values] of Object.entries(wanted)) {
        // Two steps of f32, whose sums run in another order.
        assert.ok(
          distance(found[name] as Float32Array, values) < 1e-3,
          `${name} is off by ${distance(found[name] as Float32Array, values)}`,
        );
      }
      assert.ok(Math.abs((gpu.result?.evaluation?.loss ?? 0) - (cpu.result?.evaluation?.loss ?? 1)) < 1e-3);
    });
  }

  test('table B with GPUs: off takes the first, one_device refuses two, and more than there are is an error that lists them', async () => {
    const off = await train('off', 1, '--num_gpus=1', '--distribution_strategy=off', '--batch_size=1');
    assert.equal(off.status, 0, off.text);
    assert.equal(off.result?.replicas, 1);
    const refused: [string[], number, RegExp][] = [
      [
        ['--num_gpus=2', '--distribution_strategy=one_device'],
        1,
        /^`OneDeviceStrategy` can not be used for more than one device\.$/m,
      ],
      [
        ['--num_gpus=2', '--distribution_strategy=off'],
        1,
        /^When 2 GPUs and {2}1 workers are specified, distribution_strategy flag cannot be set to 'off'\.$/m,
      ],
      // -1 counts them.
      [['--num_gpus=-1', '--batch_size=5'], 1, /Found 2 GPUs with a batch size of 5; try --batch_size=4 instead\./],
      [
        ['--num_gpus=2', '--all_reduce_alg=nccl'],
        1,
        /gpu:0 is a GPU device of provider 'webgpu', whose memory NCCL cannot reach: it takes CUDA's\.\nhelp: all_reduce_alg=hierarchical_copy/,
      ],
      [['--num_gpus=3'], 2, /^flag --num_gpus=3: the GPUs here are gpu:0 \(.+\), gpu:1 \(.+\)\. Use --num_gpus=0/m],
    ];
    for (const [flags, status, message] of refused) {
      const { text, status: found } = await train('refused', 1, ...flags);
      assert.match(text, message);
      assert.equal(found, status, text);
    }
  });

  test('a GPU that is lost: an error that names it, no hang, and the same command goes on from the last checkpoint', async () => {
    const failing = new URL('./testing/failing-gpu.js', import.meta.url).href;
    const command = ['--num_gpus=2', '--save_checkpoints_steps=1', '--batch_size=2'];
    process.env.LOSE_AT = 'gpu:1 2';
    registerDeviceProvider({ ...deviceProvider, backendModule: failing });
    try {
      const lost = await train('lost', 2, ...command);
      assert.equal(lost.status, 1, lost.text);
      assert.match(
        lost.text,
        /Replica 1 \(gpu:1\) failed: .*The GPU gpu:1 \(.+\) was lost \(.*\nhelp: A run with checkpoints goes on from the last one: give the same command again\./,
      );
    } finally {
      delete process.env.LOSE_AT;
      unregisterDeviceProvider('webgpu');
      registerDeviceProvider(deviceProvider);
    }
    const resumed = await train('lost', 2, ...command);
    assert.equal(resumed.status, 0, resumed.text);
    assert.match(resumed.text, /ckpt-1\.safetensors/);
    const whole = await train('whole', 2, ...command);
    assert.equal(whole.status, 0, whole.text);
    const [found, wanted] = [tensors('lost', 2), tensors('whole', 2)];
    for (const [name, values] of Object.entries(wanted)) assert.deepEqual(found[name], values, name);
  });
});
