/** Which algorithm an all-reduce runs: the one place that knows them all. */
import type { Buffer, CommunicatorReduceOp } from '../../communicator/communicator.js';
import { REQUESTS } from '../native/open-mpi.js';
import type { AllReduceContext, AllReduceRun } from './all-reduce.js';
import { openMpiAllReduce } from './open-mpi.js';
import { bf16AllReduce, rankOrderAllReduce, WINDOW } from './rank-order.js';
import { ringAllReduce } from './ring.js';

export type MpiAlgorithm = 'auto' | 'rank_order' | 'ring' | 'open_mpi';

/** What is to be done with a buffer. Plain data: it crosses threads. */
export interface AllReduceJob {
  readonly op: CommunicatorReduceOp;
  /** 'bf16' is for sums of Float32Array, in rank order whatever the algorithm. */
  readonly wire: 'f32' | 'bf16';
  readonly algorithm: MpiAlgorithm;
}

/**
 * How many all-reduces one thread may have under way: each sends and receives up to WINDOW segments from every other rank at once, and
 * other operations need messages, too.
 */
export function mostUnderWay(size: number): number {
  return Math.max(1, Math.floor((0.9 * REQUESTS) / (2 * WINDOW * Math.max(1, size - 1))));
}

export function startAllReduce(
  context: AllReduceContext,
  buffer: Buffer,
  { op, wire, algorithm }: AllReduceJob,
): AllReduceRun {
  if (wire === 'bf16') return bf16AllReduce(context, buffer as Float32Array);
  if (algorithm === 'ring') return ringAllReduce(context, buffer, op);
  if (algorithm === 'open_mpi') return openMpiAllReduce(context, buffer, op);
  return rankOrderAllReduce(context, buffer, op);
}
