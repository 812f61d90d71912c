/** The decision to stop: one answer per call, for every order in which replicas ask. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ControlBlock } from './control-block.js';

describe('ControlBlock', () => {
  test('all replicas stop at the same call, whoever asks first and whenever the request comes', () => {
    const schedule = fc.tuple(
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.nat({ max: 4 }), { minLength: 1, maxLength: 200 }),
      fc.nat({ max: 200 }),
    );
    fc.assert(
      fc.property(schedule, ([replicas, turns, requestAt]) => {
        const control = ControlBlock.create(replicas);
        // Every replica's thread has an object of its own over the same memory.
        const blocks = Array.from({ length: replicas }, () => new ControlBlock(control.buffer));
        const calls = Array(replicas).fill(0) as number[];
        const stoppedAt = Array(replicas).fill(0) as number[];
        const ask = (replica: number) => {
          if (stoppedAt[replica]) return;
          calls[replica] = (calls[replica] as number) + 1;
          if (blocks[replica]?.shouldStop(calls[replica] as number)) stoppedAt[replica] = calls[replica] as number;
        };
        for (const [i, turn] of turns.entries()) {
          if (i === requestAt) control.requestStop();
          ask(turn % replicas);
        }
        control.requestStop();
        for (let round = 0; round < 300; round++) for (let replica = 0; replica < replicas; replica++) ask(replica);
        assert.ok((stoppedAt[0] as number) > 0);
        assert.deepEqual(stoppedAt, Array(replicas).fill(stoppedAt[0]));
      }),
    );
  });

  test('asked more often than a word can count, replicas agree all the same', () => {
    const control = ControlBlock.create(2);
    // A replica asks call by call; the others need not have asked in between.
    for (let call = 2 ** 29; call < 2 ** 34; call += 2 ** 29 - 1) {
      for (const near of [call - 1, call, call]) assert.equal(control.shouldStop(near), false, `call ${near}`);
    }
    const last = 2 ** 34 + 2 ** 28;
    assert.equal(control.shouldStop(last), false);
    control.requestStop();
    assert.equal(control.shouldStop(last), false, 'decided before the request');
    assert.equal(control.shouldStop(last + 1), true);
    assert.equal(control.shouldStop(last), false);
    assert.equal(control.shouldStop(last + 2), true);
  });

  test('nobody stops without a request', () => {
    const control = ControlBlock.create(1);
    for (let call = 1; call < 100; call++) assert.equal(control.shouldStop(call), false);
  });

  test('says who is where', () => {
    const control = ControlBlock.create(3);
    control.setState(0, 'running');
    control.beginStep(0);
    control.beginCollective(0);
    control.setState(1, 'running');
    control.beginStep(1);
    control.beginStep(1);
    control.setState(1, 'finished');
    assert.equal(
      control.describe(3),
      'replica 0 is waiting in step 1; replica 1 finished after 2 steps; replica 2 is starting',
    );
    control.endCollective(0);
    assert.deepEqual(control.progress(0), { state: 'running', steps: 1, collectives: 1, isWaiting: false });
  });
});
