/** The simulator against closed forms, and what must hold for every network (property tests). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ALGORITHMS, allReduceMs, fitNetwork, type Network } from './collectives.js';
import { choosePacks, NUM_PACKS } from './packs.js';
import { type Cluster, packsOf, type StepProfile, simulateStep, slowestOf } from './simulate.js';

const MB = 1e6;
const PROFILE: StepProfile = {
  computeMs: 100,
  gradients: [
    { bytes: 4 * MB, atMs: 40 },
    { bytes: 2 * MB, atMs: 60 },
    { bytes: 2 * MB, atMs: 100 },
  ],
  updateMs: 8,
  spread: [1],
  replicas: 1,
};
/** Everything is final at the end: nothing is hidden. */
const LATE: StepProfile = { ...PROFILE, gradients: [{ bytes: 8 * MB, atMs: 100 }] };
const FREE: Network = { latencyMs: 0, bytesPerMs: Number.POSITIVE_INFINITY };
const NETWORK: Network = { latencyMs: 0.5, bytesPerMs: 100_000 };
const cluster = (more: Partial<Cluster> = {}): Cluster => ({
  ...{ workers: 4, replicas: 1, network: NETWORK, algorithm: 'ring', wire: 'f32' },
  ...more,
});
const close = (actual: number, expected: number, what = '') =>
  assert.ok(Math.abs(actual - expected) <= 1e-9 * (1 + Math.abs(expected)), `${what} ${actual}, not ${expected}`);

const networks = fc.record({
  latencyMs: fc.double({ min: 0, max: 5, noNaN: true }),
  bytesPerMs: fc.double({ min: 100, max: 1e7, noNaN: true }),
});
const anything = {
  network: networks,
  workers: fc.integer({ min: 1, max: 1024 }),
  packs: fc.integer({ min: 1, max: 64 }),
  algorithm: fc.constantFrom(...ALGORITHMS),
  wire: fc.constantFrom('f32' as const, 'bf16' as const),
  factor: fc.double({ min: 1, max: 100, noNaN: true }),
};

describe('an all-reduce', () => {
  it('takes 2(n−1)·α + 2(n−1)/n · S/β around a ring, and two messages in rank order', () => {
    for (const n of [2, 3, 8, 1024]) {
      const parts = (2 * (n - 1) * MB) / n / NETWORK.bytesPerMs;
      close(allReduceMs('ring', n, MB, NETWORK), 2 * (n - 1) * 0.5 + parts);
      close(allReduceMs('rank_order', n, MB, NETWORK), 2 * 0.5 + parts);
      close(allReduceMs('open_mpi', n, 100, NETWORK), Math.ceil(Math.log2(n)) * (0.5 + 100 / 100_000));
    }
  });

  it('takes nothing with one worker, and nothing in an ideal network', () => {
    for (const algorithm of ALGORITHMS) {
      assert.equal(allReduceMs(algorithm, 1, MB, NETWORK), 0);
      assert.equal(allReduceMs(algorithm, 64, MB, FREE), 0);
    }
  });

  it('gives its network back', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.001, max: 10, noNaN: true }),
        fc.double({ min: 1000, max: 1e8, noNaN: true }),
        fc.constantFrom('ring', 'rank_order'),
        fc.integer({ min: 2, max: 32 }),
        (latencyMs, bytesPerMs, algorithm, workers) => {
          const sizes = [1024, 65_536, 1_048_576, 67_108_864];
          const network = { latencyMs, bytesPerMs };
          const measured = sizes.map((bytes) => ({ bytes, ms: allReduceMs(algorithm, workers, bytes, network) }));
          const fitted = fitNetwork(algorithm, workers, measured);
          assert.ok(Math.abs(fitted.latencyMs / latencyMs - 1) < 1e-3, `${fitted.latencyMs} instead of ${latencyMs}`);
          assert.ok(Math.abs(fitted.bytesPerMs / bytesPerMs - 1) < 1e-3, `${fitted.bytesPerMs} of ${bytesPerMs}`);
        },
      ),
    );
    assert.throws(() => fitNetwork('ring', 2, [{ bytes: 1, ms: 1 }]), /two sizes/);
    // By hand, with two workers (a ring's message count is 2, its bytes S): where one of the two would be negative, the other one is fitted
    // alone. 1/β: Σ(S/t) / Σ(S/t)² = (10 + 2) / (100 + 4) without α; α: Σ(2/t) / Σ(2/t)² = (1 + 2) / (1 + 4) without 1/β.
    const steep = fitNetwork('ring', 2, [
      { bytes: 10, ms: 1 },
      { bytes: 100, ms: 50 },
    ]);
    assert.equal(steep.latencyMs, 0);
    assert.ok(Math.abs(1 / steep.bytesPerMs - (10 + 2) / (100 + 4)) < 1e-12);
    const falling = fitNetwork('ring', 2, [
      { bytes: 10, ms: 2 },
      { bytes: 1000, ms: 1 },
    ]);
    assert.deepEqual(falling, { latencyMs: (1 + 2) / (1 + 4), bytesPerMs: Number.POSITIVE_INFINITY });
  });
});

describe('packs', () => {
  it('are equal, and ready with their last gradient', () => {
    assert.deepEqual(packsOf(PROFILE, 1), [{ bytes: 8 * MB, readyMs: 100 }]);
    assert.deepEqual(packsOf(PROFILE, 2), [
      { bytes: 4 * MB, readyMs: 40 },
      { bytes: 4 * MB, readyMs: 100 },
    ]);
    // The third quarter ends with the second gradient, at 6 MB.
    assert.deepEqual(
      packsOf(PROFILE, 4).map(({ readyMs }) => readyMs),
      [40, 40, 60, 100],
    );
    // The first third ends within the first gradient, the second one within the second.
    assert.deepEqual(
      packsOf(PROFILE, 3).map(({ readyMs }) => readyMs),
      [40, 60, 100],
    );
  });
});

