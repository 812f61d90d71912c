/**
 * The process's membership in an MPI job: starting MPI, knowing the other ranks, the watch thread, and leaving.
 *
 * It runs no collectives (MpiCommunicator does, in whichever one thread of the process is given the handle). One group per
 * process at a time. Every wait here ends: start and leave are guarded by the watch thread, the rest polls with a limit.
 */
import { isMainThread, MessageChannel, type Worker } from 'node:worker_threads';
import { CommunicatorError } from '../communicator/communicator.js';
import { defaultLog } from '../log.js';
import type { MpiAlgorithm } from './all-reduce/start.js';
import type { MpiGroupHandle } from './group-handle.js';
import { ownIdentity, type RankIdentity } from './identity.js';
import { describeCulprit, findLoss, isLost, isThrough, mayGo } from './loss.js';
import { type Address, addressOf, OpenMpi } from './native/open-mpi.js';
import { describeWhere } from './operation.js';
import { jobName, removeSegments } from './segments.js';
import { startThread } from './start-thread.js';
import { monotonicMs, Phase, StatusBoard } from './status-board.js';
import type { WatchData, WatchOrders } from './watch-thread.js';
import type { WatchdogData } from './watchdog.js';

export interface MpiOptions {
  /** Longest wait in one operation for ranks that are alive, in seconds. Default 600. */
  readonly timeoutSeconds?: number;
  /** A rank that has said nothing for so long, in seconds, counts as lost. Default 60. */
  readonly silenceSeconds?: number;
  /** First warning about a late rank, and its repetition, in seconds. Default 60. */
  readonly warningSeconds?: number;
  /** Longest wait for all processes to start, in seconds. Default 180. */
  readonly startSeconds?: number;
  /** Milliseconds between signs of life. Default 250. */
  readonly heartbeatMs?: number;
  /** Compare number, kind, and bytes of every collective across ranks before it begins. Slow. Default false. */
  readonly debug?: boolean;
  /** How all-reduce sums; see the files of all-reduce/. Default 'auto', which is 'rank_order'. */
  readonly algorithm?: MpiAlgorithm;
  /** Receives one line, for warnings. Default: standard error. */
  readonly log?: (line: string) => void;
  /** Leave MPI for good in `close`. Default true. False if the process opens another group later. */
  readonly finalize?: boolean;
  /**
   * Ranks whose loss does not end the job for the others: asynchronous workers. Their failures stay their own, and mpirun
   * has to allow it (`--enable-recovery`). Collectives must not be used once such a rank is lost. Default: none.
   */
  readonly tolerated?: readonly number[];
}

export type { MpiGroupHandle } from './group-handle.js';

/** After the launcher's SIGTERM, ranks have about a second; so long do they look for the reason. */
const TERMINATION_MS = 700;
const IDENTITY_BYTES = 1024;
/** How often a rank that is through looks at the others, which may need its core. */
const CLOSE_LOOK_MS = 10;
/** For the others to hear the reason and to say it, before the job is ended. */
const PARTING_MS = 2_000;

/** See the file's head. */
export class MpiGroup {
  readonly handle: MpiGroupHandle;
  readonly #mpi: OpenMpi;
  readonly #board: StatusBoard;
  readonly #watch: Worker;
  readonly #finalize: boolean;
  readonly #log: (line: string) => void;
  readonly #onExit: (code: number) => void;
  readonly #onTerminate: (() => void) | null;
  #isOpen = true;

  /**
   * Joins the job that mpirun (or srun) started this process in; alone, it is a group of one.
   * Blocks until all processes have started.
   * @throws MpiNotFoundError without Open MPI; CommunicatorError if not all ranks come up in time.
   */
  static open(options: MpiOptions = {}): MpiGroup {
    return new MpiGroup(options);
  }

