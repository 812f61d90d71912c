/** What one replica does in the tests of CollectiveReducer: its process's leader talks to nobody, and no sum changes on its way. */
import type { Work } from '../../communicator/communicator.js';
import type { SharedMemoryCommunicator } from '../../communicator/shared-memory-communicator.js';
import type { MpiCommunicator } from '../../mpi/mpi-communicator.js';
import { REPORT } from '../../trainer/step-reports.js';
import { CollectiveReducer } from '../collective-reducer.js';
import { HierarchicalCommunicator } from '../hierarchical-communicator.js';

const DONE: Work = { test: () => true, wait: () => {} };

/** Some steps of SGD of rate 1, each replica's gradient being 1. @returns the weights, and packs that left before the exchange. */
export function runScene(local: SharedMemoryCommunicator, _scene: string, args: unknown): unknown {
  const { countFrom, steps, numPacks } = args as { countFrom: number; steps: number; numPacks: number };
  let sent = 0;
  const workers = {
    rank: 0,
    size: 1,
    progress() {},
    broadcast() {},
    allGather: (send: Float64Array, receive: Float64Array) => receive.set(send),
    allReduceAsync() {
      sent++;
      return DONE;
    },
  };
  const communicator = new HierarchicalCommunicator(local, workers as unknown as MpiCommunicator);
  const { memory, rank, size } = local;
  const elements = 1000;
  const segments = [0, 1, 2, 3].map((i) => ({ offset: 250 * i, length: 250 }));
  const weights = memory.allocate(elements);
  const gradients = memory.allocateEach(size, elements);
  const options = { communicator, memory, numPacks, countFrom, timeoutMs: 5000 };
  const reducer = new CollectiveReducer(
    { segments, weights, slots: {}, gradients, optimizer: { kind: 'sgd' } },
    { ...options, wire: 'f32', algorithm: 'auto' },
  );
  reducer.share();
  const early: number[] = [];
  const finite: boolean[] = [];
  for (let step = 0; step < steps; step++) {
    reducer.begin();
    sent = 0;
    gradients[rank]?.fill(step === 1 ? Number.NaN : 1);
    // The leader is the last one, so that it sees all packs fill up.
    if (rank === 0) local.barrier();
    for (const index of [3, 2, 1, 0]) reducer.markReady(index);
    if (rank !== 0) local.barrier();
    early.push(sent);
    reducer.meet(new Float64Array(REPORT));
    const update = { learningRate: 1, gradientScale: 1 / size, skipNonFinite: true, apply: true };
    finite.push(reducer.finish(update).finite);
  }
  return { weights: [...new Set(weights)], early, finite };
}
