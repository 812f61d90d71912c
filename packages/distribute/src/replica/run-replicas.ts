/**
 * The main thread's side of a run: one worker thread per device, watched until all have ended.
 *
 * It starts them, passes reports on, and decides when a run has failed: a replica throws, calls process.exit, runs out of
 * memory, stops answering in a reduction, or ends while another still waits for it. Then the group is aborted (waiting
 * replicas wake at once), whoever does not end by itself is terminated, and one error names the replica and its cause.
 * No thread survives a run, and no wait here is without end.
 */
import { host } from '#host';
import { createSharedMemoryGroup, type SharedMemoryGroup } from '../communicator/shared-memory-group.js';
import type { CrossDeviceOpsConfig } from '../cross-device-ops/cross-device-ops.js';
import type { DeviceDescription } from '../devices/device.js';
import type { MemoryLimits, Thread } from '../host/host.js';
import { ControlBlock } from './control-block.js';
import type { ReplicaMessage, ReplicaWorkerData } from './protocol.js';
import { ReplicaError, type ReplicaFailureKind } from './replica-error.js';
import type { SummarySink } from './summary.js';
import { describeError, fromTransferred, type ReplicaFailureReport, toTransferred } from './transferred-error.js';

export interface RunOptions {
  /** Called, in order of arrival, with what replicas hand to `context.report`. An exception from it fails the run. */
  readonly onReport?: (replica: number, message: unknown) => void;
  /** Takes what the chief's first replica tells by `context.summary`. An exception from it fails the run. */
  readonly summary?: SummarySink;
  /**
   * Cancels the run: `context.shouldStop()` becomes true on all replicas at the same step; a replica that has not returned
   * after `graceSeconds` is terminated, and the run rejects with an AbortError.
   */
  readonly signal?: AbortSignal;
  /** Seconds between the signal and termination; Infinity waits for as long as a step takes. Default 30. */
  readonly graceSeconds?: number;
  /** Compute threads of each replica. Default: physical cores ÷ replicas. */
  readonly threadsPerReplica?: number;
  /** Bind each replica's thread to its cores. Default true. */
  readonly bindThreads?: boolean;
  /** Longest wait for the other replicas in one collective operation, in seconds. Default 300. */
  readonly timeoutSeconds?: number;
  /** V8's memory limits of each replica's thread. Default: Node's. */
  readonly resourceLimits?: MemoryLimits;
}

/** Devices and how their gradients are reduced. */
export interface ReplicaGroupSpec {
  readonly devices: readonly DeviceDescription[];
  readonly crossDeviceOps: CrossDeviceOpsConfig;
}

const DEFAULT_TIMEOUT_SECONDS = 300;
const DEFAULT_GRACE_SECONDS = 30;
/** After an abort, replicas get this long to end by themselves, so that their own errors are heard. */
const UNWIND_MS = 2_000;
/** After its result, a thread gets this long to end by itself (flushing its output). */
const LINGER_MS = 1_000;
/** A thread in native code cannot be terminated before that returns. */
const TERMINATE_MS = 10_000;
/** Node's exit status for a thread that has nothing left to do while its module still awaits. */
const UNSETTLED = 13;
const NEVER_SETTLES =
  'waits for a promise that never settles: nothing is left in its thread that could settle it.\n' +
  'help: look for an await in the replica function, or at the top level of its module, whose resolve is never called.';
/** How often the main thread looks whether somebody waits for a replica that has finished. */
const WATCH_MS = 100;

interface Failure {
  readonly replica: number;
  readonly kind: ReplicaFailureKind;
  readonly message: string;
  readonly cause?: Error;
  /** A replica that was woken by an abort, or waited in vain: not the origin, if there is another. */
  readonly isSecondary: boolean;
}

/**
 * Runs the default export of `module` on every device. What it is given has been checked (strategy/prepare-run.ts).
 * @param module its URL
 * @returns what the replicas returned, in replica order.
 * @throws ReplicaError if a replica fails; the signal's AbortError if the run was cancelled and did not end gracefully.
 */
export function runReplicas(
  spec: ReplicaGroupSpec,
  module: string,
  args: unknown,
  options: RunOptions,
): Promise<unknown[]> {
  options.signal?.throwIfAborted();
  return new ReplicaRun(spec, module, args, options).promise;
}

