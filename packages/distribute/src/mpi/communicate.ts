/**
 * What the communication thread does: carries all-reduces on while the thread that issued them computes.
 *
 * A thread that computes is inside native calls for tens of milliseconds, and a message that arrives meanwhile would wait as
 * long before its answer leaves. This thread looks every few milliseconds and sleeps in between, so that the network is busy
 * all the time and the core it shares with the computing thread hardly notices. It numbers nothing, judges no silence and
 * explains no errors: the thread that waits does (background-reducer.ts).
 */
import { receiveMessageOnPort } from 'node:worker_threads';
import type { Buffer } from '../communicator/communicator.js';
import { type RunState, Runs } from './all-reduce/runs.js';
import { type AllReduceJob, startAllReduce } from './all-reduce/start.js';
import {
  BEATS,
  type CommunicationData,
  type Failure,
  FIRST_SLOT,
  IS_AWAITED,
  ORDERS,
  type Order,
  SlotState,
} from './communication-protocol.js';
import { OpenMpi } from './native/open-mpi.js';
import { Scratch } from './native/scratch.js';
import { Pace } from './pace.js';
import { Phase, StatusBoard } from './status-board.js';

/** Looks so often before it sleeps, when something moved. */
const SPINS = 4;
const NAP_WHEN_AWAITED_MS = 0.1;
/** How often an idle thread looks whether the group has ended. */
const IDLE_MS = 250;

/** Returns when the group has ended. */
export function communicate({ rank, size, comm, board: boardBuffer, words, port }: CommunicationData): void {
  const board = new StatusBoard(boardBuffer);
  const mpi = new OpenMpi();
  const scratch = new Scratch();
  const runs = new Runs(mpi);
  const pace = new Pace();
  const states = new Map<number, RunState>();

  const settle = () => {
    for (const [slot, { isDone, failure }] of states) {
      if (!isDone && !failure) continue;
      states.delete(slot);
      if (failure) port.postMessage({ slot, text: (failure as Error).message } satisfies Failure);
      Atomics.store(words, FIRST_SLOT + slot, isDone ? SlotState.done : SlotState.failed);
      Atomics.notify(words, FIRST_SLOT + slot);
    }
  };

  let spins = 0;
  while (board.phase === Phase.running && !board.isAborted) {
    Atomics.add(words, BEATS, 1);
    const seen = Atomics.load(words, ORDERS);
    let hasMoved = false;
    for (let found = receiveMessageOnPort(port); found; found = receiveMessageOnPort(port)) {
      const { slot, buffer, tag, ...job } = found.message as Order;
      pace.add(bytesToSend(buffer, job, size), performance.now());
      states.set(slot, runs.add(startAllReduce({ mpi, comm, rank, size, scratch, tag }, buffer, job)));
      hasMoved = true;
    }
    if (runs.advance()) hasMoved = true;
    if (hasMoved) {
      settle();
      pace.moved();
      if (runs.size === 0) pace.end(performance.now());
    }
    spins = hasMoved ? 0 : spins + 1;
    if (runs.size === 0) Atomics.wait(words, ORDERS, seen, IDLE_MS);
    else if (spins >= SPINS) {
      const isAwaited = Atomics.load(words, IS_AWAITED) === 1;
      Atomics.wait(words, ORDERS, seen, isAwaited ? NAP_WHEN_AWAITED_MS : pace.nap());
    }
  }
}

/** What a rank sends for an all-reduce: twice all parts but its own. */
function bytesToSend(buffer: Buffer, { wire }: AllReduceJob, size: number): number {
  return (2 * (size - 1) * buffer.byteLength * (wire === 'bf16' ? 0.5 : 1)) / size;
}
