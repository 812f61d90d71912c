/**
 * PackTuner: `numPacks: 'auto'`. While the first steps are made it notes when each gradient is final and how long updates take; then the
 * workers measure the network between them, simulate a step with every way of cutting gradients (step-model/), and go on with the
 * fastest. What counts is the slowest replica; the choice is the chief's, on all. Sums are the same for every cut, so weights are, too.
 */
import type { MpiAllReduceOptions, MpiCommunicator } from '../mpi/mpi-communicator.js';
import { fitNetwork, type Network } from '../step-model/collectives.js';
import { choosePacks, type PackCut, type PackOption } from '../step-model/packs.js';
import type { FlatSegment } from '../trainer/reducer.js';
import { guard, type HierarchicalCommunicator } from './hierarchical-communicator.js';

export interface PackTunerOptions {
  readonly communicator: HierarchicalCommunicator;
  readonly segments: readonly FlatSegment[];
  /** How gradients travel. */
  readonly travel: Pick<Required<MpiAllReduceOptions>, 'wire' | 'algorithm'>;
}

/** Steps in which caches fill and programs are recorded, and steps that are looked at. */
const [WARM_UP, LOOKED_AT] = [4, 8];
/** Float32 elements of the all-reduces that are measured: 4 KB to 4 MB. */
const SIZES = [2 ** 10, 2 ** 14, 2 ** 17, 2 ** 20];
const REPETITIONS = 5;
/** A size that takes longer is the last one: on a slow network short messages say enough. In milliseconds. */
const PATIENCE_MS = 1_000;
const F32_BYTES = 4;

/** A step of this replica, in milliseconds from its beginning. */
interface LookedAt {
  computeMs: number;
  updateMs: number;
  /** When each segment's gradient was final. */
  readonly atMs: number[];
}

/** See the file's head. In each step: begin, ready for every segment, computed, updated. */
export class PackTuner {
  readonly #steps: LookedAt[] = [];
  #begun = 0;
  #began = 0;

  constructor(private readonly options: PackTunerOptions) {}

