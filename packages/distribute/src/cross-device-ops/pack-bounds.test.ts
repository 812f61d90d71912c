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
    // Upstream's own examples: T=10 in 3 packs, T=7 in 2, T=16 in 4, T=3 in 8, ResNet-50 in 2 and in 8.
    assert.deepEqual(sizesOf(evenBounds(10, 3)), [3, 3, 4]);
    assert.deepEqual(sizesOf(evenBounds(7, 2)), [3, 4]);
    assert.deepEqual(sizesOf(evenBounds(16, 4)), [4, 4, 4, 4]);
    assert.deepEqual(sizesOf(evenBounds(3, 8)), [3], 'the seven empty ones are not sent');
    assert.deepEqual(sizesOf(evenBounds(25_559_081, 2)), [12_779_540, 12_779_541]);
    assert.deepEqual(sizesOf(evenBounds(25_559_081, 8)), [...Array(7).fill(3_194_885), 3_194_886]);
    assert.deepEqual(sizesOf(evenBounds(10, 4)), [2, 2, 2, 4]);
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