describe('a simulated step', () => {
  it('of one worker is computing and the update, whatever the network and the packs', () => {
    for (const packs of [1, 2, 8]) close(simulateStep(PROFILE, packs, cluster({ workers: 1 })).stepMs, 108);
  });

  it('in an ideal network is that of one worker', () => {
    for (const workers of [2, 64]) close(simulateStep(PROFILE, 4, cluster({ workers, network: FREE })).stepMs, 108);
  });

  it('that hides nothing is the sum of its parts', () => {
    for (const workers of [2, 16]) {
      const step = simulateStep(LATE, 1, cluster({ workers }));
      close(step.stepMs, 100 + 2 * (workers - 1) * 0.5 + (2 * (workers - 1) * 8 * MB) / workers / 100_000 + 8);
      close(step.latencyMs, 2 * (workers - 1) * 0.5);
      close(step.updateMs, 8);
    }
  });

  it('hides what is on its way while it computes: by hand, for two packs', () => {
    // 4 MB leave at 40 and take 3·2·0.5 + 1.5·4e6/1e5 = 63 ms: until 103. The second one until 166, and half of the update follows.
    close(simulateStep(PROFILE, 2, cluster()).stepMs, 40 + 63 + 63 + 4);
    // Half as many bytes: 33 ms each; the second one waits for its gradients, until 100.
    close(simulateStep(PROFILE, 2, cluster({ wire: 'bf16' })).stepMs, 100 + 33 + 4);
  });

  it('waits for the slowest: the mean of the largest of n draws', () => {
    close(slowestOf([1, 2, 3, 4], 1), 2.5);
    close(slowestOf([1, 2], 2), 1.75);
    close(slowestOf([1, 2, 3], 1000), 3);
    const spread = [0.9, 1, 1.1];
    const step = simulateStep({ ...PROFILE, spread }, 1, cluster({ workers: 1000, network: FREE }));
    // One replica's own steps are 1 on average.
    close(step.stragglerMs, 10);
    close(step.stepMs, 118);
  });

  it('is never slower with more bandwidth, less latency, or fewer bytes', () => {
    fc.assert(
      fc.property(fc.record(anything), ({ network, packs, factor, ...rest }) => {
        const step = (more: Partial<Cluster>) =>
          simulateStep(PROFILE, packs, cluster({ network, ...rest, ...more })).stepMs * (1 - 1e-12);
        const now = step({}) / (1 - 1e-12);
        assert.ok(step({ network: { ...network, bytesPerMs: network.bytesPerMs * factor } }) <= now);
        assert.ok(step({ network: { ...network, latencyMs: network.latencyMs / factor } }) <= now);
        assert.ok(step({ wire: 'bf16' }) <= step({ wire: 'f32' }) / (1 - 1e-12));
      }),
    );
  });

  it('is the sum of its parts, none of which is negative', () => {
    fc.assert(
      fc.property(fc.record(anything), ({ packs, factor: _, ...rest }) => {
        const { stepMs, ...parts } = simulateStep(PROFILE, packs, cluster(rest));
        close(
          Object.values(parts).reduce((sum, part) => sum + part, 0),
          stepMs,
        );
        for (const [name, part] of Object.entries(parts)) assert.ok(part >= -1e-9, `${name}: ${part}`);
      }),
    );
  });
});

describe('the choice of packs', () => {
  it('is the fastest of all cuts; of equal ones that with the fewest packs', () => {
    fc.assert(
      fc.property(fc.record(anything), ({ packs: _, factor: __, ...rest }) => {
        const options = choosePacks(PROFILE, cluster(rest));
        const [best] = options as [(typeof options)[0]];
        for (const count of NUM_PACKS) {
          const { stepMs } = simulateStep(PROFILE, count, cluster(rest));
          assert.ok(best.step.stepMs <= stepMs * 1.010001, `${count} packs take ${stepMs}`);
          // Within a hundredth of each other the fewest count.
          if (stepMs < best.step.stepMs * (1 - 1e-9)) assert.ok(best.numPacks <= count);
        }
      }),
    );
    // Nothing is there to be hidden, and messages cost: a pack more than one is 3 ms.
    assert.equal(choosePacks({ ...LATE, updateMs: 0 }, cluster())[0]?.cut, 1);
  });

  it('has the cut by size among it where a model is longer than one such pack', () => {
    const sizes = (bytes: number) => choosePacks({ ...PROFILE, gradients: [{ bytes, atMs: 10 }] }, cluster()).length;
    assert.equal(sizes(8 * MB), NUM_PACKS.length);
    assert.equal(sizes(100 * MB), NUM_PACKS.length + 1);
    // By hand: 2^22 elements in a part of 2^17, one of 2^18, 2^19 and 2^20, and the rest; they leave from the last on.
    const gradients = [{ bytes: 4 * 2 ** 22, atMs: 50 }];
    const profile = { ...PROFILE, gradients, computeMs: 50, updateMs: 0 };
    const tapered = choosePacks(profile, cluster()).find(({ cut }) => cut === 'by_size');
    assert.equal(tapered?.numPacks, 5);
    const sizesByHand = [2 ** 22 - 2 ** 21 + 2 ** 17, 2 ** 20, 2 ** 19, 2 ** 18, 2 ** 17].map((length) => 4 * length);
    close(tapered?.step.stepMs as number, simulateStep(profile, sizesByHand, cluster()).stepMs);
  });
});
