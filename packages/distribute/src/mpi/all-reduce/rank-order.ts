/**
 * Rank-order all-reduce: every element is summed as ((r0 + r1) + r2) + …, wherever it lies and however many packs there are.
 *
 * Small buffers: every rank sends its own to all and sums (1 step, n − 1 buffers sent). Larger ones: rank p receives part p
 * of all ranks, sums in rank order, and sends the result to all (2 steps, 2 (n − 1) / n of the buffer sent: as much as the
 * ring, in two steps instead of 2 (n − 1), with n − 1 partners instead of two). This is the direct-exchange form of
 * Rabenseifner's reduce-scatter and all-gather (Thakur, Rabenseifner and Gropp, 2005).
 *
 * The order makes results bit-identical between ranks, runs and numbers of packs, and equal to a sum in replica order
 * within one process. With bfloat16 on the wire each contribution is rounded once, sums are taken in float32, and the
 * result is rounded once more, on its owner too, so that all ranks still agree to the bit.
 */
import type { Buffer, CommunicatorReduceOp } from '../../communicator/communicator.js';
import { addressOf, type Request } from '../native/open-mpi.js';
import type { ScratchBuffer } from '../native/scratch.js';
import { type AllReduceContext, type AllReduceRun, done, partition, Wire } from './all-reduce.js';

/** Up to here (bytes of all ranks' buffers together) one step beats two. */
const SMALL_BYTES = 64 * 1024;
/** Segments on their way per partner. */
export const WINDOW = 4;

export function* rankOrderAllReduce(context: AllReduceContext, buffer: Buffer, op: CommunicatorReduceOp): AllReduceRun {
  if (buffer.byteLength * context.size <= SMALL_BYTES) yield* gatherAndSum(context, buffer, op);
  else yield* exchangeAndSum(context, buffer, op);
}

function* gatherAndSum(context: AllReduceContext, buffer: Buffer, op: CommunicatorReduceOp): AllReduceRun {
  const { mpi, rank, size, scratch, tag } = context;
  const wire = new Wire(context, buffer, op);
  const inbox = scratch.take(size * buffer.byteLength);
  const slot = (source: number) => addressOf(inbox) + source * buffer.byteLength;
  const sends: (Request | null)[] = [];
  const receives: (Request | null)[] = [];
  for (let distance = 1; distance < size; distance++) {
    const other = (rank + distance) % size;
    receives[other] = wire.receiveInto(inbox, slot(other), buffer.length, other, tag);
    sends.push(wire.sendRange(0, buffer.length, other, tag));
  }
  for (const send of sends) yield* done(mpi, send);
  inbox.set(new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength), rank * buffer.byteLength);
  for (let source = 0; source < size; source++) {
    yield* done(mpi, receives[source]);
    if (source > 0) wire.combine(slot(source), slot(0), buffer.length);
  }
  new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).set(inbox.subarray(0, buffer.byteLength));
  scratch.give(inbox);
}

function* exchangeAndSum(context: AllReduceContext, buffer: Buffer, op: CommunicatorReduceOp): AllReduceRun {
  const { mpi, rank, size, scratch, tag } = context;
  const wire = new Wire(context, buffer, op);
  const { segments, longest, range } = partition(buffer.length, size, wire.bytesPerElement);
  const slotBytes = longest * wire.bytesPerElement;
  const inbox = scratch.take(WINDOW * size * slotBytes);
  const inboxBase = addressOf(inbox);
  const slotOffset = (source: number, segment: number) => ((segment % WINDOW) * size + source) * slotBytes;
  const contributions: (Request | null)[][] = Array.from({ length: size }, () => []);
  const receives: (Request | null)[][] = Array.from({ length: size }, () => []);
  const results: (Request | null)[] = [];

  const post = (segment: number) => {
    if (segment >= segments) return;
    for (let distance = 1; distance < size; distance++) {
      const source = (rank + size - distance) % size;
      const address = inboxBase + slotOffset(source, segment);
      const own = range(rank, segment);
      (receives[source] as (Request | null)[])[segment] = wire.receiveInto(inbox, address, own.length, source, tag);
      const owner = (rank + distance) % size;
      const { start, length } = range(owner, segment);
      (contributions[owner] as (Request | null)[])[segment] = wire.sendRange(start, length, owner, tag);
    }
  };

  for (let segment = 0; segment < WINDOW; segment++) post(segment);
  for (let segment = 0; segment < segments; segment++) {
    const { start, length } = range(rank, segment);
    const first = inboxBase + slotOffset(0, segment);
    const own = wire.at(start);
    for (let source = 0; source < size; source++) {
      if (source !== rank) yield* done(mpi, receives[source]?.[segment]);
      if (source === 0) continue;
      // The ranks before this one are summed in the inbox. Then the sum goes on in place: a + b is b + a, to the bit.
      const from = source === rank ? first : inboxBase + slotOffset(source, segment);
      wire.combine(from, source < rank ? first : own, length);
    }
    for (let distance = 1; distance < size; distance++) {
      results.push(wire.sendRange(start, length, (rank + distance) % size, tag + 1));
    }
    // The place of another owner's result holds the own contribution until that has been sent.
    for (let distance = 1; distance < size; distance++) {
      const owner = (rank + size - distance) % size;
      const place = range(owner, segment);
      yield* done(mpi, contributions[owner]?.[segment]);
      results.push(wire.receiveRange(place.start, place.length, owner, tag + 1));
    }
    post(segment + WINDOW);
  }
  for (const request of results) yield* done(mpi, request);
  scratch.give(inbox);
}

