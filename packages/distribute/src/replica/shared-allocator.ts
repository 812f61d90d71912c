/**
 * Memory that all replicas of a process see, allocated from inside the replicas, without the main thread.
 *
 * Replica 0 allocates and passes the SharedArrayBuffer through message ports, which hand it over at once within a process;
 * a barrier orders the two. Collective: every replica asks for the same sizes in the same order.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Communicator } from '../communicator/communicator.js';

export class SharedAllocator {
  /** @param ports Replica 0: one to each other replica, in order. Others: one to replica 0. */
  constructor(
    private readonly communicator: Pick<Communicator, 'barrier'>,
    private readonly replica: number,
    private readonly ports: readonly MessagePort[],
  ) {}

  /** Zeroed memory, the same on every replica. Collective. */
  allocate(byteLength: number): SharedArrayBuffer {
    if (this.replica === 0) {
      const buffer = new SharedArrayBuffer(byteLength);
      for (const port of this.ports) port.postMessage(buffer);
      this.communicator.barrier();
      return buffer;
    }
    this.communicator.barrier();
    const received = receiveMessageOnPort(this.ports[0] as MessagePort) as { message: SharedArrayBuffer } | undefined;
    if (received?.message.byteLength !== byteLength) {
      throw new Error(
        `Replica ${this.replica} asked for ${byteLength} bytes of shared memory, replica 0 allocated ` +
          `${received ? received.message.byteLength : 'none'}.\nhelp: all replicas must run the same calls in the same order.`,
      );
    }
    return received.message;
  }
}
