/** What is read from a timeline, by hand. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readProfile } from './step-profile.js';

const close = (actual: number, expected: number) =>
  assert.ok(Math.abs(actual - expected) <= 1e-9 * (1 + Math.abs(expected)), `${actual}, not ${expected}`);

describe('a profile', () => {
  const slice = (tid: number, name: string, cat: string, ts: number, dur: number, bytes?: number) => ({
    ...{ ph: 'X' as const, pid: 0, tid, name, cat, ts, dur },
    ...(bytes !== undefined && { args: { bytes } }),
  });
  /** A step that begins at `at`, computes for `ms`, and updates for 1: two gradients. */
  const step = (tid: number, number: number, at: number, ms: number) => [
    slice(tid, `step ${number}`, 'step', at * 1000, (ms + 3) * 1000),
    slice(tid, 'forward', 'step', at * 1000, 2000),
    slice(tid, 'backward', 'step', (at + 2) * 1000, (ms - 2) * 1000),
    slice(tid, 'b', 'gradient', (at + 2) * 1000, 1000, 400),
    slice(tid, 'a', 'gradient', (at + 3) * 1000, (ms - 3) * 1000, 600),
    slice(tid, 'reduce', 'step', (at + ms) * 1000, 1000),
    slice(tid, 'update', 'step', (at + ms + 1) * 1000, 1000),
  ];

  it('is read from a timeline: the slowest replica counts, gradients in their order', () => {
    const events = [...step(0, 5, 100, 10), ...step(0, 6, 120, 12), ...step(0, 7, 140, 14), ...step(1, 5, 100, 11)];
    const profile = readProfile([...events, ...step(1, 6, 120, 11), ...step(1, 7, 140, 11)], 'file');
    assert.equal(profile.replicas, 2);
    assert.equal(profile.computeMs, 12);
    assert.equal(profile.updateMs, 1);
    assert.deepEqual(
      profile.gradients.map(({ bytes }) => bytes),
      [400, 600],
    );
    close(profile.gradients[0]?.atMs as number, (3 / 12) * 12);
    close(profile.gradients[1]?.atMs as number, 12);
    assert.deepEqual(
      profile.spread.map((one) => one.toFixed(3)),
      ['0.833', '1.000', '1.167', '1.000', '1.000', '1.000'],
    );
  });

  it('says what is missing', () => {
    assert.throws(() => readProfile([], 'none.json'), /none\.json has no whole step in it/);
    const other = step(0, 1, 0, 10).map((event) => ({ ...event, pid: 1 }));
    assert.throws(() => readProfile([...step(0, 1, 0, 10), ...other], 'two.json'), /two\.json is of 2 workers/);
  });
});
