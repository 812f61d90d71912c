/** One rank of group-board.test.ts: in each of many groups rank 0 sends, meets rank 1 in a barrier, and leaves at once. */
import { parentPort, workerData } from 'node:worker_threads';
import { GroupBoard } from '../group-board.js';
import { Mailbox } from '../mailbox.js';
import type { Operation } from '../operation.js';

interface LeaverData {
  readonly rank: number;
  readonly groups: readonly SharedArrayBuffer[];
  readonly boxes: SharedArrayBuffer;
}

const { rank, groups, boxes } = workerData as LeaverData;
const operation = (name: Operation['name']): Operation => ({
  name,
  sequence: name === 'barrier' ? 1 : 0,
  bytes: 4,
  type: 'int32',
  reduceOp: 'none',
  peer: name === 'barrier' ? -1 : 1 - rank,
  allocated: 0,
});

let rounds = 0;
for (const group of groups) {
  const board = new GroupBoard(group, 2, rank, 20_000);
  board.join();
  const box = new Mailbox(boxes, 2, 0, 1);
  if (rank === 0) {
    const bytes = new Uint8Array(Int32Array.of(rounds).buffer);
    box.put(bytes, 0, (word, value) => board.waitForWord(word, value, operation('send')));
    board.wait(board.arrive(), operation('barrier'));
  } else {
    // Rank 1 comes to the barrier first, so that it waits when rank 0 arrives and leaves.
    const target = board.arrive();
    const { bytes } = box.take((word, value) => board.waitForWord(word, value, operation('receive')));
    if (new Int32Array(bytes.buffer)[0] !== rounds) throw new Error(`Round ${rounds}: another round's message.`);
    board.wait(target, operation('barrier'));
  }
  board.leave();
  rounds++;
}
parentPort?.postMessage(rounds);