/** As {@link rankOrderAllReduce} for sums of float32, with bfloat16 on the wire: half the bytes. */
export function* bf16AllReduce(context: AllReduceContext, buffer: Float32Array): AllReduceRun {
  const { mpi, comm, rank, size, scratch, tag } = context;
  const type = mpi.types.byte;
  const { segments, longest, range } = partition(buffer.length, size, 4);
  const memory = () => scratch.take(WINDOW * size * longest * 2);
  const [inbox, outbox, gathered] = [memory(), memory(), memory()];
  // Kernels work in scratch memory: a segment is copied there and back, which the cache makes cheap.
  const { kernels } = scratch;
  const [sums, stage] = [scratch.take(longest * 4), scratch.take(longest * 4)];
  const floats = (bytes: ScratchBuffer, length: number) => new Float32Array(bytes.buffer, bytes.byteOffset, length);
  const staged = (values: Float32Array) => {
    const copy = floats(stage, values.length);
    copy.set(values);
    return copy;
  };
  const unstage = (rounded: Uint16Array, target: Float32Array) => {
    const values = floats(stage, target.length);
    kernels.fromBf16(values, rounded);
    target.set(values);
  };
  const halves = (bytes: ScratchBuffer, rankOf: number, segment: number, length: number) =>
    new Uint16Array(bytes.buffer, bytes.byteOffset + ((segment % WINDOW) * size + rankOf) * longest * 2, length);
  const view = (part: number, segment: number) => {
    const { start, length } = range(part, segment);
    return buffer.subarray(start, start + length);
  };
  const send = (values: Uint16Array, to: number, withTag: number) =>
    values.length > 0 ? mpi.isend(values, addressOf(values), values.byteLength, type, to, withTag, comm) : null;
  const receive = (values: Uint16Array, from: number, withTag: number) =>
    values.length > 0 ? mpi.irecv(values, addressOf(values), values.byteLength, type, from, withTag, comm) : null;
  const contributions: (Request | null)[][] = Array.from({ length: size }, () => []);
  const receives: (Request | null)[][] = Array.from({ length: size }, () => []);

  const post = (segment: number) => {
    if (segment >= segments) return;
    const own = range(rank, segment).length;
    for (let distance = 1; distance < size; distance++) {
      const source = (rank + size - distance) % size;
      (receives[source] as (Request | null)[])[segment] = receive(halves(inbox, source, segment, own), source, tag);
      const owner = (rank + distance) % size;
      const values = view(owner, segment);
      const rounded = halves(outbox, owner, segment, values.length);
      kernels.toBf16(rounded, staged(values));
      (contributions[owner] as (Request | null)[])[segment] = send(rounded, owner, tag);
    }
  };

  for (let segment = 0; segment < WINDOW; segment++) post(segment);
  for (let segment = 0; segment < segments; segment++) {
    const own = view(rank, segment);
    const sum = floats(sums, own.length);
    for (let source = 0; source < size; source++) {
      if (source === rank) {
        if (source === 0) sum.set(own);
        else kernels.sum(sum, [sum, staged(own)]);
        continue;
      }
      yield* done(mpi, receives[source]?.[segment]);
      const rounded = halves(inbox, source, segment, own.length);
      if (source === 0) kernels.fromBf16(sum, rounded);
      else kernels.addBf16(sum, rounded);
    }
    const result = halves(gathered, rank, segment, own.length);
    kernels.toBf16(result, sum);
    unstage(result, own);
    const exchanged: (Request | null)[] = [];
    const others: number[] = [];
    for (let distance = 1; distance < size; distance++) {
      const owner = (rank + size - distance) % size;
      others.push(owner);
      exchanged.push(send(result, (rank + distance) % size, tag + 1));
      exchanged.push(receive(halves(gathered, owner, segment, range(owner, segment).length), owner, tag + 1));
      yield* done(mpi, contributions[owner]?.[segment]);
    }
    post(segment + WINDOW);
    for (const request of exchanged) yield* done(mpi, request);
    for (const owner of others) {
      const values = view(owner, segment);
      unstage(halves(gathered, owner, segment, values.length), values);
    }
  }
  for (const piece of [inbox, outbox, gathered, sums, stage]) scratch.give(piece);
}
