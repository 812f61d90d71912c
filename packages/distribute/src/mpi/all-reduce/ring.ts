/**
 * Ring all-reduce (Patarasuk and Yuan, 2009; upstream's RING): n − 1 steps of reduce-scatter, n − 1 of all-gather.
 *
 * Each rank talks to its two neighbours only and sends 2 (n − 1) / n of the buffer, the least possible. Part p is summed in
 * the order of ranks p, p + 1, …, p + n − 1 (mod n): fixed, and the same on all ranks, but it depends on where in the buffer
 * an element lies. So results are bit-identical between ranks and from run to run, and may differ in the last bit between
 * different numbers of packs or of ranks (with two ranks there is only one order).
 */
import type { Buffer, CommunicatorReduceOp } from '../../communicator/communicator.js';
import { addressOf, type Request } from '../native/open-mpi.js';
import { type AllReduceContext, type AllReduceRun, done, partition, Wire } from './all-reduce.js';

export function* ringAllReduce(context: AllReduceContext, buffer: Buffer, op: CommunicatorReduceOp): AllReduceRun {
  const { mpi, rank, size, scratch, tag } = context;
  const wire = new Wire(context, buffer, op);
  const { segments, longest, range } = partition(buffer.length, size, wire.bytesPerElement);
  const next = (rank + 1) % size;
  const previous = (rank + size - 1) % size;
  const partAt = (step: number) => (rank - step + 2 * size) % size;
  const inbox = scratch.take(segments * longest * wire.bytesPerElement);
  const inboxBase = addressOf(inbox);
  const slot = (segment: number) => inboxBase + segment * longest * wire.bytesPerElement;

  const receives: (Request | null)[] = [];
  /** Last send of each part and segment: a part may be overwritten only after it. */
  const sends: (Request | null)[][] = Array.from({ length: size }, () => new Array(segments).fill(null));
  const send = (part: number, segment: number, phaseTag: number) => {
    const { start, length } = range(part, segment);
    (sends[part] as (Request | null)[])[segment] = wire.sendRange(start, length, next, phaseTag);
  };
  const receive = (part: number, segment: number) => {
    const { length } = range(part, segment);
    receives[segment] = wire.receiveInto(inbox, slot(segment), length, previous, tag);
  };

  for (let segment = 0; segment < segments; segment++) {
    receive(partAt(1), segment);
    send(rank, segment, tag);
  }
  // Reduce-scatter: what comes from the left is added to the own part and, as soon as it is, sent on to the right.
  for (let step = 1; step < size; step++) {
    const part = partAt(step);
    for (let segment = 0; segment < segments; segment++) {
      const { start, length } = range(part, segment);
      yield* done(mpi, receives[segment]);
      wire.combine(slot(segment), wire.at(start), length);
      if (step + 1 < size) receive(partAt(step + 1), segment);
      send(part, segment, step + 1 < size ? tag : tag + 1);
    }
  }
  // All-gather: finished parts go round once; each is received where it belongs.
  for (let step = 0; step + 1 < size; step++) {
    const part = partAt(step);
    for (let segment = 0; segment < segments; segment++) {
      const { start, length } = range(part, segment);
      yield* done(mpi, sends[part]?.[segment]);
      (sends[part] as (Request | null)[])[segment] = null;
      yield* done(mpi, wire.receiveRange(start, length, previous, tag + 1));
      if (step + 2 < size) send(part, segment, tag + 1);
    }
  }
  for (const ofPart of sends) for (const request of ofPart) yield* done(mpi, request);
  scratch.give(inbox);
}
