/** Train calls against upstream's schedule, written out by hand, and where a run goes on within them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Position, RunPosition, TrainCalls } from './position.js';

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

describe('a run’s position', () => {
  const EPOCHS = { total: 5, betweenEvals: 2 };
  /** Steps of an epoch of 40 images. */
  const STEPS = 5;

  it('counts steps, calls and epochs; a skipped step is one of the call and no global step', () => {
    const position = new RunPosition(EPOCHS, 8);
    assert.deepEqual([position.call, position.calls, position.callEpochs, position.isLastCall], [0, 3, 2, false]);
    for (const isCounted of [true, false, true]) position.advance(isCounted);
    assert.deepEqual([position.globalStep, position.stepInCall], [2, 3]);
    assert.equal(position.epochAt(2 * STEPS), 0.6);
    assert.equal(position.totalSteps(2 * STEPS), 25);
    assert.deepEqual(position.saved, { globalStep: 2, epochs: 0, callEpochs: 2, step: 3, batchSize: 8 });
    position.completeCall();
    assert.deepEqual(position.saved, { globalStep: 2, epochs: 2, callEpochs: 0, step: 0, batchSize: 8 });
    position.nextCall();
    position.completeCall();
    position.nextCall();
    assert.deepEqual([position.callEpochs, position.epochsBefore, position.isLastCall], [1, 4, true]);
    position.nextCall();
    assert.equal(position.isOver, true);
  });

  it('goes on from what it saved as if it had not stopped, wherever that was', () => {
    const walk = (position: RunPosition, until: number): Position[] => {
      const seen: Position[] = [];
      for (; !position.isOver; position.nextCall()) {
        const steps = STEPS * position.callEpochs;
        while (position.stepInCall < steps) {
          if (position.globalStep === until) return seen;
          position.advance(true);
          seen.push(position.saved);
        }
        position.completeCall();
      }
      return seen;
    };
    const whole = walk(new RunPosition(EPOCHS, 8), 1000);
    assert.equal(whole.length, 25);
    for (let stop = 0; stop < 25; stop++) {
      const first = new RunPosition(EPOCHS, 8);
      const before = walk(first, stop);
      const second = new RunPosition(EPOCHS, 8);
      second.goOnAt(first.saved);
      assert.deepEqual([...before, ...walk(second, 1000)], whole, `stopped at ${stop}`);
    }
  });

  it('ends at the last step that was given; with batches of another size it is at the same image', () => {
    const position = new RunPosition(EPOCHS, 4, 3);
    position.goOnAt({ globalStep: 2, epochs: 0, callEpochs: 2, step: 2, batchSize: 8 });
    assert.deepEqual([position.stepInCall, position.isPastLastStep, position.totalSteps(20)], [4, false, 3]);
    position.advance(true);
    assert.equal(position.isPastLastStep, true);
  });

  it('has a step and no place where it only evaluates', () => {
    const position = new RunPosition({ total: 0, betweenEvals: 1 }, 8);
    position.goOnAt({ globalStep: 7, epochs: 1, callEpochs: 2, step: 2, batchSize: 8 });
    assert.deepEqual([position.globalStep, position.callEpochs, position.calls, position.call], [7, 0, 1, 0]);
  });
});
