/**
 * The cases that every CrossDeviceOps for replicas of one process must pass, over 1 to 9 replicas.
 *
 * Sums are compared with a plain f64 loop, and bit by bit: between replicas, between numbers of packs, between places where
 * buffers lie, and with the order of summation that the algorithm documents.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runOnThreads } from '../../communicator/testing/ranks.js';
import { hashOf, valueAt } from './cross-device-ops.scenes.js';

const SCENES = new URL('./cross-device-ops.scenes.js', import.meta.url);
const TIMEOUT_MS = 60_000;
/** Empty, scalar, primes, and one that is longer than a kernel's vector loop and than one chunk. */
const LENGTHS = [0, 1, 3, 7, 101, 4099, 20_011];
/** Fewer than replicas, as many, more, and more than most buffers have elements. */
const PACKS = [1, 2, 3, 8, 1000];

export interface CrossDeviceOpsCasesOptions {
  readonly algorithm: string;
  /** Numbers of replicas. Default 1 to 9. */
  readonly sizes?: readonly number[];
  /** The f32 sum of `values`, one of each replica in rank order, as the algorithm promises to add them. */
  readonly sum: (values: readonly number[]) => number;
}

/** f32 addition. */
export const add = (a: number, b: number): number => Math.fround(a + b);

/** Declares the cases. */
export function crossDeviceOpsCases({ algorithm, sizes, sum }: CrossDeviceOpsCasesOptions): void {
  const run = (size: number, scene: string, args: Record<string, unknown> = {}) =>
    runOnThreads(SCENES, size, scene, { algorithm, ...args }, { timeoutMs: TIMEOUT_MS });

  async function valuesOf<T>(size: number, scene: string, args: Record<string, unknown> = {}): Promise<T[]> {
    const outcomes = await run(size, scene, args);
    return outcomes.map((outcome, rank) => {
      assert.equal(outcome.kind, 'value', `rank ${rank}: ${JSON.stringify(outcome)}`);
      return (outcome as { value: T }).value;
    });
  }

  describe(`CrossDeviceOps ${algorithm}`, () => {
    for (const size of sizes ?? [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
      it(`${size} replicas: sums are exact to rounding, and the same bits everywhere, for every number of packs`, async () => {
        interface Result {
          differences: string[];
          hashes: Record<string, number[]>;
        }
        const results = await valuesOf<Result>(size, 'allReduce', { lengths: LENGTHS, packs: PACKS });
        for (const [rank, { differences, hashes }] of results.entries()) {
          assert.deepEqual(differences, [], `rank ${rank}`);
          for (const length of LENGTHS) {
            const expected = Float32Array.from({ length }, (_, i) =>
              sum(Array.from({ length: size }, (_, of) => valueAt(of, i))),
            );
            const found = hashes[length] ?? [];
            assert.equal(found.length, 3 * PACKS.length);
            assert.deepEqual(
              found,
              found.map(() => hashOf(expected)),
              `rank ${rank}, ${length} elements: the bits of the documented order`,
            );
          }
        }
      });
    }

    for (const size of [1, 2, 3, 4]) {
      it(`${size} replicas: reduce to all and to some, batchReduce, broadcast`, async () => {
        for (const numPacks of [1, 5]) {
          for (const [rank, differences] of (await valuesOf<string[]>(size, 'contract', { numPacks })).entries()) {
            assert.deepEqual(differences, [], `rank ${rank}, ${numPacks} packs`);
          }
        }
      });
    }

    it('refuses what cannot be right, in upstream’s words where it has any', async () => {
      for (const messages of await valuesOf<string[]>(2, 'refusals')) {
        assert.deepEqual(messages, [
          '`reduce_op` must be Reduce.SUM or Reduce.MEAN.',
          '`reduce_op` must be Reduce.SUM or Reduce.MEAN.',
          'destinations can not be empty',
          'Destination 2 is not a replica; replicas are 0 to 1.',
        ]);
      }
    });

    it('replicas with different numbers of elements are told who has how many', async () => {
      for (const outcome of await run(3, 'different')) {
        assert.equal(outcome.kind, 'error');
        assert.match((outcome as { message: string }).message, /disagree.*16,384 bytes.*16,388 bytes|disagree.*16,388/);
      }
    });
  });
}
