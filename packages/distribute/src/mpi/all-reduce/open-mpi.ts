/**
 * All-reduce as Open MPI does it (MPI_Iallreduce): for networks whose hardware or library sums better than we do.
 *
 * Open MPI chooses the algorithm by size and rank count, and with it the order of sums: all ranks agree, but results may
 * differ in the last bit between numbers of packs and versions of Open MPI.
 */
import type { Buffer, CommunicatorReduceOp } from '../../communicator/communicator.js';
import { addressOf } from '../native/open-mpi.js';
import { type AllReduceContext, type AllReduceRun, done, elementType } from './all-reduce.js';

export function* openMpiAllReduce(context: AllReduceContext, buffer: Buffer, op: CommunicatorReduceOp): AllReduceRun {
  const { mpi, comm } = context;
  const type = mpi.types[elementType(buffer)];
  yield* done(mpi, mpi.iallreduce(buffer, addressOf(buffer), buffer.length, type, mpi.ops[op], comm));
}
