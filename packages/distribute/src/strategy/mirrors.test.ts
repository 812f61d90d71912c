/** Replicas on threads are mirrors, and programs that would part them are refused: the scenes of testing/mirrors.ts. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type DeviceProvider, registerDeviceProvider } from '../devices/device.js';
import { MirroredStrategy } from './mirrored-strategy.js';
import { OneDeviceStrategy } from './one-device-strategy.js';
import type { Strategy } from './strategy.js';
import { mirrorCases } from './testing/mirror-cases.js';

// A backend that records steps and updates weights in place has to keep the invariant, too.
const provider = process.env.LOCKSTEP_TEST_PROVIDER;
if (provider) registerDeviceProvider(((await import(provider)) as { deviceProvider: DeviceProvider }).deviceProvider);

const scenes = new URL('./testing/mirrors.js', import.meta.url);

function mirrored(count: number): Strategy {
  return new MirroredStrategy({ devices: Array.from({ length: count }, (_, i) => `cpu:${i}`), log: () => {} });
}

for (const count of [2, 3]) {
  describe(`${count} replicas on threads`, () => {
    mirrorCases({ count, processes: 1, run: (args) => mirrored(count).run(scenes, args) });
  });
}

describe('what is handed to a strategy', () => {
  test('options of run() are checked before anything starts', async () => {
    const refused: [object, RegExp][] = [
      [{ timeoutSeconds: Number.NaN }, /^timeoutSeconds must be a number of seconds, .*, got NaN/],
      [{ timeoutSeconds: 0 }, /^timeoutSeconds .* got 0/],
      [{ timeoutSeconds: 1e9 }, /^timeoutSeconds must be .* at most 2,147,483 \(24 days\), got 1000000000/],
      [{ graceSeconds: -1 }, /^graceSeconds .* got -1/],
      [{ graceSeconds: '3' }, /^graceSeconds .* got 3/],
      [{ onReport: 'x' }, /^onReport must be a function, got string/],
      [{ signal: new AbortController() }, /^signal must be an AbortSignal, got object/],
      [{ bindThreads: 1 }, /^bindThreads must be true or false, got 1/],
      [{ threadsPerReplica: 1.5 }, /^threadsPerReplica must be a positive integer, got 1\.5/],
    ];
    for (const strategy of [mirrored(2), new OneDeviceStrategy()]) {
      for (const [options, message] of refused) {
        await assert.rejects(strategy.run(scenes, { scene: 'merge' }, options), { message });
      }
    }
  });

  test('packs, devices and cross-device ops', () => {
    for (const numPacks of [0, -1, 1.5, Number.NaN, '2']) {
      assert.throws(() => new MirroredStrategy({ numPacks: numPacks as number, log: () => {} }), RangeError);
    }
    assert.throws(
      () => new MirroredStrategy({ devices: 'cpu:0' as never }),
      /devices must be a list of names, got string/,
    );
    assert.throws(
      () => new MirroredStrategy({ crossDeviceOps: 'nccl' as never }),
      /must be cross-device ops, got nccl/,
    );
  });
});
