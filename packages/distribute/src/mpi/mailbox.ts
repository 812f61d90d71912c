/**
 * Small messages of one length between all ranks, for the watch thread: signs of life and aborts.
 *
 * Nothing is queued and nothing blocks: one receive from anybody is open, and at most one send to each rank is on its way.
 * A rank that does not take its last message simply gets no newer one.
 */
import { type Address, addressOf, type OpenMpi, type Request } from './native/open-mpi.js';

const ANY_SOURCE = -1;

/** See the file's head. */
export class Mailbox {
  readonly #inbox: Uint8Array;
  readonly #outbox: Uint8Array;
  readonly #sends: (Request | null)[];
  #receive: Request;

  constructor(
    private readonly mpi: OpenMpi,
    private readonly comm: Address,
    private readonly tag: number,
    private readonly length: number,
    private readonly rank: number,
    size: number,
  ) {
    this.#inbox = new Uint8Array(new SharedArrayBuffer(length));
    this.#outbox = new Uint8Array(new SharedArrayBuffer(length * size));
    this.#sends = new Array(size).fill(null);
    this.#receive = this.#listen();
  }

  /** Sends to every rank that has taken the last message. Returns the ranks that MPI cannot reach. */
  sendToAll(bytes: Uint8Array, isDeaf: (other: number) => boolean = () => false): number[] {
    const lost: number[] = [];
    for (let other = 0; other < this.#sends.length; other++) {
      if (other === this.rank || isDeaf(other)) continue;
      try {
        const earlier = this.#sends[other];
        if (earlier != null && !this.mpi.test(earlier)) continue;
        const own = this.#outbox.subarray(other * this.length, (other + 1) * this.length);
        own.set(bytes);
        this.#sends[other] = this.mpi.isend(
          own,
          addressOf(own),
          this.length,
          this.mpi.types.byte,
          other,
          this.tag,
          this.comm,
        );
      } catch {
        this.#sends[other] = null;
        lost.push(other);
      }
    }
    return lost;
  }

  receive(take: (bytes: Uint8Array) => void): void {
    while (this.mpi.test(this.#receive)) {
      take(this.#inbox);
      this.#receive = this.#listen();
    }
  }

  /** True when everything sent has left, except what is for ranks that nobody expects to take it. */
  flush(isExcused: (other: number) => boolean = () => false): boolean {
    for (const [other, send] of this.#sends.entries()) {
      if (send !== null && this.mpi.test(send)) this.#sends[other] = null;
    }
    return this.#sends.every((send, other) => send === null || isExcused(other));
  }

  close(): void {
    this.mpi.cancel(this.#receive);
  }

  #listen(): Request {
    return this.mpi.irecv(
      this.#inbox,
      addressOf(this.#inbox),
      this.length,
      this.mpi.types.byte,
      ANY_SOURCE,
      this.tag,
      this.comm,
    );
  }
}
