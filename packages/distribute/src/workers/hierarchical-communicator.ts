/**
 * One Communicator over all replicas of all workers: shared memory within a process, Open MPI between processes.
 *
 * Ranks count worker by worker: rank = worker · replicas per worker + replica. Only local rank 0, the leader, takes part in
 * collectives between workers; the others get its result through shared memory. Sums run over a worker's replicas first,
 * then over workers: (r0 + r1) + (r2 + r3). A lost worker surfaces as a WorkerLostError on its leader.
 */
import type { Buffer, Communicator, CommunicatorReduceOp, Work } from '../communicator/communicator.js';
import { CommunicatorError } from '../communicator/communicator.js';
import type { MpiAllReduceOptions, MpiCommunicator } from '../mpi/mpi-communicator.js';

/** A worker process is lost, or workers are out of step. Its rank counts processes, not replicas. */
export class WorkerLostError extends Error {
  override readonly name = 'WorkerLostError';
  constructor(
    message: string,
    readonly worker?: number,
  ) {
    super(message);
  }
}

/** See the file's head. */
export class HierarchicalCommunicator implements Communicator {
  readonly name = 'hierarchical';
  readonly rank: number;
  readonly size: number;
  readonly isLeader: boolean;

  /**
   * @param local The replicas of this process.
   * @param workers This thread's communicator between processes; only the leader uses it for collectives.
   * @param options How gradients travel between workers; see {@link allReduceGradients}.
   */
  constructor(
    readonly local: Communicator,
    readonly workers: MpiCommunicator,
    private readonly options: MpiAllReduceOptions = {},
  ) {
    this.rank = workers.rank * local.size + local.rank;
    this.size = workers.size * local.size;
    this.isLeader = local.rank === 0;
  }

  allReduce(buffer: Buffer, op: CommunicatorReduceOp = 'sum'): void {
    this.local.allReduce(buffer, op);
    this.#lead(() => this.workers.allReduce(buffer, op));
    this.local.broadcast(buffer, 0);
  }

  /** Sums within the process now, between processes in the background; `wait` must be called in the order of issue. */
  allReduceAsync(buffer: Buffer, op: CommunicatorReduceOp = 'sum'): Work {
    this.local.allReduce(buffer, op);
    return this.#startBetweenWorkers(buffer, op, {});
  }

  /** As {@link allReduceAsync} for sums of gradients, with the group's wire format and algorithm. */
  allReduceGradients(buffer: Float32Array): Work {
    this.local.allReduce(buffer);
    return this.#startBetweenWorkers(buffer, 'sum', this.options);
  }

  broadcast(buffer: Buffer, root: number): void {
    const [worker, replica] = this.#place(root);
    if (worker === this.workers.rank && replica !== 0) this.local.broadcast(buffer, replica);
    this.#lead(() => this.workers.broadcast(buffer, worker));
    this.local.broadcast(buffer, 0);
  }

  allGather(send: Buffer, receive: Buffer): void {
    const own = receive.subarray(
      this.workers.rank * this.local.size * send.length,
      (this.workers.rank + 1) * this.local.size * send.length,
    ) as Buffer;
    const gathered = own.slice() as Buffer;
    this.local.allGather(send, gathered);
    this.#lead(() => this.workers.allGather(gathered, receive));
    this.local.broadcast(receive, 0);
  }

  barrier(): void {
    this.local.barrier();
    this.#lead(() => this.workers.barrier());
    this.local.barrier();
  }

  send(buffer: Buffer, destination: number, tag = 0): void {
    const [worker, replica] = this.#place(destination);
    if (worker === this.workers.rank) this.local.send(buffer, replica, tag);
    else guard(() => this.workers.send(buffer, worker, this.#tag(tag, this.local.rank, replica)));
  }

  receive(buffer: Buffer, source: number, tag = 0): void {
    const [worker, replica] = this.#place(source);
    if (worker === this.workers.rank) this.local.receive(buffer, replica, tag);
    else guard(() => this.workers.receive(buffer, worker, this.#tag(tag, replica, this.local.rank)));
  }

  abort(reason: string): void {
    this.workers.abort(reason);
    this.local.abort(reason);
  }

  /** Leaves neither group: both belong to the process, not to a replica. */
  close(): void {}

  /** Runs on the leader only. */
  #lead<T>(between: () => T): T | undefined {
    return this.isLeader ? guard(between) : undefined;
  }

  #startBetweenWorkers(buffer: Buffer, op: CommunicatorReduceOp, options: MpiAllReduceOptions): Work {
    const work = this.#lead(() => this.workers.allReduceAsync(buffer, op, options));
    let isDone = false;
    return {
      test: () => {
        this.#lead(() => work?.test());
        return isDone;
      },
      wait: () => {
        if (isDone) return;
        this.#lead(() => work?.wait());
        this.local.broadcast(buffer, 0);
        isDone = true;
      },
    };
  }

  #place(rank: number): [worker: number, replica: number] {
    if (Number.isInteger(rank) && rank >= 0 && rank < this.size) {
      return [Math.floor(rank / this.local.size), rank % this.local.size];
    }
    throw new RangeError(`Rank ${rank} is not in this group; ranks are 0 to ${this.size - 1}.`);
  }

  /** Replicas of a worker share its MPI rank, so the pair of replicas travels in the tag. */
  #tag(tag: number, from: number, to: number): number {
    return (tag * this.local.size + from) * this.local.size + to;
  }
}

/** What goes wrong between workers is told in terms of workers. */
export function guard<T>(between: () => T): T {
  try {
    return between();
  } catch (error) {
    throw asWorkerError(error);
  }
}

/** A rank of the group between processes must not be taken for a replica's number. */
export function asWorkerError(error: unknown): unknown {
  return error instanceof CommunicatorError ? new WorkerLostError(error.message, error.rank) : error;
}
