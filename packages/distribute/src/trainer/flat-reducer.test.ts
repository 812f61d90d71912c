/**
 * FlatReducer: the fused pass gives the bits of a sum followed by an update, for every number of packs and replicas; packs go
 * as soon as they are full; steps with numbers that are not finite; and its refusals.
 */

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { joinSharedMemoryGroup } from '../communicator/shared-memory-communicator.js';
import { createSharedMemoryGroup } from '../communicator/shared-memory-group.js';
import { runOnThreads } from '../communicator/testing/ranks.js';
import { hashOf } from '../cross-device-ops/testing/cross-device-ops.scenes.js';
import { plainKernels } from '../simd/plain-kernels.js';
import { FlatReducer, type FlatReducerOptions } from './flat-reducer.js';
import type { OptimizerConfig } from './optimizers/create.js';
import type { FlatSegment } from './reducer.js';
import { gradientAt, type ReducerRecipe, weightAt } from './testing/flat-reducer.scenes.js';

const SCENES = new URL('./testing/flat-reducer.scenes.js', import.meta.url);

async function run<T>(size: number, scene: string, args: object): Promise<T[]> {
  const outcomes = await runOnThreads(SCENES, size, scene, args, { timeoutMs: 60_000 });
  return outcomes.map((outcome, rank) => {
    assert.equal(outcome.kind, 'value', `rank ${rank}: ${JSON.stringify(outcome)}`);
    return (outcome as { value: T }).value;
  });
}

/** Five segments with two weight decays, one of them across chunks and packs, and a gap in which nothing is trained. */
function segmentsOf(elements: number): FlatSegment[] {
  const cut = [0, 0.1, 0.1, 0.7, 0.8].map((share) => Math.floor(share * elements));
  return [
    { name: 'a', offset: cut[0] as number, length: (cut[1] as number) - (cut[0] as number), weightDecay: 0.01 },
    { name: 'empty', offset: cut[1] as number, length: 0, weightDecay: 0.5 },
    { name: 'b', offset: cut[2] as number, length: (cut[3] as number) - (cut[2] as number) },
    { name: 'c', offset: cut[4] as number, length: elements - (cut[4] as number), weightDecay: 0.02 },
  ];
}

/** Sum in rank order, then update, segment by segment on plain arrays: what a step means. */
function byHand(size: number, steps: number, { elements, segments, optimizer }: ReducerRecipe) {
  const weights = Float32Array.from({ length: elements }, (_, i) => weightAt(i));
  const momentum = new Float32Array(elements);
  const sums: number[] = [];
  for (let step = 0; step < steps; step++) {
    const sum = new Float32Array(elements);
    for (const { offset, length } of segments) {
      for (let i = offset; i < offset + length; i++) {
        let total = gradientAt(step, 0, i);
        for (let rank = 1; rank < size; rank++) total = Math.fround(total + gradientAt(step, rank, i));
        sum[i] = total;
      }
    }
    sums.push(hashOf(sum));
    for (const { offset, length, weightDecay = 0 } of segments) {
      const of = (array: Float32Array) => array.subarray(offset, offset + length);
      const numbers = [1 / size, weightDecay, 0.1];
      if (optimizer.kind === 'momentum') {
        const loop = optimizer.nesterov ? 'nesterov' : 'momentum';
        plainKernels.update(loop, of(weights), [of(momentum)], [of(sum)], [...numbers, optimizer.momentum]);
      } else plainKernels.update('sgd', of(weights), [], [of(sum)], numbers);
    }
  }
  return { weights: hashOf(weights), momentum: hashOf(momentum), first: [...weights.subarray(0, 20)], sums };
}

const MOMENTUM: OptimizerConfig = { kind: 'momentum', momentum: 0.9 };
const recipe = (elements: number, more: Partial<ReducerRecipe> = {}): ReducerRecipe => ({
  elements,
  segments: segmentsOf(elements),
  optimizer: MOMENTUM,
  algorithm: 'sharded',
  numPacks: 1,
  ...more,
});

