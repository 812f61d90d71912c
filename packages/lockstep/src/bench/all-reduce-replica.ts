/**
 * What a replica of `lockstep bench all_reduce` runs: each algorithm over each size, checked once and then timed, in the flat
 * memory where gradients lie; and the whole end of a step, sum and update in one pass, for two optimizers.
 */
import { createCrossDeviceOps, FlatReducer, type OptimizerConfig, type ReplicaContext } from '@lockstep/distribute';
import { checkSum, checkValue, iterationsFor } from './all-reduce-result.js';

export interface AllReduceBenchArguments {
  readonly algorithms: readonly string[];
  readonly elements: readonly number[];
  readonly numPacks: number;
  /** Of each size; null: by size. */
  readonly iterations: number | null;
  /** Measure the sum fused with the update as well. */
  readonly fused: boolean;
}

/** Milliseconds of each iteration on this replica. */
export interface AllReduceSamples {
  readonly algorithm: string;
  readonly elements: number;
  readonly ms: readonly number[];
}

/** The fused measurements, by their names in tables: momentum moves six streams of memory for two replicas, Adam eight. */
export const FUSED: Readonly<Record<string, OptimizerConfig>> = {
  'sharded+momentum': { kind: 'momentum', momentum: 0.9 },
  'sharded+adam': { kind: 'adam' },
};
const WARMUP = 2;

export default function replica(context: ReplicaContext, args: AllReduceBenchArguments): AllReduceSamples[] {
  const group = context.sharedMemory;
  const { rank, size } = group;
  const longest = Math.max(...args.elements, 1);
  const buffers = group.allocateSymmetric(longest);
  const own = buffers[rank] as Float32Array;
  const samples: AllReduceSamples[] = [];

  const time = (algorithm: string, elements: number, once: () => void) => {
    for (let i = 0; i < WARMUP; i++) once();
    const ms: number[] = [];
    for (let i = args.iterations ?? iterationsFor(elements); i > 0; i--) {
      // As backward does it just before: the own buffer is written anew. Zeros or the last sum would be cheaper to move.
      own.fill(rank + 1, 0, elements);
      group.barrier();
      const began = performance.now();
      once();
      ms.push(performance.now() - began);
    }
    samples.push({ algorithm, elements, ms });
  };

  for (const elements of args.elements) {
    const flat = own.subarray(0, elements);
    for (const algorithm of args.algorithms) {
      const ops = createCrossDeviceOps(algorithm, args.numPacks);
      for (let i = 0; i < elements; i++) flat[i] = checkValue(rank, i);
      ops.allReduce(group, flat);
      checkSum(flat, size, algorithm);
      time(algorithm, elements, () => ops.allReduce(group, flat));
    }
  }
  if (args.fused) {
    const [weights, first, second] = group.memory.allocateEach(3, longest) as [
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    for (const [name, optimizer] of Object.entries(FUSED)) {
      const slots = optimizer.kind === 'adam' ? { m: first, v: second } : { momentum: first };
      for (const elements of args.elements) {
        const cut = (array: Float32Array) => array.subarray(0, elements);
        const reducer = new FlatReducer({
          communicator: group,
          memory: group.memory,
          numPacks: args.numPacks,
          segments: [{ offset: 0, length: elements, weightDecay: 1e-4 }],
          weights: cut(weights),
          slots: Object.fromEntries(Object.entries(slots).map(([slot, array]) => [slot, cut(array)])),
          gradients: buffers.map(cut),
          optimizer,
        });
        time(name, elements, () => {
          reducer.markReady(0);
          reducer.finish({ learningRate: 0.1 });
        });
      }
    }
  }
  return samples;
}
