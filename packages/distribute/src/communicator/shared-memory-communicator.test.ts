/** SharedMemoryCommunicator against the shared cases, and what it alone can do. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CommunicatorError } from './communicator.js';
import { joinSharedMemoryGroup } from './shared-memory-communicator.js';
import { createSharedMemoryGroup } from './shared-memory-group.js';
import { communicatorCases } from './testing/communicator.cases.js';
import { runOnThreads } from './testing/ranks.js';

const SCENES = new URL('./testing/communicator.scenes.js', import.meta.url);

communicatorCases((size, scene, args, options) => runOnThreads(SCENES, size, scene, args, options), {
  name: 'shared_memory',
});

describe('SharedMemoryCommunicator', () => {
  for (const size of [1, 2, 3, 5, 9]) {
    it(`${size} ranks: buffers in flat memory are summed in place, or mixed with others`, async () => {
      const lengths = [0, 1, 7, 4096, 4097, 150_001];
      const outcomes = await runOnThreads(SCENES, size, 'symmetric', { lengths }, { timeoutMs: 30_000 });
      for (const outcome of outcomes) {
        assert.equal(outcome.kind, 'value', JSON.stringify(outcome));
        assert.deepEqual(outcome, outcomes[0]);
        assert.deepEqual((outcome as { value: { differences: string[] } }).value.differences, []);
      }
    });
  }

  it('a rank joins once, and only ranks of the group join', () => {
    const group = createSharedMemoryGroup(2, { timeoutMs: 100 });
    joinSharedMemoryGroup(group, 0);
    assert.throws(() => joinSharedMemoryGroup(group, 0), /Rank 0 has joined the group before/);
    assert.throws(() => joinSharedMemoryGroup(group, 2), /ranks are 0 to 1/);
    assert.throws(() => createSharedMemoryGroup(0), RangeError);
  });

  it('says that a rank never joined', () => {
    const group = createSharedMemoryGroup(3, { timeoutMs: 50 });
    const communicator = joinSharedMemoryGroup(group, 0);
    const isRight = (error: unknown) =>
      error instanceof CommunicatorError &&
      error.rank === 1 &&
      /^Ranks 1 and 2 did not arrive in barrier \(collective 1\) within 0.05 s of rank 0/.test(error.message) &&
      /rank 2 has not joined the group/.test(error.message);
    assert.throws(() => communicator.barrier(), isRight);
    assert.throws(() => communicator.allReduceAsync(new Float32Array(3)), isRight);
  });

  it('work under way times out in test() as well', () => {
    const group = createSharedMemoryGroup(2, { timeoutMs: 30 });
    const work = joinSharedMemoryGroup(group, 1).allReduceAsync(new Float32Array(3));
    assert.equal(work.test(), false);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60);
    assert.throws(
      () => work.test(),
      (error: CommunicatorError) => error.rank === 0,
    );
  });

  it('passes the reason of an abort on, and blames whom the main thread blames', () => {
    const group = createSharedMemoryGroup(2, { timeoutMs: 1000 });
    const communicator = joinSharedMemoryGroup(group, 0);
    group.abort('Replica 1 ran out of memory.', 1);
    group.abort('a later reason', 0);
    assert.throws(() => communicator.barrier(), {
      name: 'CommunicatorError',
      message: 'Replica 1 ran out of memory. (Rank 0 was in barrier (collective 1).)',
      rank: 1,
    });
  });

  it('refuses calls that cannot be right', () => {
    const communicator = joinSharedMemoryGroup(createSharedMemoryGroup(1), 0);
    assert.throws(() => communicator.broadcast(new Float32Array(1), 1), /Root 1 is not a rank/);
    assert.throws(() => communicator.send(new Float32Array(1), 0), /itself/);
    assert.throws(() => communicator.allGather(new Float32Array(2), new Float32Array(3)), /needs 8 bytes/);
    communicator.close();
    assert.throws(() => communicator.barrier(), /closed/);
  });
});