describe('FlatReducer', () => {
  for (const size of [1, 2, 3, 5]) {
    it(`${size} replicas: the fused pass is the sum and then the update, bit by bit, for every number of packs`, async () => {
      for (const elements of [1, 7, 101, 40_009]) {
        for (const numPacks of [1, 2, 8, 1000]) {
          const given = recipe(elements, { numPacks });
          const expected = byHand(size, 3, given);
          const results = await run<typeof expected>(size, 'train', { ...given, steps: 3, how: 'fused' });
          for (const result of results) {
            assert.deepEqual(result, { ...expected, sums: [] }, `${elements} elements in ${numPacks} packs`);
          }
        }
      }
    });
  }

  it('optimizers: SGD and Nesterov; a loss scale that is a power of two changes no bit', async () => {
    for (const optimizer of [{ kind: 'sgd' }, { ...MOMENTUM, nesterov: true }] as OptimizerConfig[]) {
      const given = recipe(20_011, { optimizer, numPacks: 3 });
      for (const { weights } of await run<{ weights: number }>(2, 'train', { ...given, steps: 3, how: 'fused' })) {
        assert.equal(weights, byHand(2, 3, given).weights);
      }
    }
    // Gradients are not scaled here, so a scale of 4 trains with a quarter of each: 1/(2·4) is 1/8 of the sum.
    const eight = byHand(2, 1, recipe(101, { segments: [{ offset: 0, length: 101 }], optimizer: { kind: 'sgd' } }));
    const scaled = recipe(101, { segments: [{ offset: 0, length: 101 }], optimizer: { kind: 'sgd' }, lossScale: 4 });
    const [result] = await run<{ first: number[] }>(2, 'train', { ...scaled, steps: 1, how: 'fused' });
    for (const [i, weight] of (result?.first ?? []).entries()) {
      const change = (weightAt(i) - (eight.first[i] as number)) / 4;
      assert.ok(Math.abs(weightAt(i) - weight - change) < 1e-6);
    }
  });

  it('sum, then update, as two calls: the sum is in `reduced`, and the weights have the same bits', async () => {
    for (const numPacks of [1, 4]) {
      const given = recipe(40_009, { numPacks });
      const expected = byHand(3, 3, given);
      const results = await run<typeof expected>(3, 'train', { ...given, steps: 3, how: 'separate' });
      for (const result of results) assert.deepEqual(result, expected);
    }
  });

  it('other algorithms train alike, with the same bits for two replicas', async () => {
    for (const algorithm of ['hierarchical_copy', 'reduction_to_one_device']) {
      for (const numPacks of [1, 3, 50_000]) {
        const given = recipe(20_011, { algorithm, numPacks });
        const expected = byHand(2, 2, given);
        for (const result of await run<typeof expected>(2, 'train', { ...given, steps: 2, how: 'fused' })) {
          assert.deepEqual(result, { ...expected, sums: [] }, `${algorithm}, ${numPacks} packs`);
        }
      }
    }
  });

  it('replicas that are late in turns change no bit', async () => {
    const given = recipe(40_009, { numPacks: 4 });
    const expected = byHand(3, 6, given);
    for (const result of await run<typeof expected>(3, 'train', { ...given, steps: 6, how: 'fused', skew: 5 })) {
      assert.deepEqual(result, { ...expected, sums: [] });
    }
  });

  it('counts right beyond what a word holds', async () => {
    // A chunk's word is 4·pass: 2²⁹ passes are 2³¹. Packs count replicas: 3 · 2³⁰ is beyond 2³¹, too.
    for (const edge of [2 ** 29, 2 ** 30, 2 ** 31, 2 ** 32, 2 ** 33, Math.ceil(2 ** 32 / 3)]) {
      for (const [how, sums] of [
        ['fused', false],
        ['separate', true],
      ] as const) {
        const given = recipe(40_009, { numPacks: 4, countFrom: edge - 2 });
        const expected = byHand(3, 4, given);
        for (const result of await run<typeof expected>(3, 'train', { ...given, steps: 4, how, skew: 2 })) {
          assert.deepEqual(result, sums ? expected : { ...expected, sums: [] }, `from ${edge} − 2, ${how}`);
        }
      }
    }
  });

  it('sums packs early beyond what a word holds', async () => {
    const segments = [0, 1].map((half) => ({ offset: 20_000 * half, length: 20_000 }));
    for (const countFrom of [2 ** 29, 2 ** 30, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
      const two = { ...recipe(40_000, { segments, optimizer: { kind: 'sgd' } }), numPacks: 2, countFrom };
      const [first, second] = await run<{ early: number; change: number }>(2, 'early', two);
      assert.ok((first?.early ?? 0) >= 2, `from ${countFrom}`);
      for (const result of [first, second]) assert.ok(Math.abs((result?.change ?? 0) - 1.5) < 1e-6);
    }
  });

  it('a pack that is full on all replicas is summed while the others are still filled', async () => {
    const segments = [0, 1].map((half) => ({ offset: 20_000 * half, length: 20_000 }));
    const optimizer: OptimizerConfig = { kind: 'sgd' };
    const two = { ...recipe(40_000, { segments, optimizer }), numPacks: 2 };
    const [first, second] = await run<{ early: number; change: number }>(2, 'early', two);
    // 20,000 elements are two chunks; the other two, full at the end of backward, may be summed early by either.
    const [early, late] = [first?.early ?? 0, second?.early ?? 0];
    assert.ok(early >= 2 && early + late <= 4, `chunks summed early: ${early} and ${late}`);
    for (const result of [first, second]) assert.ok(Math.abs((result?.change ?? 0) - 1.5) < 1e-6, 'mean of 1 and 2');
  });

  it('a gradient that is not finite: said on all replicas, and the step is left out if that was asked for', async () => {
    for (const algorithm of ['sharded', 'hierarchical_copy']) {
      const args = { ...recipe(20_011, { algorithm, numPacks: 2 }), culprit: 1 };
      const good = { finite: true, updated: true, changed: true };
      for (const steps of await run<unknown[]>(3, 'nonFinite', { ...args, skip: true })) {
        assert.deepEqual(steps, [good, { finite: false, updated: false, changed: false }, good]);
      }
      for (const steps of await run<unknown[]>(3, 'nonFinite', { ...args, skip: false })) {
        // The weight that became NaN stays one, and the gradients of the third step are finite again.
        assert.deepEqual(steps, [good, { finite: false, updated: true, changed: true }, good]);
      }
    }
  });

  it('replicas tell each other numbers, without a further wait', async () => {
    const expected = [0, 1, 2].map((step) => [0, step, 0.5, 1, step, 0.5, 2, step, 0.5]);
    for (const met of await run(3, 'meet', recipe(101, { numPacks: 2 }))) assert.deepEqual(met, expected);
  });
});

describe('FlatReducer refuses', () => {
  function make(changes: Partial<FlatReducerOptions> = {}): FlatReducer {
    const communicator = joinSharedMemoryGroup(createSharedMemoryGroup(1), 0);
    const { memory } = communicator;
    return new FlatReducer({
      communicator,
      memory,
      segments: [
        { name: 'w', offset: 0, length: 6 },
        { offset: 6, length: 4 },
      ],
      weights: memory.allocate(10),
      slots: { momentum: memory.allocate(10) },
      gradients: [memory.allocate(10)],
      optimizer: MOMENTUM,
      ...changes,
    });
  }
  const finish = (reducer: FlatReducer) => reducer.finish({ learningRate: 1 });

  it('gradients that are marked twice, not at all, or are not there', () => {
    const reducer = make();
    reducer.markReady(0);
    assert.throws(() => reducer.markReady(0), /The gradient of segment 0 \('w'\) was marked ready twice in one step/);
    assert.throws(() => finish(reducer), /The gradient of segment 1 was not marked ready; 1 of 2 were\.\nhelp: /);
    assert.throws(() => reducer.markReady(2), /no segment 2; segments are 0 to 1/);
    reducer.markReady(1);
    assert.deepEqual([...reducer.meet([7])], [7]);
    assert.throws(() => reducer.meet(), /twice in one step/);
    assert.equal(finish(reducer).updated, true);
    for (const index of [0, 1]) reducer.markReady(index);
    assert.throws(() => reducer.meet(Array(9).fill(0)), /at most 8 numbers, got 9/);
  });

  it('arrays and segments that do not fit', () => {
    assert.throws(() => make({ gradients: [] }), /1 replicas need as many gradient arrays, got 0/);
    assert.throws(() => make({ gradients: [new Float32Array(9)] }), /Weights have 10 elements, .* array has 9/);
    assert.throws(() => make({ slots: {} }), /momentum optimizer needs slots\.momentum/);
    const overlapping = [
      { offset: 0, length: 7 },
      { offset: 6, length: 4 },
    ];
    assert.throws(() => make({ segments: overlapping }), /segment of 7 elements at 0 runs into 6/);
    assert.throws(() => make({ segments: [{ offset: 8, length: 4 }] }), /segment of 4 elements at 8 runs into 10/);
    assert.throws(() => make({ numPacks: 0 }), /requires num_packs > 0, but 0 is specified/);
  });

  it('arrays outside the flat memory are fine: plain kernels do the work', () => {
    const plain = make({ weights: new Float32Array(10).fill(2), slots: { momentum: new Float32Array(10) } });
    for (const index of [0, 1]) plain.markReady(index);
    assert.equal(finish(plain).updated, true);
  });
});
