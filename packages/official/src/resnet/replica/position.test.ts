/** Train calls against upstream's schedule, written out by hand, and where a run goes on within them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { TrainCalls } from './position.js';

/** Epochs of the calls that are left, and the first of them. */
function left(total: number, betweenEvals: number, done = 0, call = 0): { calls: number[]; first: number } {
  const calls = new TrainCalls({ total, betweenEvals }, done, call);
  const rest = Array.from({ length: calls.length - calls.first }, (_, i) => calls.of(calls.first + i));
  return { calls: rest, first: calls.first };
}

describe('train calls', () => {
  it('are upstream’s: equal ones, the last one what is left; none only evaluates', () => {
    assert.deepEqual(left(25, 10), { calls: [10, 10, 5], first: 0 });
    assert.deepEqual(left(20, 10), { calls: [10, 10], first: 0 });
    assert.deepEqual(left(3, 10), { calls: [3], first: 0 });
    assert.deepEqual(left(0, 10), { calls: [0], first: 0 });
  });

  it('go on in the middle of a call, and of calls of another length', () => {
    assert.deepEqual(left(5, 2, 2), { calls: [2, 1], first: 1 });
    assert.deepEqual(left(5, 2, 2, 2), { calls: [2, 1], first: 1 });
    assert.deepEqual(left(5, 2, 4, 1), { calls: [1], first: 2 });
    assert.deepEqual(left(10, 5, 3), { calls: [2, 5], first: 0 });
    assert.deepEqual(left(6, 2, 1, 4), { calls: [4, 1], first: 0 });
    assert.deepEqual(left(4, 2, 1, 9), { calls: [3], first: 0 });
    assert.deepEqual(left(10, 5, 10), { calls: [0], first: 1 });
    assert.deepEqual(left(5, 5, 70), { calls: [0], first: 0 });
  });

  it('cover every epoch once, whatever is done and however long calls were', () => {
    for (let total = 1; total <= 12; total++) {
      for (let betweenEvals = 1; betweenEvals <= 13; betweenEvals++) {
        for (let done = 0; done < total; done++) {
          for (let call = 0; call <= total; call++) {
            const { calls } = left(total, betweenEvals, done, call);
            const text = `${total}, ${betweenEvals}, ${done}, ${call}: ${calls}`;
            assert.equal(
              calls.reduce((a, b) => a + b, done),
              total,
              text,
            );
            assert.ok(
              calls.every((epochs) => epochs > 0),
              text,
            );
            // Those after the first end where calls of this length end.
            let end = done + (calls[0] as number);
            for (const epochs of calls.slice(1)) {
              end += epochs;
              assert.ok(end === total || end % betweenEvals === 0, text);
            }
          }
        }
      }
    }
  });

  it('are as many as there can be', () => {
    const calls = new TrainCalls({ total: Number.MAX_SAFE_INTEGER, betweenEvals: 1 }, 5);
    assert.deepEqual([calls.length, calls.first, calls.of(5), calls.of(2 ** 52)], [Number.MAX_SAFE_INTEGER, 5, 1, 1]);
  });
});
