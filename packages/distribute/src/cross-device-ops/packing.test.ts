/** Packs as TensorFlow's _ConcatAndSplitPacker cuts them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ConcatAndSplitPacker, splitIntoPacks } from './packing.js';

const lengths = (total: number, packs: number) => splitIntoPacks(total, packs).map(({ length }) => length);

describe('splitIntoPacks', () => {
  it('the documented examples', () => {
    assert.deepEqual(lengths(10, 3), [3, 3, 4]);
    assert.deepEqual(lengths(7, 2), [3, 4]);
    assert.deepEqual(lengths(16, 4), [4, 4, 4, 4]);
    assert.deepEqual(lengths(3, 8), [0, 0, 0, 0, 0, 0, 0, 3]);
    // ResNet-50 v1.
    assert.deepEqual(lengths(25_559_081, 2), [12_779_540, 12_779_541]);
    assert.deepEqual(lengths(25_559_081, 8), [...Array(7).fill(3_194_885), 3_194_886]);
    assert.deepEqual(lengths(0, 2), [0, 0]);
  });

  it('exactly num_packs contiguous parts; the last takes the rest', () => {
    fc.assert(
      fc.property(fc.nat({ max: 1e6 }), fc.integer({ min: 1, max: 300 }), (total, numPacks) => {
        const packs = splitIntoPacks(total, numPacks);
        assert.equal(packs.length, numPacks);
        let end = 0;
        for (const [i, { offset, length }] of packs.entries()) {
          assert.equal(offset, end);
          assert.equal(
            length,
            i < numPacks - 1 ? Math.floor(total / numPacks) : total - Math.floor(total / numPacks) * (numPacks - 1),
          );
          end += length;
        }
        assert.equal(end, total);
      }),
    );
  });

  it('num_packs ≤ 0 is upstream’s ValueError', () => {
    for (const numPacks of [0, -3, 0.5]) {
      const error = { name: 'RangeError', message: 'num_packs must be greater than zero.' };
      assert.throws(() => splitIntoPacks(4, numPacks), error);
      assert.throws(() => new ConcatAndSplitPacker(numPacks), error);
    }
  });
});

describe('ConcatAndSplitPacker', () => {
  it('packs cut through tensors, and unpacking gives the tensors again', () => {
    const packer = new ConcatAndSplitPacker(3);
    const { packs, layout } = packer.pack([
      Float32Array.of(1, 2, 3, 4),
      new Float32Array(0),
      Float32Array.of(5),
      Float32Array.of(6, 7, 8, 9, 10),
    ]);
    assert.deepEqual(
      packs.map((pack) => [...pack]),
      [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8, 9, 10],
      ],
    );
    assert.deepEqual(
      packer.unpack(packs, layout).map((gradient) => [...gradient]),
      [[1, 2, 3, 4], [], [5], [6, 7, 8, 9, 10]],
    );
  });

  it('packing and unpacking is the identity, for any sizes and any number of packs', () => {
    const gradients = fc.array(fc.float32Array({ maxLength: 20 }), { maxLength: 12 });
    fc.assert(
      fc.property(gradients, fc.integer({ min: 1, max: 400 }), (given, numPacks) => {
        const packer = new ConcatAndSplitPacker(numPacks);
        const { packs, layout } = packer.pack(given);
        assert.equal(packs.length, numPacks);
        assert.deepEqual(
          packer.unpack(packs, layout),
          given.map((gradient) => Float32Array.from(gradient)),
        );
      }),
    );
  });
});
