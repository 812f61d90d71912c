/** The shared cases for every algorithm of replicas that share memory, and what each alone promises. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runOnThreads } from '../communicator/testing/ranks.js';
import { MirroredStrategy } from '../strategy/mirrored-strategy.js';
import { ALL_REDUCE_ALGORITHMS, createCrossDeviceOps, createCrossDeviceOpsFromConfig } from './create.js';
import { HierarchicalCopyAllReduce, halfOf, mainsOf } from './hierarchical-copy-all-reduce.js';
import { NcclAllReduce } from './nccl-all-reduce.js';
import { ReductionToOneDevice } from './reduction-to-one-device.js';
import { ShardedAllReduce } from './sharded-all-reduce.js';
import { add, crossDeviceOpsCases } from './testing/cross-device-ops.cases.js';

const inRankOrder = (values: readonly number[]) => values.reduce(add);

crossDeviceOpsCases({ algorithm: 'sharded', sum: inRankOrder });
crossDeviceOpsCases({ algorithm: 'reduction_to_one_device', sum: inRankOrder });
crossDeviceOpsCases({
  algorithm: 'hierarchical_copy',
  // Half and half, each in rank order, the odd one in the second half.
  sum: (values) => {
    const g = Math.floor(values.length / 2);
    return g === 0 ? (values[0] as number) : add(inRankOrder(values.slice(0, g)), inRankOrder(values.slice(g)));
  },
});

describe('HierarchicalCopyAllReduce', () => {
  const mains = (size: number, packs = size) =>
    Array.from({ length: packs }, (_, pack) => {
      const { a, b } = mainsOf(pack, size);
      return [a, b];
    });

  it('rotates its mains as upstream for even numbers of devices', () => {
    assert.deepEqual(mains(8), [
      [0, 4],
      [1, 5],
      [2, 6],
      [3, 7],
      [4, 0],
      [5, 1],
      [6, 2],
      [7, 3],
    ]);
    assert.deepEqual(mains(4), [
      [0, 2],
      [1, 3],
      [2, 0],
      [3, 1],
    ]);
    assert.deepEqual(mains(2, 3), [
      [0, 1],
      [1, 0],
      [0, 1],
    ]);
  });

  it('for every number of devices: two halves that are all devices, one main in each, every device a main A once', () => {
    for (let size = 1; size <= 17; size++) {
      const g = Math.floor(size / 2);
      const halves = [halfOf(0, size), halfOf(size - 1, size)];
      if (size > 1) {
        assert.deepEqual(
          halves.flat(),
          Array.from({ length: size }, (_, i) => i),
        );
        assert.equal(halves[0]?.length, g);
      }
      const seen = mains(size);
      assert.equal(new Set(seen.map(([a]) => a)).size, size);
      for (const [a, b] of seen) {
        assert.deepEqual(
          [halves[0], halves[1]].filter((half) => half?.includes(a as number) && half.includes(b as number)).length,
          size === 1 ? 2 : 0,
          `${size} devices, mains ${a} and ${b} are in different halves`,
        );
      }
    }
  });
});

describe('ReductionToOneDevice', () => {
  it('sums on the replica that is named, and refuses one that there is not', async () => {
    const scenes = new URL('./testing/one-device.js', import.meta.url);
    for (const target of [0, 2]) {
      for (const outcome of await runOnThreads(scenes, 3, 'sum', { target }, { timeoutMs: 20_000 })) {
        assert.deepEqual(outcome, { kind: 'value', value: [6, 6, 6, 6, 6] });
      }
    }
    for (const outcome of await runOnThreads(scenes, 3, 'sum', { target: 3 }, { timeoutMs: 20_000 })) {
      assert.match((outcome as { message: string }).message, /reduceToDevice 3 is not a replica; replicas are 0 to 2/);
    }
  });
});

describe('NcclAllReduce', () => {
  const cpu = { name: 'cpu:0', type: 'CPU', provider: 'onednn' };
  it('takes NVIDIA devices only, and a strategy with it cannot be made elsewhere', () => {
    new NcclAllReduce().checkDevices([{ name: 'gpu:0', type: 'GPU', provider: 'nvidia' }]);
    const refused =
      /NCCL all-reduce works on NVIDIA devices only, and cpu:0 is a CPU device of provider '.+'\.\nhelp: all_reduce_alg=hierarchical_copy works here; with none given, Lockstep chooses \(sharded\)\.$/;
    assert.throws(() => new NcclAllReduce().checkDevices([cpu]), refused);
    assert.throws(
      () => new NcclAllReduce().checkDevices([{ name: 'gpu:0', type: 'GPU', provider: 'webgpu' }]),
      /gpu:0 is a GPU device of provider 'webgpu'/,
    );
    assert.throws(
      () => new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], crossDeviceOps: new NcclAllReduce(2) }),
      refused,
    );
    assert.throws(() => new NcclAllReduce().reducePacks(), /the replicas of this process share main memory/);
  });
});

describe('numbers of packs and names', () => {
  it('num_packs ≤ 0 has upstream 2.0’s message, of each class', () => {
    const messages: [(packs: number) => unknown, string][] = [
      [(packs) => new NcclAllReduce(packs), 'NCCL all-reduce requires num_packs > 0, but {} is specified'],
      [(packs) => new HierarchicalCopyAllReduce(packs), 'HierarchicalCopy requires num_packs > 0, but {} is specified'],
      [(packs) => new ShardedAllReduce(packs), 'ShardedAllReduce requires num_packs > 0, but {} is specified'],
      [
        (packs) => new ReductionToOneDevice(0, packs),
        'ReductionToOneDevice requires num_packs > 0, but {} is specified',
      ],
    ];
    for (const [make, message] of messages) {
      for (const packs of [0, -1, 1.5, Number.NaN]) {
        assert.throws(() => make(packs), { name: 'RangeError', message: message.replace('{}', `${packs}`) });
      }
      make(1);
      make(1000);
    }
  });

  it('every algorithm has a name and survives the way to a thread', () => {
    assert.deepEqual([...ALL_REDUCE_ALGORITHMS].sort(), [
      'hierarchical_copy',
      'nccl',
      'reduction_to_one_device',
      'sharded',
    ]);
    for (const algorithm of ALL_REDUCE_ALGORITHMS) {
      const ops = createCrossDeviceOps(algorithm, 3);
      const copy = createCrossDeviceOpsFromConfig(structuredClone(ops.toConfig()));
      assert.deepEqual([copy.algorithm, copy.numPacks, copy.constructor], [algorithm, 3, ops.constructor]);
    }
    const far = createCrossDeviceOpsFromConfig(new ReductionToOneDevice(2, 4).toConfig()) as ReductionToOneDevice;
    assert.deepEqual([far.reduceToDevice, far.numPacks], [2, 4]);
    assert.equal(`${new HierarchicalCopyAllReduce(8)}`, 'HierarchicalCopyAllReduce(num_packs=8)');
    assert.throws(() => createCrossDeviceOps('ring'), /no all-reduce algorithm 'ring'\.\nhelp: choose one of nccl, /);
  });
});