class ReplicaRun {
  readonly promise: Promise<unknown[]>;
  readonly #size: number;
  readonly #group: SharedMemoryGroup;
  readonly #control: ControlBlock;
  /** Bytes of output under way, of all replicas. */
  readonly #underWay = new Int32Array(new SharedArrayBuffer(4));
  readonly #workers: Thread[] = [];
  readonly #results: unknown[];
  readonly #finished = new Set<number>();
  readonly #exited = new Set<number>();
  readonly #failures: Failure[] = [];
  readonly #timers = new Set<NodeJS.Timeout>();
  #watcher: NodeJS.Timeout | null = null;
  #isStopping = false;
  #cancelled: Error | null = null;
  #whereWhenStopped = '';
  #settle!: { resolve(results: unknown[]): void; reject(error: unknown): void };
  #onAbort: (() => void) | null = null;

  constructor(
    private readonly spec: ReplicaGroupSpec,
    private readonly module: string,
    args: unknown,
    private readonly options: RunOptions,
  ) {
    const size = spec.devices.length;
    this.#size = size;
    this.#results = new Array(size).fill(undefined);
    this.#control = ControlBlock.create(size);
    this.#group = createSharedMemoryGroup(size, {
      timeoutMs: (options.timeoutSeconds ?? DEFAULT_TIMEOUT_SECONDS) * 1000,
    });
    this.promise = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#listenToSignal();
    try {
      this.#start(args);
    } catch (error) {
      // An argument that cannot be cloned, for instance: the threads that did start have to go.
      this.#fail({
        replica: this.#workers.length,
        kind: 'start',
        message: `could not be started: ${(error as Error).message}`,
        cause: error as Error,
        isSecondary: false,
      });
      this.#settleIfDone();
    }
  }

  #start(args: unknown): void {
    for (const [replica, device] of this.spec.devices.entries()) {
      const workerData: ReplicaWorkerData = {
        replica,
        replicas: this.#size,
        device,
        bindThreads: this.options.bindThreads ?? true,
        module: this.module,
        args,
        control: this.#control.buffer,
        group: this.#group,
        crossDeviceOps: this.spec.crossDeviceOps,
        hasSummary: this.options.summary !== undefined,
        underWay: this.#underWay.buffer,
      };
      const { resourceLimits } = this.options;
      const thread = host.startReplica(
        workerData,
        { name: `replica ${replica}`, ...(resourceLimits && { resourceLimits }) },
        {
          onMessage: (message) => this.#onMessage(replica, message as ReplicaMessage),
          onError: (error) => this.#onError(replica, error),
          onExit: (code) => this.#onExit(replica, code),
        },
      );
      this.#workers.push(thread);
    }
  }

  #onMessage(replica: number, message: ReplicaMessage): void {
    if (message.type === 'output') host.writeOutput(message, this.#underWay);
    else if (message.type === 'report' || message.type === 'summary') {
      try {
        if (message.type === 'report') this.options.onReport?.(replica, message.message);
        else this.options.summary?.add(message.event);
      } catch (error) {
        this.#fail({
          replica,
          kind: 'error',
          message: `sent a ${message.type} that ${message.type === 'report' ? 'onReport' : 'its sink'} could not take: ${(error as Error).message}`,
          cause: error as Error,
          isSecondary: false,
        });
      }
    } else if (message.type === 'result') {
      this.#results[replica] = message.value;
      this.#finished.add(replica);
      this.#after(LINGER_MS, () => this.#terminate(replica));
      this.#watch();
    } else this.#onTransferredError(replica, message.error);
  }

  #onTransferredError(replica: number, error: ReplicaFailureReport): void {
    const cause = fromTransferred(error);
    if (!error.isCommunicatorError) {
      const verb = error.whileStarting ? 'could not start' : 'failed';
      const kind = error.whileStarting ? 'start' : 'error';
      this.#fail({ replica, kind, message: `${verb}: ${describeError(error)}`, cause, isSecondary: false });
      return;
    }
    const blamed = error.blamedRank;
    const isOther = blamed !== undefined && blamed !== replica && blamed >= 0 && blamed < this.#size;
    this.#fail({
      replica: isOther ? blamed : replica,
      kind: 'stalled',
      message: isOther ? `did not take part (replica ${replica}: ${error.message})` : `failed: ${error.message}`,
      cause,
      isSecondary: true,
    });
  }

  #onError(replica: number, error: Error & { code?: string }): void {
    if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
      this.#fail({
        replica,
        kind: 'out-of-memory',
        message:
          `ran out of memory: ${error.message}\nhelp: smaller batches, fewer replicas, or a higher limit ` +
          '(resourceLimits of strategy.run, or NODE_OPTIONS=--max-old-space-size=<MB>).',
        cause: error,
        isSecondary: false,
      });
    } else
      this.#fail({
        replica,
        kind: 'error',
        message: `failed: ${describeError(toTransferred(error))}`,
        cause: error,
        isSecondary: false,
      });
  }

  #onExit(replica: number, code: number): void {
    this.#exited.add(replica);
    if (!this.#finished.has(replica) && !this.#isStopping) {
      this.#fail({
        replica,
        kind: 'exit',
        message:
          code === UNSETTLED ? NEVER_SETTLES : `ended by process.exit(${code}) before the replica function returned.`,
        isSecondary: false,
      });
    }
    this.#settleIfDone();
  }

  /** Somebody waits in a collective that a finished replica has not joined and never will: the run is out of step. */
  #watch(): void {
    if (this.#watcher || this.#size === 1) return;
    const seenWaiting = new Map<number, number>();
    this.#watcher = setInterval(() => {
      for (const finished of this.#finished) {
        const limit = this.#control.progress(finished).collectives;
        for (let other = 0; other < this.#size; other++) {
          if (this.#finished.has(other)) continue;
          const { isWaiting, collectives } = this.#control.progress(other);
          const isStuck = isWaiting && collectives > limit && seenWaiting.get(other) === collectives;
          seenWaiting.set(other, isWaiting ? collectives : -1);
          if (!isStuck || this.#isStopping) continue;
          this.#fail({
            replica: finished,
            kind: 'out-of-step',
            message:
              `returned while replica ${other} waits for it: replicas made different numbers of steps.\n` +
              'help: every replica makes the same steps and the same collective calls. Look for a branch on the replica, an early end ' +
              '(stopTraining, break, return) or an error that was caught on one of them; where data is divided, context.shard() gives ' +
              'each the same number of elements.',
            isSecondary: false,
          });
          return;
        }
      }
    }, WATCH_MS);
  }

  #listenToSignal(): void {
    const { signal, graceSeconds = DEFAULT_GRACE_SECONDS } = this.options;
    if (!signal) return;
    this.#onAbort = () => {
      this.#control.requestStop();
      // A timer counts up to 2^31 ms; one that is set for longer fires at once.
      if (graceSeconds * 1000 >= 2 ** 31) return;
      this.#after(graceSeconds * 1000, () => {
        this.#cancelled = signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason));
        this.#stop('the run was cancelled');
      });
    };
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  #fail(failure: Failure): void {
    if (this.#finished.has(failure.replica) && failure.isSecondary) return;
    this.#failures.push(failure);
    this.#stop(`replica ${failure.replica} ${failure.message}`);
  }

  /** Wakes everybody who waits, and terminates whoever has not ended soon after. */
  #stop(reason: string): void {
    if (this.#isStopping) return;
    this.#isStopping = true;
    this.#whereWhenStopped = this.#control.describe(this.#size);
    this.#group.abort(reason);
    this.#after(UNWIND_MS, () => {
      for (let replica = 0; replica < this.#workers.length; replica++) this.#terminate(replica);
      this.#after(TERMINATE_MS, () => {
        const stuck = this.#workers.map((_, replica) => replica).filter((replica) => !this.#exited.has(replica));
        for (const replica of stuck) {
          this.#workers[replica]?.unref();
          this.#exited.add(replica);
          this.#whereWhenStopped += `; the thread of replica ${replica} is in native code and could not be ended`;
        }
        this.#settleIfDone();
      });
    });
  }

  #terminate(replica: number): void {
    if (!this.#exited.has(replica)) this.#workers[replica]?.terminate();
  }

  #after(ms: number, action: () => void): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      action();
    }, ms);
    this.#timers.add(timer);
  }

  #settleIfDone(): void {
    if (this.#exited.size < this.#workers.length) return;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    if (this.#watcher) clearInterval(this.#watcher);
    if (this.#onAbort) this.options.signal?.removeEventListener('abort', this.#onAbort);
    const failure = this.#failures.find((candidate) => !candidate.isSecondary) ?? this.#failures[0];
    if (failure && !this.#cancelled) this.#settle.reject(this.#toError(failure));
    else if (this.#cancelled) this.#settle.reject(this.#cancelled);
    else this.#settle.resolve(this.#results);
  }

  #toError({ replica, kind, message, cause }: Failure): ReplicaError {
    const device = this.spec.devices[replica]?.name;
    const where = this.#size > 1 ? `\n(${this.#whereWhenStopped})` : '';
    return new ReplicaError(`Replica ${replica} (${device}) ${message}${where}`, replica, kind, cause ? { cause } : {});
  }
}