  private constructor(options: MpiOptions) {
    const startMs = seconds('startSeconds', options.startSeconds, 180);
    const limits = {
      timeoutMs: seconds('timeoutSeconds', options.timeoutSeconds, 600),
      silenceMs: seconds('silenceSeconds', options.silenceSeconds, 60),
      warningMs: seconds('warningSeconds', options.warningSeconds, 60),
    };
    this.#finalize = options.finalize ?? true;
    this.#log = options.log ?? defaultLog;
    this.#mpi = new OpenMpi();
    if (this.#mpi.isFinalized) {
      throw new CommunicatorError(
        'This process has already left Open MPI, and MPI cannot be started twice.\n' +
          'help: open one group and keep it, or open with finalize: false.',
      );
    }
    // The size is known only after init, and the guard has to run before it: one board for the largest possible job.
    const launched = Number(process.env.OMPI_COMM_WORLD_SIZE ?? process.env.PMIX_SIZE ?? process.env.SLURM_NTASKS ?? 1);
    this.#board = StatusBoard.create(Math.max(launched, 1));
    const channel = new MessageChannel();
    const workerData: WatchData = {
      board: this.#board.buffer,
      port: channel.port2,
      startMs,
      finalizeMs: 30_000,
    };
    this.#watch = startThread('watch-thread', 'mpi watch', workerData, [channel.port2]);
    if (!this.#mpi.isRunning) this.#mpi.init();
    const { world } = this.#mpi;
    const rank = this.#mpi.rank(world);
    const size = this.#mpi.size(world);
    if (size > Math.max(launched, 1)) {
      throw new CommunicatorError(
        `Open MPI counts ${size} processes, and the launcher announced ${launched}.\n` +
          'help: start the program with mpirun, or with srun --mpi=pmix.',
      );
    }
    const [collectives, messages, watch] = [1, 2, 3].map(() => this.#mpi.duplicate(world)) as [number, number, number];
    const identities = this.#exchangeIdentities(collectives, rank, size, startMs);
    this.handle = {
      rank,
      size,
      collectives,
      messages,
      board: this.#board.buffer,
      identities,
      ...limits,
      debug: options.debug ?? false,
      algorithm: options.algorithm ?? 'auto',
      tolerated: options.tolerated ?? [],
    };
    const orders: WatchOrders = {
      rank,
      size,
      comm: watch,
      identities,
      heartbeatMs: options.heartbeatMs ?? 250,
      tolerated: this.handle.tolerated,
    };
    channel.port1.postMessage(orders);
    channel.port1.unref();
    this.#board.hearAll(size);
    this.#board.phase = Phase.running;
    if (size > 1) {
      const { silenceMs, tolerated } = this.handle;
      const watchdog: WatchdogData = { board: this.#board.buffer, rank, identities, silenceMs, tolerated };
      startThread('watchdog', 'mpi watchdog', watchdog);
    }
    this.#onExit = (code) => this.#leaveWithout(code);
    process.once('exit', this.#onExit);
    this.#onTerminate = isMainThread && size > 1 ? () => this.#terminate() : null;
    if (this.#onTerminate) process.once('SIGTERM', this.#onTerminate);
  }

  get rank(): number {
    return this.handle.rank;
  }

  get size(): number {
    return this.handle.size;
  }

  /** Ends every rank's current and next operation with `reason`; from a tolerated rank nobody hears of it. */
  abort(reason: string): void {
    if (this.#isTolerated) return;
    this.#board.abort(`aborted the group: ${reason}`, this.rank);
    this.#board.waitForDelivery(500);
  }

  /**
   * Leaves the job together with all other ranks: waits until they close their groups too, as long as they are alive, and for
   * `timeoutSeconds` at most where no rank is tolerated. After an abort, or when a rank is lost meanwhile, it leaves alone and at
   * once, without MPI_Finalize: mpirun then ends the job with a status that is not 0.
   */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off('exit', this.#onExit);
    const board = this.#board;
    // Who has left without MPI_Finalize has seen a loss that was not seen here yet.
    const hasLost = () =>
      this.handle.tolerated.some((rank) => isLost(board, this.handle, rank)) ||
      (this.#finalize && this.#others().some((rank) => board.status(rank).state === 'left'));
    if (this.#finalize && !board.isAborted && !hasLost()) this.#waitForOthers(hasLost);
    // Until here, so that a rank that the launcher ends for another's fault can still say whose.
    if (this.#onTerminate) process.off('SIGTERM', this.#onTerminate);
    if (board.isAborted) {
      board.waitForDelivery(500);
      removeSegments(jobName());
      void this.#watch.terminate();
      return;
    }
    if (hasLost()) {
      // MPI_Finalize would wait for them for ever. The others hear that this rank leaves before its process is gone. Rank 0
      // goes last, when it has said all that it has to say, and ends what may still hang, a frozen rank for instance.
      this.#sayGoodbye();
      board.phase = Phase.finalized;
      removeSegments(jobName());
      if (this.rank === 0) {
        process.once('exit', (code) => {
          board.nap(PARTING_MS);
          this.#mpi.abort(code);
        });
      }
      return;
    }
    if (this.#finalize) {
      this.#endWatch();
      this.#mpi.finalize();
    } else this.#sayGoodbye();
    board.phase = Phase.finalized;
  }

  /** The watch thread tells all ranks, as its last message, that this one is not lost but has left. */
  #sayGoodbye(): void {
    this.#board.setState(this.rank, 'left');
    this.#endWatch();
  }

  #endWatch(): void {
    this.#board.phase = Phase.closing;
    this.#board.waitForPhase(Phase.closed, 5_000);
  }

  /**
   * Returns when all ranks know that all are through, or the group is aborted, or a tolerated rank is lost. It must not be
   * MPI_Finalize that waits for ranks that still work: that wait hears of no failure and has no limit of ours, and mpirun of Open
   * MPI 4.1 may hang when it has to end a job of which a rank is within it. For the same reason nobody enters it for whom a rank
   * would be missing there: that all are through is said once more, and only by the living.
   */
  #waitForOthers(hasLost: () => boolean): void {
    const [board, { timeoutMs, tolerated }] = [this.#board, this.handle];
    const others = this.#others();
    board.setState(this.rank, 'closed');
    board.wake();
    const began = monotonicMs();
    let isReady = isThrough;
    for (;;) {
      const late = others.filter((rank) => !isReady(board.status(rank)));
      if (board.isAborted || hasLost()) break;
      if (late.length === 0) {
        if (isReady === mayGo) break;
        isReady = mayGo;
        board.setState(this.rank, 'leaving');
        board.wake();
        continue;
      }
      const now = monotonicMs();
      // One that is closed waits here as well, and is missed when it goes.
      const needed = others.filter((rank) => !tolerated.includes(rank) && !mayGo(board.status(rank)));
      const loss = findLoss(board, this.handle, needed, now);
      if (loss) board.abort(loss.text, loss.rank);
      else if (tolerated.length === 0 && now - began > timeoutMs) {
        board.abort(`did not close its group within ${timeoutMs / 1000} s after rank ${this.rank}`, late[0] as number);
      }
      board.nap(CLOSE_LOOK_MS);
    }
    if (!board.isAborted) return;
    const why = describeCulprit(board.abortReason, this.handle);
    this.#log(`${why}. Rank ${this.rank} of ${this.size} was through and waited for the others.`);
  }

  #others(): number[] {
    return Array.from({ length: this.size }, (_, rank) => rank).filter((rank) => rank !== this.rank);
  }

  #exchangeIdentities(comm: Address, rank: number, size: number, limitMs: number): RankIdentity[] {
    const mine = Buffer.from(JSON.stringify(ownIdentity()));
    if (mine.length > IDENTITY_BYTES)
      throw new Error(`The identity of rank ${rank} is longer than ${IDENTITY_BYTES} bytes.`);
    const own = new Uint8Array(new SharedArrayBuffer(IDENTITY_BYTES)).fill(0x20);
    own.set(mine);
    const all = new Uint8Array(new SharedArrayBuffer(IDENTITY_BYTES * size));
    const { types } = this.#mpi;
    const request = this.#mpi.iallgather(all, addressOf(own), addressOf(all), IDENTITY_BYTES, types.byte, comm);
    const end = monotonicMs() + limitMs;
    while (!this.#mpi.test(request)) {
      if (monotonicMs() > end) {
        throw new CommunicatorError(
          `Rank ${rank} of ${size} waited ${limitMs / 1000} s for the other ranks to start.\n` +
            'help: look for the first error among the outputs of the ranks; a longer limit is --worker_start_secs (startSeconds).',
        );
      }
      this.#board.nap(0.1);
    }
    return Array.from(
      { length: size },
      (_, i) =>
        JSON.parse(Buffer.from(all.slice(i * IDENTITY_BYTES, (i + 1) * IDENTITY_BYTES)).toString()) as RankIdentity,
    );
  }

  /** The process ends and the group is still open: after success we leave in order, else the others must not wait for us. */
  #leaveWithout(code: number): void {
    if (code === 0) {
      this.close();
      return;
    }
    if (this.#isTolerated) return;
    this.#board.abort(`ended with exit status ${code} before the group was closed`, this.rank);
    this.#board.waitForDelivery(500);
    removeSegments(jobName());
    // Where mpirun lets a job go on without a rank, it does not end the others, frozen ones among them, by itself.
    if (this.handle.tolerated.length > 0) {
      this.#board.nap(PARTING_MS);
      this.#mpi.abort(code);
    }
  }

  get #isTolerated(): boolean {
    return this.handle.tolerated.includes(this.rank);
  }

  /**
   * The launcher ends the job: some rank is lost, or somebody stopped it. Waiting ranks look for the reason; if there is
   * none, whoever else listens to SIGTERM (to save and leave) decides, and without such a listener we go.
   */
  #terminate(): void {
    const began = monotonicMs();
    const isAlone = process.listenerCount('SIGTERM') === 0;
    setTimeout(() => {
      if (!this.#isOpen) return;
      this.#suspect(began);
      const { isAborted, abortReason } = this.#board;
      if (!isAborted && !isAlone) return;
      const why = isAborted ? `${describeCulprit(abortReason, this.handle)}. ` : '';
      process.stderr.write(
        `${why}Rank ${this.rank} of ${this.size} ${describeWhere(this.#board.status(this.rank))}; its launcher told it to end.\n`,
      );
      process.exit(143);
    }, TERMINATION_MS).unref();
  }

  /**
   * A rank that has said nothing since the launcher's signal is what the job is ended for (the others have said so twice
   * meanwhile); Open MPI may hold the waiting thread up.
   */
  #suspect(since: number): void {
    const now = monotonicMs();
    const silences = Array.from({ length: this.size }, (_, rank) => {
      const status = this.#board.status(rank);
      const isExcused = rank === this.rank || isThrough(status) || this.handle.tolerated.includes(rank);
      return { rank, silence: isExcused ? 0 : now - status.heard };
    });
    const [most] = silences.sort((left, right) => right.silence - left.silence);
    if (most && most.silence > now - since) {
      this.#board.abort(`was lost: it has not answered for ${(most.silence / 1000).toFixed(1)} s`, most.rank);
    }
  }
}

function seconds(name: string, value: number | undefined, byDefault: number): number {
  const chosen = value ?? byDefault;
  if (Number.isFinite(chosen) && chosen > 0) return chosen * 1000;
  throw new RangeError(`${name} must be a positive number of seconds, got ${value}.`);
}
