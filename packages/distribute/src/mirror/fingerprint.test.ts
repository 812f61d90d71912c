/** Fingerprints tell apart what differs in a single bit, and words say who has what. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { describeMissing, hashNumbers, hashText, whoHasWhat } from './fingerprint.js';

describe('fingerprints', () => {
  it('differ for any one flipped bit, for two flipped signs, and for another order', () => {
    const bits = fc.array(fc.integer(), { minLength: 2, maxLength: 50 });
    fc.assert(
      fc.property(bits, fc.nat(), fc.nat(31), (words, at, bit) => {
        const values = Int32Array.from(words);
        const flipped = values.slice();
        flipped[at % flipped.length]! ^= 1 << bit;
        assert.notEqual(hashNumbers(flipped), hashNumbers(values));
        assert.equal(hashNumbers(new Float32Array(values.buffer)), hashNumbers(values), 'bits count, not values');
      }),
    );
    const values = Float32Array.of(1, 2, 3, 0);
    const others = [
      Float32Array.of(-1, 2, -3, 0),
      Float32Array.of(2, 1, 3, 0),
      Float32Array.of(1, 2, 3, -0),
      values.subarray(0, 3),
    ];
    for (const other of others) assert.notEqual(hashNumbers(other), hashNumbers(values));
    assert.notEqual(hashText('head0'), hashText('head1'));
    assert.notEqual(hashNumbers(Uint8Array.of(1, 0)), hashNumbers(Uint8Array.of(0, 1)));
  });

  it('in words', () => {
    assert.equal(whoHasWhat(['0.1', '0.2', '0.1']), 'replicas 0, 2: 0.1; replica 1: 0.2');
    assert.equal(
      describeMissing(
        [
          ['a', 'b'],
          ['b', 'a'],
        ],
        'one',
      ),
      null,
    );
    assert.equal(
      describeMissing([['a'], ['a', 'b'], []], 'one'),
      "'a' has one on replicas 0, 1 and none on replica 2; 'b' has one on replica 1 and none on replicas 0, 2",
    );
  });
});
