/**
 * A Communicator that counts, in the control block, what it is asked to do.
 *
 * It changes nothing. The counts tell the main thread that a replica waits in a collective which another, already
 * finished, will never join, and let it say who is where.
 */
import type { Buffer, Communicator, CommunicatorReduceOp, Work } from '../communicator/communicator.js';
import type { SharedMemoryCommunicator } from '../communicator/shared-memory-communicator.js';
import type { ControlBlock } from './control-block.js';

export class CountingCommunicator implements Communicator {
  readonly name: string;
  readonly rank: number;
  readonly size: number;

  constructor(
    /** The communicator itself, for algorithms that know its memory; their use is to be {@link counted}. */
    readonly inner: SharedMemoryCommunicator,
    private readonly control: ControlBlock,
    private readonly replica: number,
  ) {
    this.name = inner.name;
    this.rank = inner.rank;
    this.size = inner.size;
  }

  /** Runs `collective` as one counted collective operation. */
  counted<T>(collective: () => T): T {
    this.control.beginCollective(this.replica);
    try {
      return collective();
    } finally {
      this.control.endCollective(this.replica);
    }
  }

  allReduce(buffer: Buffer, op?: CommunicatorReduceOp): void {
    this.counted(() => this.inner.allReduce(buffer, op));
  }

  allReduceAsync(buffer: Buffer, op?: CommunicatorReduceOp): Work {
    const work = this.inner.allReduceAsync(buffer, op);
    return { test: () => work.test(), wait: () => this.counted(() => work.wait()) };
  }

  broadcast(buffer: Buffer, root: number): void {
    this.counted(() => this.inner.broadcast(buffer, root));
  }

  allGather(send: Buffer, receive: Buffer): void {
    this.counted(() => this.inner.allGather(send, receive));
  }

  barrier(): void {
    this.counted(() => this.inner.barrier());
  }

  send(buffer: Buffer, destination: number, tag?: number): void {
    this.inner.send(buffer, destination, tag);
  }

  receive(buffer: Buffer, source: number, tag?: number): void {
    this.counted(() => this.inner.receive(buffer, source, tag));
  }

  abort(reason: string): void {
    this.inner.abort(reason);
  }

  close(): void {
    this.inner.close();
  }
}
