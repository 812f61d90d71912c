/**
 * The watchdog: a thread that never enters MPI, and ends the process when those that do are held up in there.
 *
 * Every other limit is kept by a thread that calls MPI (the watch, the communicator's waits). A call that does not return takes
 * its limit with it: Open MPI 4.1 reads a new connection's first bytes with a blocking receive, so a stranger on a rank's port can
 * hold it for ever. Then the watch thread stops counting its looks, or counts them and hears nobody while the waiting thread, which
 * should have given up, does not. Only time in which this thread itself runs is counted: a process that was frozen is not at fault.
 */
import { workerData } from 'node:worker_threads';
import { endProcess } from './end-process.js';
import { describeRank, type RankIdentity } from './identity.js';
import { inSeconds, mayGo } from './loss.js';
import { describeWhere } from './operation.js';
import { monotonicMs, Phase, StatusBoard } from './status-board.js';

/** What the thread is born with. */
export interface WatchdogData {
  readonly board: SharedArrayBuffer;
  readonly rank: number;
  readonly identities: readonly RankIdentity[];
  /** After which a silent rank counts as lost, milliseconds; so long may a call take. */
  readonly silenceMs: number;
  /** Ranks that may be lost: nobody has to hear of them. */
  readonly tolerated: readonly number[];
}

const LOOK_MS = 500;
/** For the waiting thread to give up by itself, when it can. */
const PATIENCE_MS = 5_000;

const { board: buffer, rank, identities, silenceMs, tolerated } = workerData as WatchdogData;
const board = new StatusBoard(buffer);
const napWord = new Int32Array(new SharedArrayBuffer(4));

/** Counts milliseconds in which something stays as it is, by looks that were not late themselves. */
class Stillness {
  #ms = 0;
  #last: unknown;

  add(value: unknown, elapsedMs: number): number {
    // A look that comes late says nothing of the time before it: the whole process may have been frozen.
    this.#ms = Object.is(value, this.#last) ? this.#ms + Math.min(elapsedMs, 2 * LOOK_MS) : 0;
    this.#last = value;
    return this.#ms;
  }
}

/** Why the process is to be ended; null while all is well. */
function diagnose(watching: number, deaf: number): string | null {
  if (watching > silenceMs) {
    return `${describeRank(rank, identities[rank])} has been held up inside Open MPI for ${inSeconds(watching)} s`;
  }
  if (deaf > silenceMs + PATIENCE_MS) {
    const where = describeWhere(board.status(rank));
    return `${describeRank(rank, identities[rank])} ${where} and has heard of no other rank for ${inSeconds(deaf)} s`;
  }
  return null;
}

/** The last time that anybody was heard of whom this rank should hear, while it waits; otherwise always another value. */
function lastHeard(now: number): number {
  if (board.status(rank).state !== 'waiting' || board.isAborted) return now;
  const others = identities
    .map((_, other) => other)
    .filter((other) => other !== rank && !tolerated.includes(other) && !mayGo(board.status(other)));
  return others.length === 0 ? now : Math.max(...others.map((other) => board.status(other).heard));
}

const watch = new Stillness();
const others = new Stillness();
let last = monotonicMs();
while (board.phase === Phase.running) {
  Atomics.wait(napWord, 0, 0, LOOK_MS);
  const now = monotonicMs();
  const elapsed = now - last;
  last = now;
  const why = diagnose(watch.add(board.looks, elapsed), others.add(lastHeard(now), elapsed));
  if (why === null || board.phase !== Phase.running) continue;
  endProcess(
    `R${why.slice(1)}; it is ended now.\n` +
      'help: a connection from outside the job on one of its ports does that. Ranks on several machines listen on all their ' +
      'interfaces: let a firewall admit only the machines of the job, and name the network with --mca btl_tcp_if_include.',
  );
}
