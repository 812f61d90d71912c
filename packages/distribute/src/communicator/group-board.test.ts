/** GroupBoard where timing matters: a rank that did its part and left has not failed anybody. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { GroupBoard } from './group-board.js';
import { Mailbox, mailboxBytes } from './mailbox.js';
import type { Operation } from './operation.js';

const operation: Operation = {
  name: 'receive',
  sequence: 0,
  bytes: 8,
  type: 'float32',
  reduceOp: 'none',
  peer: 0,
  allocated: 0,
};

function board(buffer: SharedArrayBuffer, rank: number, timeoutMs = 5_000): GroupBoard {
  const joined = new GroupBoard(buffer, 2, rank, timeoutMs);
  joined.join();
  return joined;
}

describe('GroupBoard', () => {
  it('a message that is delivered between the look at the box and the look at its sender is received', () => {
    const shared = new SharedArrayBuffer(GroupBoard.bytesFor(2));
    const boxes = new SharedArrayBuffer(mailboxBytes(2));
    const [sender, receiver] = [board(shared, 0), board(shared, 1)];
    const message = Float32Array.of(3, 4);
    let isSent = false;
    const late: Operation = {
      ...operation,
      // Who is waited for is asked after the box was found empty: the moment at which the sender sends and leaves.
      get peer() {
        if (!isSent) {
          isSent = true;
          const waitFor = () => undefined;
          new Mailbox(boxes, 2, 0, 1).put(new Uint8Array(message.buffer), 0, waitFor);
          sender.leave();
        }
        return 0;
      },
    };
    const { bytes } = new Mailbox(boxes, 2, 0, 1).take((word, value) => receiver.waitForWord(word, value, late));
    assert.ok(isSent);
    assert.deepEqual([...new Float32Array(bytes.buffer)], [3, 4]);
  });

  it('a sender that left without sending is named', () => {
    const shared = new SharedArrayBuffer(GroupBoard.bytesFor(2));
    const [sender, receiver] = [board(shared, 0), board(shared, 1)];
    sender.leave();
    assert.throws(() => receiver.waitForWord(new Int32Array(new SharedArrayBuffer(4)), 1, operation), {
      name: 'CommunicatorError',
      message: /^Rank 0 left the group while rank 1 waits in receive of 8 bytes from rank 0/,
      rank: 0,
    });
  });

  it('2,000 groups whose first rank sends, meets the other, and leaves at once', { timeout: 60_000 }, async () => {
    const rounds = 2000;
    const [boardBytes, boxBytes] = [GroupBoard.bytesFor(2), mailboxBytes(2)];
    const groups = Array.from({ length: rounds }, () => new SharedArrayBuffer(boardBytes));
    // One mailbox after another, cleared by use: every message is taken before its group is over.
    const boxes = new SharedArrayBuffer(boxBytes);
    const results = await Promise.all(
      [0, 1].map(
        (rank) =>
          new Promise<unknown>((resolve, reject) => {
            const workerData = { rank, groups, boxes };
            const worker = new Worker(new URL('./testing/leaver.js', import.meta.url), { workerData });
            worker.once('message', resolve);
            worker.once('error', reject);
          }),
      ),
    );
    assert.deepEqual(results, [rounds, rounds]);
  });
});
