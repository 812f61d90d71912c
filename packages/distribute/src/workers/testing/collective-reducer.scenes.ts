/** What one replica does in the tests of CollectiveReducer: its process's leader talks to nobody, and no sum changes on its way. */
import type { Work } from '../../communicator/communicator.js';
import type { SharedMemoryCommunicator } from '../../communicator/shared-memory-communicator.js';
import type { MpiCommunicator } from '../../mpi/mpi-communicator.js';
import { REPORT } from '../../trainer/step-reports.js';
import { CollectiveReducer } from '../collective-reducer.js';
import { HierarchicalCommunicator } from '../hierarchical-communicator.js';

const DONE: Work = { test: () => true, wait: () => {} };

export function runScene(local: SharedMemoryCommunicator, scene: string, args: unknown): unknown {
  return scene === 'auto' ? chooses(local, args as Scarce) : counts(local, args);
}

/** A network between two processes, of which the other one sends zeros; and milliseconds of backward between two gradients. */
interface Scarce {
  readonly latencyMs: number;
  readonly bytesPerMs: number;
  readonly backwardMs: number;
  readonly steps: number;
  /** A checkpoint's. */
  readonly restored?: Readonly<Record<string, number>>;
}

/** A MOCK of a network: messages take the time that the closed form says, one after the other. @returns what was chosen, and the weights. */
function chooses(local: SharedMemoryCommunicator, { latencyMs, bytesPerMs, backwardMs, steps, restored }: Scarce) {
  const nap = (ms: number) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.max(0, ms));
  let free = 0;
  const workers = {
    ...{ rank: 0, size: 2, progress() {}, broadcast() {}, barrier() {}, allReduce() {} },
    allGather: (send: Float64Array, receive: Float64Array) => {
      receive.set(send);
      receive.set(send, send.length);
    },
    allReduceAsync(buffer: Float32Array) {
      free = Math.max(free, performance.now()) + 2 * latencyMs + buffer.byteLength / bytesPerMs;
      const end = free;
      return { test: () => performance.now() >= end, wait: () => nap(end - performance.now()) };
    },
  };
  const communicator = new HierarchicalCommunicator(local, workers as unknown as MpiCommunicator);
  const { memory, rank, size } = local;
  const length = 2 ** 17;
  const segments = [0, 1, 2, 3].map((i) => ({ offset: length * i, length }));
  const weights = memory.allocate(4 * length);
  const gradients = memory.allocateEach(size, 4 * length);
  const said: string[] = [];
  const options = { communicator, memory, numPacks: 'auto' as const, timeoutMs: 5000 };
  const reducer = new CollectiveReducer(
    { segments, weights, slots: {}, gradients, optimizer: { kind: 'sgd' } },
    { ...options, wire: 'f32', algorithm: 'auto', say: (line) => said.push(line) },
  );
  if (restored) reducer.restore(restored);
  reducer.share();
  for (let step = 0; step < steps; step++) {
    reducer.begin();
    gradients[rank]?.fill(1);
    for (const index of [3, 2, 1, 0]) {
      nap(backwardMs);
      reducer.markReady(index);
    }
    reducer.meet(new Float64Array(REPORT));
    reducer.finish({ learningRate: 1, gradientScale: 1 / size, skipNonFinite: false, apply: true });
  }
  return { weights: [...new Set(weights)], scalars: reducer.scalars, said };
}

/** Some steps of SGD of rate 1, each replica's gradient being 1. @returns the weights, and packs that left before the exchange. */
function counts(local: SharedMemoryCommunicator, args: unknown): unknown {
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
  const options = { communicator, memory, numPacks, countFrom, timeoutMs: 5000, say: () => {} };
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
