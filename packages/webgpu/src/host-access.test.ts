/** What is read from a GPU and written to it, compared with the arrays that it was made of; and what becomes of it when the GPU fails. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { GpuBackend } from './backend.js';
import { GpuError } from './backend.js';
import setup from './device.js';
import type { GpuHostAccess } from './host-access.js';
import { whyNoGpu } from './testing/software-gpu.js';

const skip = whyNoGpu() || false;

/** On the GPU, whatever its size. */
const onGpu = (values: Float32Array | Int32Array, shape: number[] = [values.length]) =>
  tf.tidy(() =>
    tf.add(tf.tensor(values, shape), tf.fill(shape, 0, values instanceof Int32Array ? 'int32' : 'float32')),
  );
/** Integers, which f32 adds without rounding. */
const numbers = (count: number, seed: number) =>
  Float32Array.from({ length: count }, (_, i) => ((i * 7919 + seed * 104729) % 4096) - 2048);

describe('a GPU and its host', { skip }, () => {
  let access: GpuHostAccess;
  before(async () => {
    access = await setup({ index: 0, device: 'gpu:0' });
    // Small tensors would stay in this process.
    tf.env().set('WEBGPU_CPU_FORWARD', false);
  });

  test('reads land in the order in which they were asked for, across staging buffers and from tensors that are gone', async () => {
    // Together more than two staging buffers of 4 MiB; one alone is larger than one.
    const sizes = [1, 3, 1000, 700_000, 500_000, 1_500_000, 2, 999];
    const landed: number[] = [];
    const targets = sizes.map((size) => new Float32Array(new SharedArrayBuffer(4 * size)));
    for (const [i, size] of sizes.entries()) {
      const tensor = onGpu(numbers(size, i));
      access.read(tensor, targets[i] as Float32Array, () => landed.push(i));
      tensor.dispose();
      // Takes the buffer that has just become free.
      tf.dispose(onGpu(numbers(size, i + 100)));
    }
    assert.deepEqual(landed, []);
    await access.settled();
    assert.deepEqual(
      landed,
      sizes.map((_, i) => i),
    );
    for (const [i, size] of sizes.entries()) assert.deepEqual(targets[i], numbers(size, i), `tensor ${i}`);
    assert.equal(access.settled(), undefined, 'nothing is left to wait for');
  });

  test('observers get the values of all tensors at once, of their type', async () => {
    const seen: unknown[] = [];
    const [floats, integers] = [numbers(1_500_000, 1), Int32Array.of(5, -6, 7)];
    const tensors = [onGpu(floats), onGpu(integers), tf.greater(onGpu(Float32Array.of(1, 3)), 2)];
    access.observe(tensors, ((...values: unknown[]) => seen.push(...values)) as never);
    tf.dispose(tensors);
    await access.settled();
    assert.deepEqual(seen, [floats, integers, Uint8Array.of(0, 1)]);
    let calls = 0;
    access.observe([], () => calls++);
    assert.equal(calls, 1);
  });

  test('a tensor that never left this process is read at once', () => {
    const target = new Float32Array(2);
    access.read(tf.tensor1d([1, 2]), target);
    assert.deepEqual(target, Float32Array.of(1, 2));
    assert.equal(access.settled(), undefined);
  });

  test('new values reach the variable and what is computed of it from then on, and nothing that was there before', async () => {
    const variable = tf.variable(onGpu(numbers(5000, 1)));
    const copy = variable.clone();
    const shared = new Float32Array(new SharedArrayBuffer(4 * 5000));
    const doubled: tf.Tensor[] = [];
    for (let step = 2; step < 5; step++) {
      doubled.push(tf.mul(variable, 2));
      shared.set(numbers(5000, step));
      access.write(variable, shared);
      shared.fill(Number.NaN);
      if (step === 2) assert.deepEqual(await copy.data(), numbers(5000, 1), "somebody else's data stays");
    }
    assert.deepEqual(await variable.data(), numbers(5000, 4));
    for (const [i, tensor] of doubled.entries()) {
      assert.deepEqual(
        await tensor.data(),
        numbers(5000, i + 1).map((value) => 2 * value),
      );
    }
    // Read before, and written again.
    access.write(variable, numbers(5000, 9));
    assert.deepEqual(await variable.data(), numbers(5000, 9));
    tf.dispose([variable, copy, doubled]);
  });

  test('steps that read and write take no more memory from one to the next', async () => {
    const variable = tf.variable(onGpu(numbers(10_000, 1)));
    const target = new Float32Array(10_000);
    const bytes: number[] = [];
    for (let step = 0; step < 6; step++) {
      const gradient = tf.mul(variable, 0.5);
      access.read(gradient, target);
      gradient.dispose();
      await access.settled();
      access.write(variable, target);
      const { numBytesAllocatedInGPU } = (tf.backend() as GpuBackend).memory();
      bytes.push(numBytesAllocatedInGPU);
    }
    assert.equal(new Set(bytes.slice(2)).size, 1, String(bytes));
    variable.dispose();
  });

  test('dataSync() of what the GPU has computed says what to write instead', () => {
    const tensor = onGpu(numbers(4, 1));
    assert.throws(() => tensor.dataSync(), {
      message: /^The tensor's values are on the GPU gpu:0 \(.+\n?help: await tensor\.data\(\)/s,
    });
    tensor.dispose();
  });

  test('a tensor that is larger than any buffer may be: an error, not numbers', async () => {
    const own = await setup({ index: 0, device: 'gpu:7' });
    const { maxBufferSize } = (tf.backend() as GpuBackend).device.limits;
    const huge = tf.fill([maxBufferSize / 4 + 1000], 1);
    own.read(tf.slice(huge, 0, 10), new Float32Array(10), () => assert.fail('it cannot land'));
    await assert.rejects(
      async () => own.settled(),
      (error: GpuError) => {
        assert.ok(error instanceof GpuError);
        assert.equal(error.kind, 'out-of-memory');
        assert.match(
          error.message,
          /^The GPU gpu:7 \(.+\) is out of memory, with \d+ MiB in buffers: [\s\S]*\nhelp: a smaller batch/,
        );
        return true;
      },
    );
    // It stays so: nothing that it computes is to be trusted.
    assert.throws(() => own.settled(), GpuError);
  });

  test('a device that is lost: what is on its way is an error, and so is everything from then on', async () => {
    const own = await setup({ index: 0, device: 'gpu:3' });
    const tensor = onGpu(numbers(1000, 1));
    own.read(tensor, new Float32Array(1000), () => assert.fail('it cannot land'));
    const reading = tensor.data();
    (tf.backend() as GpuBackend).device.destroy();
    const isLost = (error: GpuError) =>
      error instanceof GpuError && error.kind === 'lost' && /goes on from the last/.test(error.message);
    await assert.rejects(reading, isLost);
    await assert.rejects(async () => own.settled(), isLost);
    assert.throws(() => own.settled(), isLost);
    await assert.rejects(tensor.data(), isLost);
  });
});

