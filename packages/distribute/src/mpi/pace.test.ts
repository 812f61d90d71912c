/** How long the communication thread sleeps, against the rates of networks that are known. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Pace } from './pace.js';

const MB = 2 ** 20;

/** A spell of `bytes` that takes as long as a network of so many Gbit/s needs, and `waitMs` for a late rank. */
function spell(pace: Pace, start: number, bytes: number, gbit: number, waitMs = 0): number {
  const end = start + bytes / (gbit * 125_000) + waitMs;
  pace.add(bytes / 2, start);
  pace.add(bytes / 2, start + 1);
  pace.end(end);
  return end;
}

/** The first nap after something moved. */
function nap(pace: Pace): number {
  pace.moved();
  return pace.nap();
}

describe('the pace of the communication thread', () => {
  it('is short before a rate is known, and gets longer while nothing moves', () => {
    const pace = new Pace();
    pace.add(8 * MB, 0);
    const naps = Array.from({ length: 8 }, () => pace.nap());
    assert.deepEqual(naps, [2, 3, 4.5, 6.75, 10.125, 15.1875, 16, 16]);
    pace.moved();
    assert.equal(pace.nap(), 2);
  });

  it('is what the network needs for 1 MB, from 2 to 16 ms', () => {
    for (const [gbit, expected] of [
      [1, 8.389],
      [2, 4.194],
      [25, 2],
      [0.1, 16],
    ] as const) {
      const pace = new Pace();
      spell(pace, 1000, 8 * MB, gbit);
      assert.ok(Math.abs(nap(pace) - expected) < 1e-3, `${gbit} Gbit/s`);
    }
  });

  it('goes by the best spell: the others waited for a late rank', () => {
    const pace = new Pace();
    let now = spell(pace, 0, 8 * MB, 1, 200);
    assert.equal(nap(pace), 16);
    now = spell(pace, now, 8 * MB, 1);
    spell(pace, now, 8 * MB, 1, 500);
    assert.ok(Math.abs(nap(pace) - 8.389) < 1e-3);
  });

  it('learns nothing from a few bytes, nor from a clock that stood still', () => {
    const pace = new Pace();
    spell(pace, 0, 1000, 0.001);
    assert.equal(nap(pace), 2);
    pace.add(8 * MB, 5);
    pace.end(5);
    assert.equal(nap(pace), 2);
  });
});
