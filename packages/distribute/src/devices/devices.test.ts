/** Devices: core shares on invented machines, names, providers, and what a thread is really bound to. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { allowedCpus } from '../host/affinity.js';
import {
  canonicalDeviceName,
  type DeviceOffer,
  type DeviceProvider,
  listDevices,
  registerDeviceProvider,
  resolveDevices,
  unregisterDeviceProvider,
} from './device.js';
import { divideCores, physicalCores } from './topology.js';

/** A machine of `sockets` × `cores` × `siblings`, numbered as Linux does: first all first siblings, then the second ones. */
function inventMachine(sockets: number, cores: number, siblings: number, cpuMax?: string): string {
  const root = mkdtempSync(join(tmpdir(), 'lockstep-topology-'));
  for (let cpu = 0; cpu < sockets * cores * siblings; cpu++) {
    const topology = join(root, `devices/system/cpu/cpu${cpu}/topology`);
    mkdirSync(topology, { recursive: true });
    const index = cpu % (sockets * cores);
    writeFileSync(join(topology, 'physical_package_id'), `${Math.floor(index / cores)}\n`);
    writeFileSync(join(topology, 'core_id'), `${index % cores}\n`);
  }
  if (cpuMax) {
    mkdirSync(join(root, 'fs/cgroup'), { recursive: true });
    writeFileSync(join(root, 'fs/cgroup/cpu.max'), cpuMax);
  }
  return root;
}

describe('physical cores', () => {
  const roots: string[] = [];
  const machine = (...args: Parameters<typeof inventMachine>) => {
    const root = inventMachine(...args);
    roots.push(root);
    return root;
  };
  after(() => {
    for (const root of roots) rmSync(root, { recursive: true });
  });
  const cpus = (count: number) => Array.from({ length: count }, (_, i) => i);

  test('hardware threads of one core count once, equal core ids of two sockets count twice', () => {
    assert.deepEqual(physicalCores(cpus(8), machine(2, 2, 2)), [
      [0, 4],
      [1, 5],
      [2, 6],
      [3, 7],
    ]);
  });
  test('only allowed CPUs count', () => {
    assert.deepEqual(physicalCores([1, 4, 5], machine(2, 2, 2)), [[1, 5], [4]]);
  });
  test('without topology every CPU is a core', () => {
    assert.deepEqual(physicalCores([0, 3], '/nonexistent'), [[0], [3]]);
  });
  test("a container's quota limits the cores", () => {
    assert.equal(physicalCores(cpus(8), machine(1, 8, 1, '150000 100000\n')).length, 2);
    assert.equal(physicalCores(cpus(8), machine(1, 8, 1, 'max 100000\n')).length, 8);
    assert.equal(physicalCores(cpus(8), machine(1, 8, 1, '1000 100000\n')).length, 1);
  });
  test('this machine has at least one, all of them allowed', () => {
    const allowed = new Set(allowedCpus());
    const cores = physicalCores();
    assert.ok(cores.length >= 1);
    for (const cpu of cores.flat()) assert.ok(allowed.has(cpu));
  });
});

describe('division of cores', () => {
  test('equal shares of whole cores; the rest serves the input pipeline', () => {
    const cores = [
      [0, 8],
      [1, 9],
      [2, 10],
      [3, 11],
      [4, 12],
      [5, 13],
      [6, 14],
      [7, 15],
    ];
    assert.deepEqual(divideCores(cores, 3), [
      { cpus: [0, 8, 1, 9], cores: 2 },
      { cpus: [2, 10, 3, 11], cores: 2 },
      { cpus: [4, 12, 5, 13], cores: 2 },
    ]);
  });
  test('more replicas than cores take hardware threads singly', () => {
    const shares = divideCores(
      [
        [0, 2],
        [1, 3],
      ],
      4,
    );
    assert.deepEqual(
      shares.map((share) => share.cpus),
      [[0], [1], [2], [3]],
    );
  });
  test('never the same CPU twice while there are enough, never more than one apart otherwise', () => {
    const machines = fc.tuple(
      fc.integer({ min: 1, max: 16 }),
      fc.integer({ min: 1, max: 2 }),
      fc.integer({ min: 1, max: 40 }),
    );
    fc.assert(
      fc.property(machines, ([count, siblings, replicas]) => {
        const cores = Array.from({ length: count }, (_, i) =>
          Array.from({ length: siblings }, (_, s) => i + s * count),
        );
        const shares = divideCores(cores, replicas);
        assert.equal(shares.length, replicas);
        const used = new Map<number, number>();
        for (const cpu of shares.flatMap((share) => share.cpus)) used.set(cpu, (used.get(cpu) ?? 0) + 1);
        const most = Math.max(...used.values());
        if (replicas <= count * siblings) assert.equal(most, 1);
        else assert.ok(most <= Math.ceil(replicas / (count * siblings)));
        for (const share of shares) assert.ok(share.cores >= 1 && share.cores <= Math.max(1, count / replicas));
      }),
    );
  });
});

