/**
 * The watch: a thread in every process that tells the other ranks, a few times a second, where this one is.
 *
 * A rank that computes for minutes still answers here, so a silent rank is a dead, frozen or unreachable one and not a busy
 * one. The thread also carries an abort to every rank, and it guards the two calls into MPI that cannot be bounded (init
 * and finalize): when they do not return in time it ends the process. It judges no silence; the communicator does.
 */
import { writeSync } from 'node:fs';
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { endProcess } from './end-process.js';
import { describeRank, processState, type RankIdentity } from './identity.js';
import { isThrough, mayGo } from './loss.js';
import { Mailbox } from './mailbox.js';
import { type Address, OpenMpi } from './native/open-mpi.js';
import { describeWhere } from './operation.js';
import { monotonicMs, Phase, type RankState, StatusBoard } from './status-board.js';

/** What the thread is born with. */
export interface WatchData {
  readonly board: SharedArrayBuffer;
  readonly port: MessagePort;
  readonly startMs: number;
  readonly finalizeMs: number;
}

/** What it is told when MPI runs. */
export interface WatchOrders {
  readonly rank: number;
  readonly size: number;
  readonly comm: Address;
  readonly identities: readonly RankIdentity[];
  readonly heartbeatMs: number;
  /** Ranks whose loss does not end the job. */
  readonly tolerated: readonly number[];
}

const BEAT_TAG = 1;
const ABORT_TAG = 2;
/** A look takes a tenth of a millisecond of the core that trains. */
const NAP_MS = 50;
const PROCESS_CHECK_MS = 50;
/** For the thread that waits for a lost rank to name it. */
const FIRST_WORD_MS = 300;
const TEXT_BYTES = 2048;

const data = workerData as WatchData;
const board = new StatusBoard(data.board);

function watch(orders: WatchOrders): void {
  const { rank, size, comm, identities } = orders;
  const mpi = new OpenMpi();
  const self = identities[rank] as RankIdentity;
  const beats = new Mailbox(mpi, comm, BEAT_TAG, 8 * 6, rank, size);
  const aborts = new Mailbox(mpi, comm, ABORT_TAG, 16 + TEXT_BYTES, rank, size);
  // The board hears of them at the next check, behind the letters that they may have sent before: their own reason counts.
  const wereGone = new Set<number>();
  let nextBeat = 0;
  let nextCheck = 0;
  let hasSentAbort = false;
  board.hearAll(size);

  const isLost = (other: number) =>
    board.status(other).gone > 0 || (board.isAborted && other === board.abortReason.rank);
  const beat = () => {
    const row = new Float64Array(6);
    board.copyRow(rank, row);
    row[5] = rank;
    const hasLeft = (other: number) => board.status(other).state === 'left';
    for (const lost of beats.sendToAll(new Uint8Array(row.buffer), hasLeft)) board.setProcess(lost, 'unreachable');
  };
  // The beat that says that this rank is through goes out behind the one before it, and at once: the others wait for it.
  let said: RankState = 'computing';
  /** True when there is nothing (more) to say of it. */
  const sayThrough = (): boolean => {
    const status = board.status(rank);
    if (!isThrough(status)) return true;
    if (!beats.flush(isLost)) return false;
    if (said === status.state) return true;
    said = status.state;
    beat();
    return false;
  };

  // The launcher ends everybody a second after a rank is gone, and the thread that would name it may be inside a long call.
  let hasNamed = false;
  const nameLoss = (now: number) => {
    if (hasNamed || board.isAborted) return;
    const needed = identities
      .map((_, other) => other)
      .filter((other) => other !== rank && !orders.tolerated.includes(other));
    const missed = needed.find((other) => {
      const status = board.status(other);
      return status.process === 'gone' && !mayGo(status) && now - status.gone > FIRST_WORD_MS;
    });
    if (missed === undefined) return;
    hasNamed = true;
    const who = describeRank(missed, identities[missed]);
    const where = describeWhere(board.status(rank));
    writeSync(
      2,
      `R${who.slice(1)} was lost: its process is gone. Rank ${rank} of ${size} ${where}, and will stop there.\n`,
    );
  };

  while (board.phase === Phase.running) {
    const now = monotonicMs();
    nameLoss(now);
    board.countLook();
    sayThrough();
    if (now >= nextBeat) {
      nextBeat = now + orders.heartbeatMs;
      beat();
    }
    if (now >= nextCheck) {
      nextCheck = now + PROCESS_CHECK_MS;
      for (let other = 0; other < size; other++) {
        if (other === rank || board.status(other).process === 'unreachable') continue;
        const state = processState(identities[other] as RankIdentity, self);
        if (state === 'gone' && !wereGone.has(other)) wereGone.add(other);
        else board.setProcess(other, state);
      }
    }
    beats.receive((bytes) => {
      const row = new Float64Array(bytes.buffer, bytes.byteOffset, 6);
      board.hear(row[5] as number, row);
    });
    aborts.receive((bytes) => {
      const [culprit, length] = new Float64Array(bytes.buffer, bytes.byteOffset, 2) as unknown as [number, number];
      board.abort(Buffer.from(bytes.slice(16, 16 + length)).toString(), culprit, false);
    });
    if (board.isAborted && !board.isDelivered && !hasSentAbort) {
      hasSentAbort = true;
      const { text, rank: culprit } = board.abortReason;
      const bytes = Buffer.from(text);
      const letter = new Uint8Array(16 + TEXT_BYTES);
      new Float64Array(letter.buffer, 0, 2).set([culprit, bytes.length]);
      letter.set(bytes, 16);
      aborts.sendToAll(letter);
    }
    // Whoever is lost takes no more messages; the others' have left when theirs have.
    if (hasSentAbort && !board.isDelivered && aborts.flush(isLost)) board.setDelivered();
    board.nap(NAP_MS);
  }

  // Nobody shall take the end of this process for a loss.
  const end = monotonicMs() + 1000;
  while (!sayThrough() && monotonicMs() < end) board.nap(1);
  beats.close();
  aborts.close();
  board.phase = Phase.closed;
  if (!board.waitForPhase(Phase.finalized, data.finalizeMs)) {
    endProcess(
      `${describeRank(rank, self)} could not leave Open MPI within ${data.finalizeMs / 1000} s; it is ended now.\n` +
        'help: another rank has stopped answering after the last collective; its output says more.',
    );
  }
}

if (!board.waitForPhase(Phase.running, data.startMs)) {
  endProcess(
    `Open MPI did not start within ${data.startMs / 1000} s: at least one process of the job did not come up.\n` +
      'help: look for the first error among the outputs of the ranks; a longer limit is --worker_start_secs (startSeconds).',
  );
} else {
  const message = receiveMessageOnPort(data.port) as { message: WatchOrders } | undefined;
  if (message) watch(message.message);
}