test('a GPU without memory: the error says how much is in buffers', {
  skip: skip || process.platform !== 'linux',
}, () => {
  // Of a process whose memory is limited, which is the memory of a software GPU.
  const program = `
    import setup from ${JSON.stringify(new URL('./device.js', import.meta.url).href)};
    import * as tf from '@tensorflow/tfjs-core';
    const access = await setup({ index: 0, device: 'gpu:0' });
    if (!tf.backend().adapterInfo.architecture.includes('swiftshader')) { console.log('hardware'); process.exit(0); }
    const all = [];
    for (let i = 0; i < 60; i++) {
      all.push(tf.fill([2 ** 26], 1));
      access.read(tf.slice(all.at(-1), 0, 10), new Float32Array(10));
      try { await access.settled(); } catch (error) { console.log(error.name, error.kind, error.message); process.exit(0); }
    }`;
  const { stdout, stderr, status } = spawnSync(
    'bash',
    ['-c', `ulimit -v 4000000; exec "${process.execPath}" --input-type=module -e "$0"`, program],
    { encoding: 'utf8', timeout: 120_000, cwd: new URL('..', import.meta.url) },
  );
  assert.equal(status, 0, stderr);
  assert.match(
    stdout,
    /^(GpuError out-of-memory The GPU gpu:0 \(.+\) is out of memory, with [\d,]+ MiB in buffers: .*\nhelp: |hardware$)/m,
  );
});