describe('device names', () => {
  test('all of TensorFlow’s ways of writing one', () => {
    for (const name of [
      'cpu:0',
      'CPU:0',
      'cpu',
      'device:CPU:0',
      '/device:CPU:0',
      '/job:localhost/replica:0/task:0/device:CPU:0',
    ]) {
      assert.equal(canonicalDeviceName(name), 'cpu:0');
    }
    assert.equal(canonicalDeviceName('/gpu:3'), 'gpu:3');
  });
  test('others are refused with what to write', () => {
    for (const name of ['', 'tpu:0', 'cpu:x', 'cpu0', '/job:worker/device:CPU:0']) {
      assert.throws(() => canonicalDeviceName(name), /is not the name of a device\.\nhelp:/);
    }
  });
});

describe('providers', () => {
  const fake = (name: string, priority: number, devices: DeviceOffer[]): DeviceProvider => ({
    name,
    priority,
    backendModule: `file:///${name}.js`,
    devices: () => devices,
  });

  test("as many CPU devices as asked for; TensorFlow.js' cpu backend by default", () => {
    assert.deepEqual(
      listDevices({ numCpus: 5 }).map((device) => device.name),
      ['cpu:0', 'cpu:1', 'cpu:2', 'cpu:3', 'cpu:4'],
    );
    assert.ok(listDevices({ numCpus: 2 }).every((device) => device.provider === 'cpu' && device.type === 'CPU'));
    assert.equal(listDevices().length, physicalCores().length);
    assert.equal(listDevices({ numCpus: 3, threadsPerReplica: 7 })[1]?.threads, 7);
    for (const numCpus of [0, -2, 1.5])
      assert.throws(() => listDevices({ numCpus }), /numCpus must be a positive integer/);
  });

  test('the highest priority wins for its type; GPUs come first', () => {
    registerDeviceProvider(fake('low', 1, [{ type: 'CPU', index: 0 }]));
    registerDeviceProvider(
      fake('high', 2, [
        { type: 'CPU', index: 0 },
        { type: 'GPU', index: 3, label: 'a fast one', memoryBytes: 2 ** 30 },
        { type: 'GPU', index: 1 },
      ]),
    );
    try {
      const devices = listDevices({ numCpus: 1 });
      assert.deepEqual(
        devices.map((device) => `${device.name} ${device.provider}`),
        ['gpu:0 high', 'gpu:1 high', 'cpu:0 high'],
      );
      assert.deepEqual(
        resolveDevices(['gpu:1', 'cpu:5']).map((device) => device.name),
        ['gpu:1', 'cpu:5'],
      );
      // Names count what is there; the index is the provider's, by which its backend finds the device.
      assert.deepEqual(
        resolveDevices(['gpu:0', 'gpu:1', 'cpu:5']).map(({ index, label, memoryBytes }) => ({
          index,
          label,
          memoryBytes,
        })),
        [
          { index: 3, label: 'a fast one', memoryBytes: 2 ** 30 },
          { index: 1, label: undefined, memoryBytes: undefined },
          { index: 5, label: undefined, memoryBytes: undefined },
        ],
      );
    } finally {
      unregisterDeviceProvider('high');
      unregisterDeviceProvider('low');
    }
    assert.equal(listDevices({ numCpus: 1 })[0]?.provider, 'cpu');
  });

  test('an index that is none, or offered twice, is refused with the provider', () => {
    for (const [indices, message] of [
      [[0, 0], /'odd' offers a GPU with index 0, twice\.\nhelp:/],
      [[-1], /'odd' offers a GPU with index -1, which is none\.\nhelp:/],
      [[undefined as never], /'odd' offers a GPU with index undefined, which is none\.\nhelp:/],
    ] as const) {
      const offers = indices.map((index): DeviceOffer => ({ type: 'GPU', index }));
      registerDeviceProvider(fake('odd', 1, offers));
      try {
        assert.throws(() => listDevices(), { name: 'RangeError', message });
      } finally {
        unregisterDeviceProvider('odd');
      }
    }
  });

  test('one that another module put under the symbol counts, is replaced by name, and stays out once taken out', () => {
    const key = Symbol.for('lockstep.deviceProviders');
    const registry = (globalThis as { [key]?: Map<string, DeviceProvider | null> })[key];
    assert.ok(registry, 'is there since this package was imported');
    const provider = () => listDevices({ numCpus: 1 })[0]?.backendModule;
    try {
      registry.set('other', fake('other', 5, [{ type: 'CPU', index: 0 }]));
      assert.equal(provider(), 'file:///other.js');
      registerDeviceProvider({ ...fake('other', 5, [{ type: 'CPU', index: 0 }]), backendModule: 'file:///second.js' });
      assert.equal(provider(), 'file:///second.js');
    } finally {
      unregisterDeviceProvider('other');
    }
    // What an import looks at before it registers.
    assert.equal(registry.has('other'), true);
    assert.match(provider() ?? '', /cpu-backend\.js$/);
    unregisterDeviceProvider('cpu');
    assert.match(provider() ?? '', /cpu-backend\.js$/, "TensorFlow.js' own stays");
    for (const name of ['other', 'cpu']) registry.delete(name);
  });

  describe('a GPU that is not there is named, with what is and what to do', () => {
    const offers = (count: number): DeviceOffer[] =>
      Array.from({ length: count }, (_, index) => ({ type: 'GPU', index, ...(index === 0 && { label: 'Card X' }) }));
    const gpus = (count: number, remark?: string): DeviceProvider => ({
      ...{ name: 'gpus', priority: 1, types: ['GPU'], backendModule: 'file:///gpu.js', devices: () => offers(count) },
      ...(remark !== undefined && { remark: () => remark }),
    });
    const refused = (message: RegExp) => assert.throws(() => resolveDevices(['gpu:0', 'gpu:2']), { message });
    after(() => unregisterDeviceProvider('gpus'));

    test('where no provider knows of GPUs', () => {
      refused(/^Device gpu:0 is not available: no GPU is offered here\.\nhelp: .*`npm install @lockstep\/webgpu`/);
    });
    test('where one found none, and says why', () => {
      registerDeviceProvider(gpus(0, 'The driver is too old.\nhelp: another one.'));
      refused(
        /^Device gpu:0 is not available: no GPU is offered here\.\nThe driver is too old\.\nhelp: another one\.$/,
      );
    });
    test('where there are fewer', () => {
      registerDeviceProvider(gpus(2));
      refused(/^Device gpu:2 is not available: the GPUs here are gpu:0 \(Card X\), gpu:1\.\nhelp: /);
    });
    test('where all are asked for: none is no error', () => {
      registerDeviceProvider(gpus(2));
      assert.deepEqual(
        resolveDevices(['gpu:1', 'gpu:0']).map(({ index }) => index),
        [1, 0],
      );
    });
  });

  test('a provider of GPUs is not asked for them by a program that names CPU devices', () => {
    const devices = () => assert.fail('it looks for GPUs');
    registerDeviceProvider({ name: 'shy', priority: 99, types: ['GPU'], backendModule: 'file:///shy.js', devices });
    try {
      assert.deepEqual(
        resolveDevices(['cpu:0', 'cpu:1']).map(({ name }) => name),
        ['cpu:0', 'cpu:1'],
      );
    } finally {
      unregisterDeviceProvider('shy');
    }
  });
});
