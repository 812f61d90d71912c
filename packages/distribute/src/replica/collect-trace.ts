/**
 * Traces of all replicas in step, brought together on one clock. Clocks of two machines have nothing to do with each other, so each
 * worker's is compared with the chief's: a message there and back, several times, of which the quickest counts (Cristian 1989, and NTP).
 * The error is half of its time at most.
 */
import type { Communicator } from '../communicator/communicator.js';
import { stopTrace, type TraceData, traceClock } from '../trace/trace.js';
import type { ReplicaContext } from './replica-context.js';

/** What one replica did, on the chief's clock. */
export interface ReplicaTrace extends TraceData {
  readonly worker: number;
  /** Among all replicas in step. */
  readonly replica: number;
  /** Milliseconds that were subtracted from its worker's clock, and how far off that may be. */
  readonly clock: ClockOffset;
}

export interface ClockOffset {
  readonly offset: number;
  readonly error: number;
}

const SAME_CLOCK: ClockOffset = { offset: 0, error: 0 };
const ROUNDS = 8;

/**
 * Ends the trace that is on, on every replica in step. Collective.
 * @returns all replicas', in their order, on each of them.
 */
export function collectTrace(context: ReplicaContext): ReplicaTrace[] {
  const data = stopTrace()?.data ?? { spans: [], filled: [], journeys: [] };
  const { inputPipelineId: worker, replicaIdInSyncGroup: replica, numReplicasInSync } = context;
  if (numReplicasInSync === 1) return [{ worker, replica, clock: SAME_CLOCK, ...data }];
  const workers = context.merge(worker, (all) => all);
  const offsets = clockOffsets(context.communicator, workers);
  return context.merge({ worker, replica, ...data }, (all) =>
    all.map((one, rank) => {
      const clock = offsets.get(workers[rank] as number) ?? SAME_CLOCK;
      return { ...one, clock, ...shifted(one, -clock.offset) };
    }),
  );
}

/**
 * How far each worker's clock is ahead of that of replica 0's worker. Collective; the same on all.
 * @param workers of each replica in step
 */
export function clockOffsets(
  communicator: Communicator,
  workers: readonly number[],
  clock: () => number = traceClock,
): ReadonlyMap<number, ClockOffset> {
  const offsets = new Map<number, ClockOffset>();
  for (const worker of new Set(workers)) {
    const peer = workers.indexOf(worker);
    if (workers[0] !== worker) offsets.set(worker, compare(communicator, peer, clock));
  }
  return offsets;
}

function compare(communicator: Communicator, peer: number, clock: () => number): ClockOffset {
  const { rank } = communicator;
  let best: ClockOffset = { offset: 0, error: Number.POSITIVE_INFINITY };
  for (let round = 0; round < ROUNDS; round++) {
    // All begin together, so that the chief's question does not wait for anybody.
    communicator.barrier();
    const asked = clock();
    communicator.broadcast(new Float64Array(1), 0);
    const answer = Float64Array.of(rank === peer ? clock() : 0);
    communicator.broadcast(answer, peer);
    const result = Float64Array.of((answer[0] as number) - (asked + clock()) / 2, (clock() - asked) / 2);
    communicator.broadcast(result, 0);
    const [offset, error] = result as unknown as [number, number];
    if (error < best.error) best = { offset, error };
  }
  return best;
}

function shifted({ spans, filled, journeys }: TraceData, by: number): TraceData {
  if (by === 0) return { spans, filled, journeys };
  const move = <T extends { begin: number; end: number }>(one: T) => ({
    ...one,
    begin: one.begin + by,
    end: one.end + by,
  });
  return {
    spans: spans.map(move),
    filled: filled.map(({ pack, at }) => ({ pack, at: at + by })),
    journeys: journeys.map(move),
  };
}
