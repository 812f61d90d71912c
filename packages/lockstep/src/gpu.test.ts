/**
 * Strategies on GPUs of @lockstep/webgpu: the cases that every strategy passes, on one, on two, and on a GPU beside a CPU device; and the
 * same bits as TensorFlow.js' `cpu` where the arithmetic has no rounding.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import '@lockstep/webgpu';
import { createCrossDeviceOps, listDevices, MirroredStrategy, OneDeviceStrategy } from '@lockstep/distribute';

/** Files for tests, which packages do not export. */
const testing = (name: string, path: string) => new URL(path, import.meta.resolve(name)).href;
const { whyNoGpu } = (await import(testing('@lockstep/webgpu', './testing/software-gpu.js'))) as {
  whyNoGpu(): string;
};
const { strategyCases } = (await import(testing('@lockstep/distribute', './strategy/testing/strategy-cases.js'))) as {
  strategyCases(name: string, make: () => OneDeviceStrategy | MirroredStrategy, selection: string, skip: string): void;
};

const why = whyNoGpu();
const skip = why || false;
const mirrored = (devices: string[]) =>
  new MirroredStrategy({ devices, crossDeviceOps: createCrossDeviceOps('sharded', 3), log: () => {} });

strategyCases('OneDeviceStrategy on gpu:0', () => new OneDeviceStrategy('gpu:0'), 'distant', why);
strategyCases('MirroredStrategy on gpu:0 and gpu:1', () => mirrored(['gpu:0', 'gpu:1']), 'distant', why);
strategyCases('MirroredStrategy on gpu:0 and cpu:0', () => mirrored(['gpu:0', 'cpu:0']), 'distant', why);

describe('devices', { skip }, () => {
  test('GPUs come first, with what is known of them', () => {
    const devices = listDevices({ numCpus: 1 });
    assert.deepEqual(
      devices.map(({ name }) => name),
      ['gpu:0', 'gpu:1', 'cpu:0'],
    );
    for (const { type, provider, label, facts } of devices.slice(0, 2)) {
      assert.deepEqual([type, provider], ['GPU', 'webgpu']);
      assert.ok(label);
      assert.ok(facts?.vendor);
      assert.ok((facts?.maxBufferBytes ?? 0) >= 2 ** 28, 'what WebGPU guarantees at least');
      assert.ok(Array.isArray(facts?.features));
    }
  });

  test('MirroredStrategy without names takes all GPUs', () => {
    const lines: string[] = [];
    const strategy = new MirroredStrategy({ log: (line) => lines.push(line) });
    assert.deepEqual(
      strategy.devices.map(({ name }) => name),
      ['gpu:0', 'gpu:1'],
    );
    assert.match(lines.join(), /^MirroredStrategy on gpu:0, gpu:1 \(webgpu\): /);
  });

  test('one more than there are: the error lists those', () => {
    assert.throws(() => mirrored(['gpu:0', 'gpu:2']), {
      message:
        /^Device gpu:2 is not available: the GPUs here are gpu:0 \(.+\), gpu:1 \(.+\)\.\nhelp: .*LOCKSTEP_LOGICAL_GPUS/,
    });
  });

  test("nccl is CUDA's alone: the error says what to use instead", () => {
    const make = () =>
      new MirroredStrategy({ devices: ['gpu:0', 'gpu:1'], crossDeviceOps: createCrossDeviceOps('nccl', 1) });
    assert.throws(make, {
      message:
        "NCCL all-reduce works on NVIDIA devices only, and gpu:0 is a GPU device of provider 'webgpu', whose memory NCCL cannot reach: " +
        "it takes CUDA's.\nhelp: all_reduce_alg=hierarchical_copy works here; with none given, Lockstep chooses (sharded).",
    });
  });
});

describe('lockstep devices', () => {
  const devices = (environment: Record<string, string>, ...flags: string[]) => {
    const program = fileURLToPath(new URL('../bin/lockstep.js', import.meta.url));
    const args = [program, 'devices', '--backend=cpu', '--num_cpus=1', ...flags];
    const env = { ...process.env, ...environment };
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000, env });
    assert.equal(status, 0, stderr);
    assert.equal(stderr, '');
    return stdout;
  };

  test('lists GPUs, with what they are', { skip }, () => {
    const lines = devices({}).trim().split('\n');
    assert.match(lines[1] ?? '', /^gpu:0 +GPU +webgpu +\S.* \(.*tensors up to [\d,]+ MiB.*\)$/);
    assert.match(lines[2] ?? '', /^gpu:1 /);
    assert.match(lines[3] ?? '', /^cpu:0 +CPU +cpu +0/);
    const [first] = JSON.parse(devices({}, '--json')) as { name: string; facts: { features: string[] } }[];
    assert.equal(first?.name, 'gpu:0');
    assert.ok((first?.facts.features.length ?? 0) > 1);
  });

  test('without one it says why, and lists the CPU', { skip: process.platform !== 'linux' }, () => {
    const text = devices({ VK_ICD_FILENAMES: '/nonexistent.json', VK_DRIVER_FILES: '/nonexistent.json' });
    assert.match(
      text,
      /^cpu:0 .*\n\nGPUs: no GPU is offered here\.\nWebGPU found no GPU\.\nhelp: a driver for Vulkan/m,
    );
  });
});

describe('weights', { skip }, () => {
  const module = new URL(testing('@lockstep/distribute', './testing/trainer-replica.js'));
  const momentum = { kind: 'momentum', momentum: 0.75 };
  const tasks = {
    'one call, one update': { options: { optimizer: momentum }, calls: 4 },
    'gradients of two calls added up': { options: { optimizer: momentum, accumulateSteps: 2 }, calls: 5 },
    'a batch as arguments': { options: { optimizer: momentum, accumulateSteps: 2 }, calls: 5, recorded: true },
  };
  for (const [name, task] of Object.entries(tasks)) {
    test(`${name}: bit by bit those of cpu, on one and two GPUs, and on both kinds of devices`, async () => {
      for (const [gpus, cpus] of [
        [['gpu:0'], ['cpu:0']],
        [
          ['gpu:0', 'gpu:1'],
          ['cpu:0', 'cpu:1'],
        ],
        [
          ['cpu:0', 'gpu:1'],
          ['cpu:0', 'cpu:1'],
        ],
      ] as const) {
        const found = await mirrored([...gpus]).run(module, task);
        assert.deepEqual(found, await mirrored([...cpus]).run(module, task), gpus.join());
      }
    });
  }
});
