/** A region's places, beside a plain list of which byte is whose. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Place, Region } from './region.js';

interface Taken {
  readonly place: Place;
  readonly size: number;
}

test('places never overlap, lie within their pieces, and what was given back is handed out again', () => {
  const steps = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 40 }), fc.nat()), { maxLength: 120 });
  fc.assert(
    fc.property(steps, (moves) => {
      const region = new Region();
      const pieces: (Taken | null)[][] = [];
      const everUsed: boolean[][] = [];
      const taken: Taken[] = [];
      for (const [isTaken, size, pick] of moves) {
        if (isTaken) {
          let place = region.take(size);
          if (place === null) {
            // A gap of this size would have done.
            const longest = Math.max(0, ...pieces.map((bytes) => longestGap(bytes)));
            assert.ok(longest < size, `refused ${size} with ${longest} free`);
            const length = size + (pick % 30);
            const left = everUsed.at(-1)?.filter((isUsed) => !isUsed).length ?? 0;
            assert.equal(region.add(length), left);
            everUsed.at(-1)?.fill(true);
            pieces.push(new Array(length).fill(null));
            everUsed.push(new Array(length).fill(false));
            place = region.take(size) as Place;
          }
          const own = { place, size };
          const bytes = pieces[place.piece] as (Taken | null)[];
          const used = everUsed[place.piece] as boolean[];
          let unused = 0;
          for (let i = place.offset; i < place.offset + size; i++) {
            assert.equal(bytes[i], null, 'somebody has it, or it is outside');
            bytes[i] = own;
            if (!used[i]) unused++;
            used[i] = true;
          }
          assert.equal(place.unused, unused);
          taken.push(own);
        } else if (taken.length > 0) {
          const [own] = taken.splice(pick % taken.length, 1) as [Taken];
          const { piece, offset } = own.place;
          (pieces[piece] as (Taken | null)[]).fill(null, offset, offset + own.size);
          region.give(piece, offset, own.size);
        }
      }
    }),
  );
});

function longestGap(bytes: readonly (Taken | null)[]): number {
  let [longest, length] = [0, 0];
  for (const owner of bytes) {
    length = owner === null ? length + 1 : 0;
    longest = Math.max(longest, length);
  }
  return longest;
}

test('of gaps that are large enough the smallest is taken', () => {
  const region = new Region();
  assert.equal(region.take(8), null);
  region.add(100);
  const [first, , third] = [30, 5, 10, 5].map((size) => region.take(size) as Place) as [Place, Place, Place, Place];
  region.give(0, first.offset, 30);
  region.give(0, third.offset, 10);
  assert.deepEqual(region.take(9), { piece: 0, offset: 35, unused: 0 });
  assert.deepEqual(region.take(30), { piece: 0, offset: 0, unused: 0 });
  // What was given back at the end grows into what was never used.
  assert.deepEqual(region.take(50), { piece: 0, offset: 50, unused: 50 });
  region.give(0, 50, 50);
  assert.deepEqual(region.take(50), { piece: 0, offset: 50, unused: 0 });
});
