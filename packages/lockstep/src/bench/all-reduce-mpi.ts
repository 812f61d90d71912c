/**
 * `bench all_reduce` as a process of an MPI job: Lockstep's algorithms between processes, and Open MPI's own MPI_Allreduce.
 *
 * Rank 0 gets every rank's times. Buffers are ordinary memory: between processes nothing is shared.
 */
import { loadMpi, type MpiAlgorithm, MpiCommunicator, splitIntoPacks } from '@lockstep/distribute';
import { type AllReduceResult, allReduceResult, checkSum, checkValue, iterationsFor } from './all-reduce-result.js';

/** Open MPI's blocking collective, in place; the others are MpiCommunicator's algorithms. */
export const MPI_ALLREDUCE = 'MPI_Allreduce';
export const MPI_ALGORITHMS: readonly string[] = [MPI_ALLREDUCE, 'rank_order', 'ring', 'open_mpi'];

const IN_PLACE = 1;
const WARMUP = 2;

export interface MpiBenchOptions {
  readonly algorithms: readonly string[];
  readonly elements: readonly number[];
  readonly numPacks: number;
  readonly iterations: number | null;
}

/** Collective. @returns results on rank 0, null on the others. */
export function measureMpi({ algorithms, elements, numPacks, iterations }: MpiBenchOptions): AllReduceResult[] | null {
  const communicator = MpiCommunicator.open({});
  const { rank, size } = communicator;
  const buffer = new Float32Array(new SharedArrayBuffer(4 * Math.max(...elements, 1)));
  const results: AllReduceResult[] = [];
  for (const count of elements) {
    const flat = buffer.subarray(0, count);
    for (const algorithm of algorithms) {
      const reduce = reducer(communicator, algorithm, numPacks);
      for (let i = 0; i < count; i++) flat[i] = checkValue(rank, i);
      reduce(flat);
      checkSum(flat, size, algorithm);
      for (let i = 0; i < WARMUP; i++) reduce(flat);
      const own = new Float64Array(iterations ?? iterationsFor(count));
      for (let i = 0; i < own.length; i++) {
        flat.fill(rank + 1);
        communicator.barrier();
        const began = performance.now();
        reduce(flat);
        own[i] = performance.now() - began;
      }
      const all = new Float64Array(own.length * size);
      communicator.allGather(own, all);
      const samples = Array.from({ length: size }, (_, i) => [...all.subarray(i * own.length, (i + 1) * own.length)]);
      results.push(allReduceResult(algorithm, count, samples));
    }
  }
  communicator.close();
  return rank === 0 ? results : null;
}

function reducer(communicator: MpiCommunicator, algorithm: string, numPacks: number): (flat: Float32Array) => void {
  const byPacks = (flat: Float32Array, reduce: (pack: Float32Array) => void) => {
    for (const { offset, length } of splitIntoPacks(flat.length, numPacks))
      reduce(flat.subarray(offset, offset + length));
  };
  if (algorithm !== MPI_ALLREDUCE) {
    return (flat) =>
      byPacks(flat, (pack) => communicator.allReduce(pack, 'sum', { algorithm: algorithm as MpiAlgorithm }));
  }
  const { library } = loadMpi();
  const address = (name: string) => Number(library.symbol(name, 'void'));
  const allreduce = library.func(
    'int MPI_Allreduce(uintptr_t send, void *receive, int count, uintptr_t type, uintptr_t op, uintptr_t comm)',
  );
  const [type, op, world] = ['ompi_mpi_float', 'ompi_mpi_op_sum', 'ompi_mpi_comm_world'].map(address);
  return (flat) =>
    byPacks(flat, (pack) => {
      const status = allreduce(IN_PLACE, pack, pack.length, type, op, world) as number;
      if (status !== 0) throw new Error(`MPI_Allreduce returned ${status}.`);
    });
}