  /** A step begins. */
  begin(): void {
    this.#begun++;
    this.#began = performance.now();
    if (this.#begun > WARM_UP) this.#steps.push({ computeMs: 0, updateMs: 0, atMs: [] });
  }

  /** The gradient of `segments[index]` is final. */
  ready(index: number): void {
    const step = this.#steps.at(-1);
    if (step) step.atMs[index] = performance.now() - this.#began;
  }

  /** Backward is over. */
  computed(): void {
    const step = this.#steps.at(-1);
    if (step) step.computeMs = performance.now() - this.#began;
  }

  updated(ms: number): void {
    const step = this.#steps.at(-1);
    if (step) step.updateMs = ms;
  }

  /** Whether enough steps have been made to {@link choose}: the same answer on all replicas, between steps. */
  get isDue(): boolean {
    return this.#steps.length === LOOKED_AT;
  }

  /** Collective. @returns the cut, the same on all replicas, and why, in a line */
  choose(): { readonly cut: PackCut; readonly why: string } {
    const { communicator, segments, travel } = this.options;
    const { workers } = communicator;
    const median = (part: (step: LookedAt) => number) =>
      this.#steps.map(part).toSorted((a, b) => a - b)[LOOKED_AT / 2] as number;
    const own = [median((step) => step.computeMs), median((step) => step.updateMs)];
    const slowest = Float64Array.of(...own, ...segments.map((_, i) => median((step) => step.atMs[i] ?? 0)));
    communicator.allReduce(slowest, 'max');
    const elements = Math.max(0, ...segments.map(({ offset, length }) => offset + length));
    const network = new Float64Array(2);
    if (communicator.isLeader) network.set(guard(() => measureNetwork(workers, elements, travel)));
    communicator.broadcast(network, 0);
    const [computeMs, updateMs, ...atMs] = slowest as unknown as [number, number, ...number[]];
    const [latencyMs, bytesPerMs] = network as unknown as [number, number];
    // Packs leave from the end of the buffer on, whatever the order in which gradients are final.
    const gradients = segments
      .map(({ offset, length }, i) => ({ offset, bytes: F32_BYTES * length, atMs: atMs[i] as number }))
      .toSorted((a, b) => b.offset - a.offset);
    const options = choosePacks(
      { computeMs, updateMs, gradients, spread: [1], replicas: communicator.local.size },
      // What was measured is what so many f32 gradients take on this wire.
      {
        workers: workers.size,
        replicas: communicator.local.size,
        network: { latencyMs, bytesPerMs },
        algorithm: algorithmOf(travel),
        wire: 'f32',
      },
    );
    // The chief's: a last bit might differ between machines.
    const [first] = options as [PackOption];
    const choice = Int32Array.of(cutNumber(first.cut));
    communicator.broadcast(choice, 0);
    const best = options.find(({ cut }) => cutNumber(cut) === choice[0]) ?? first;
    return {
      cut: best.cut,
      why: explain(best, options, { computeMs, bytes: F32_BYTES * elements, latencyMs, bytesPerMs }),
    };
  }
}

/** A cut as a number, for messages and checkpoints: 0 is 'by_size'. */
export function cutNumber(cut: PackCut): number {
  return cut === 'by_size' ? 0 : cut;
}

/** The other way round. */
export function cutOf(number: number): PackCut {
  return number === 0 ? 'by_size' : number;
}

function algorithmOf({ algorithm }: PackTunerOptions['travel']): 'ring' | 'rank_order' {
  return algorithm === 'ring' ? 'ring' : 'rank_order';
}

/** Leaders: latency and bandwidth of the all-reduces that carry gradients. Collective between workers. */
function measureNetwork(
  workers: MpiCommunicator,
  elements: number,
  travel: PackTunerOptions['travel'],
): [number, number] {
  const measured: { bytes: number; ms: number }[] = [];
  // A bandwidth needs two sizes, however short the gradients are.
  const longest = Math.max(elements, SIZES[1] as number);
  for (const size of SIZES.filter((one) => one <= longest)) {
    const buffer = new Float32Array(new SharedArrayBuffer(F32_BYTES * size));
    const times: number[] = [];
    for (let i = 0; i <= REPETITIONS; i++) {
      workers.barrier();
      const begin = performance.now();
      workers.allReduceAsync(buffer, 'sum', { ...travel, background: true }).wait();
      // The first one makes connections, and memory known.
      if (i > 0) times.push(performance.now() - begin);
    }
    const middle = Float64Array.of(times.toSorted((a, b) => a - b)[REPETITIONS >> 1] as number);
    workers.allReduce(middle, 'max');
    measured.push({ bytes: F32_BYTES * size, ms: middle[0] as number });
    if ((middle[0] as number) * REPETITIONS > PATIENCE_MS && measured.length > 1) break;
  }
  const { latencyMs, bytesPerMs }: Network = fitNetwork(algorithmOf(travel), workers.size, measured);
  return [latencyMs, bytesPerMs];
}

function explain(
  best: PackOption,
  options: readonly PackOption[],
  {
    computeMs,
    bytes,
    latencyMs,
    bytesPerMs,
  }: { computeMs: number; bytes: number; latencyMs: number; bytesPerMs: number },
): string {
  const ms = (value: number) => `${Number(value.toPrecision(3))} ms`;
  const rate = Number.isFinite(bytesPerMs) ? `${Number((bytesPerMs / 1e3).toPrecision(3))} MB/s` : 'no limit of bytes';
  const packs = (count: number) => `${count} pack${count === 1 ? '' : 's'}`;
  const name = ({ cut, numPacks }: PackOption) => (cut === 'by_size' ? `${packs(numPacks)} by size` : packs(numPacks));
  const others = options
    .filter((option) => option !== best && (option.numPacks === 1 || option === options.find((one) => one !== best)))
    .map((option) => `${name(option)} ${ms(option.step.stepMs)}`);
  return (
    `num_packs=auto: ${name(best)}, a step of ${ms(best.step.stepMs)} by the model (${others.join(', ')}). Measured: ` +
    `${ms(computeMs)} of computing, ${(bytes / 1e6).toPrecision(3)} MB of gradients, ` +
    `${(1000 * latencyMs).toFixed(0)} µs and ${rate} between workers.`
  );
}
