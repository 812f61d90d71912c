/** Bounds of packs: every element in one pack, upstream's sizes for a given number, short packs last for none. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { evenBounds, taperedBounds } from './pack-bounds.js';

const sizesOf = (bounds: readonly number[]) => bounds.slice(1).map((end, i) => end - (bounds[i] as number));
const MIB = 2 ** 18;

describe('bounds of packs', () => {
  it('cover the buffer once, whatever its length', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 3e7 }), fc.integer({ min: 1, max: 40 }), (elements, count) => {
        for (const bounds of [evenBounds(elements, count), taperedBounds(elements)]) {
          assert.equal(bounds[0], 0);
          assert.equal(bounds.at(-1), elements);
          assert.ok(sizesOf(bounds).every((size) => size > 0));
        }
        assert.ok(evenBounds(elements, count).length - 1 <= count);
      }),
    );
  });

  it('are even for a given number: the last pack gets what is left', () => {
    assert.deepEqual(evenBounds(10, 4), [0, 3, 6, 9, 10]);
    assert.deepEqual(evenBounds(2, 4), [0, 1, 2]);
    assert.deepEqual(evenBounds(0, 4), [0]);
  });

  it('leave 512 KB for the end of backward, and no pack of more than 12 MB', () => {
    assert.deepEqual(sizesOf(taperedBounds(2 * MIB)), [2 * MIB], 'a small model is one pack');
    assert.deepEqual(
      sizesOf(taperedBounds(35.5 * MIB)).map((size) => size / MIB),
      [0.5, 1, 2, 4, 8, 8, 8, 4],
    );
    assert.deepEqual(
      sizesOf(taperedBounds(34.5 * MIB)).map((size) => size / MIB),
      [0.5, 1, 2, 4, 8, 8, 11],
      'what is left joins its neighbour',
    );
    // ResNet-50.
    const sizes = sizesOf(taperedBounds(25_557_032));
    assert.equal(sizes[0], MIB / 2);
    assert.ok(Math.max(...sizes) <= 12 * MIB && sizes.length === 15, `${sizes.map((size) => size / MIB)}`);
  });
});
