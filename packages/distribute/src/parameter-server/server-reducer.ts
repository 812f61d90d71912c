/**
 * ServerReducer: the Reducer of a worker that trains with parameter servers. A step begins by pulling the weights and ends by pushing
 * the sum of its replicas' gradients, and waits for nobody else. Replicas of one worker stay in step: they read one copy of the
 * weights, and their gradients are summed first.
 *
 * Weights and slots here are what was pulled last; the truth is with the servers. Norms for clipping are of this worker's gradient, and
 * taken here; those of LARS with the servers, each of which has whole variables.
 */
import type { Communicator } from '../communicator/communicator.js';
import type { MpiCommunicator } from '../mpi/mpi-communicator.js';
import type { FlatMemory } from '../simd/index.js';
import { flatOptimizer } from '../trainer/optimizers/create.js';
import type { FinishResult, FlatLayout, GroupStatus, Reducer, ReducerUpdate } from '../trainer/reducer.js';
import { REPORT } from '../trainer/step-reports.js';
import { clipBound, UpdateFactors } from '../trainer/update-factors.js';
import { ServerLinks } from './server-links.js';

export interface ServerReducerOptions {
  /** The replicas of this worker. */
  readonly local: Communicator;
  /** All processes of the job; the worker's local rank 0 uses it. */
  readonly processes: MpiCommunicator;
  readonly memory: FlatMemory;
  /** Ranks of the servers. */
  readonly servers: readonly number[];
}

/** What the leader tells its replicas after a pull: whether the chief has asked to stop, whether gradients were finite, updates made. */
const NEWS = 3;

/** See the file's head. */
export class ServerReducer implements Reducer {
  /** Only of the leader. */
  readonly #links: ServerLinks | null;
  readonly #state: readonly Float32Array[];
  readonly #reports: Float64Array;
  readonly #factors: UpdateFactors;
  readonly #news = new Float64Array(NEWS);
  #isWritten = false;
  #count = 0;

  constructor(
    private readonly layout: FlatLayout,
    private readonly options: ServerReducerOptions,
  ) {
    const { local, processes, servers, memory } = options;
    const { segments, weights, slots, optimizer, gradients, clip } = layout;
    const [sum] = gradients as [Float32Array];
    const { factors: _, ...plain } = flatOptimizer(optimizer);
    this.#state = [weights, ...plain.slots.map((name) => slots[name] as Float32Array)];
    this.#reports = new Float64Array(REPORT * local.size);
    // The leader alone sums and clips.
    this.#factors = new UpdateFactors({
      ...{ segments, weights, sum, clip, optimizer: plain },
      kernels: memory.kernels,
      group: { rank: 0, size: 1, barrier: () => {} },
      allocateDoubles: (length) => memory.allocateDoubles(length),
    });
    this.#links = local.rank === 0 ? new ServerLinks(processes, servers, segments) : null;
    if (this.#isChief) this.#links?.specify(optimizer);
  }

  get #isChief(): boolean {
    return this.options.processes.rank === 0 && this.options.local.rank === 0;
  }

  /** By all workers together, as the last pull told. */
  get count(): number {
    return this.#count;
  }

  /** The servers are told with the next {@link push}. */
  restore({ updates = this.#count }: Readonly<Record<string, number>>): void {
    this.#count = updates;
  }

  get scalars(): Readonly<Record<string, number>> {
    return { updates: this.#count };
  }

  /** Whether the chief has asked everybody to stop, as the last pull told. */
  get isStopped(): boolean {
    return this.#news[0] === 1;
  }

  /** Replica 0's values become this worker's; the servers get the chief's with the first step. */
  share(): void {
    this.options.local.barrier();
  }

  /** The newest weights. */
  begin(): void {
    const { local, processes } = this.options;
    if (processes.rank === 0 && !this.#isWritten) this.push();
    if (this.#links) {
      const { stop, finite, count } = this.#links.pull(this.layout.weights);
      this.#news.set([stop ? 1 : 0, finite ? 1 : 0, count]);
    }
    local.broadcast(this.#news, 0);
    this.#count = this.#news[2] as number;
  }

  /** Nothing is sent before all gradients are there. */
  markReady(): void {}

  /** Only the worker's own replicas: workers are not in step. */
  meet(report: Float64Array): Float64Array {
    this.options.local.allGather(report, this.#reports);
    return this.#reports;
  }

  abandon(): void {}

  finish({ learningRate, gradientScale, apply }: ReducerUpdate): FinishResult {
    const { gradients, clip } = this.layout;
    const { kernels } = this.options.memory;
    if (this.#links && apply) {
      const [sum] = gradients as [Float32Array];
      if (gradients.length > 1) kernels.sum(sum, gradients);
      const bound = clipBound(clip, gradientScale);
      // A gradient that is not finite has to arrive as such, for the servers to say so.
      if (bound !== null && kernels.allFinite(sum)) kernels.clip(sum, sum, bound);
      this.#links.push(sum, learningRate, this.#factors.of(gradientScale).gradientScale);
    }
    return { finite: this.#news[1] === 1, updated: apply, updateMs: 0 };
  }

  pull(): void {
    const { local, processes } = this.options;
    if (processes.rank !== 0) return;
    if (this.#links && this.#isWritten) this.#news[2] = this.#links.read(this.#state);
    if (this.#isWritten) {
      local.broadcast(this.#news, 0);
      this.#count = this.#news[2] as number;
    } else local.barrier();
  }

  push(): void {
    const { local, processes } = this.options;
    if (processes.rank !== 0) return;
    local.barrier();
    this.#links?.write(this.#state, this.#count);
    this.#isWritten = true;
    local.barrier();
  }

  leave(stop: boolean): GroupStatus | null {
    const { local, processes } = this.options;
    if (processes.rank !== 0) return null;
    const status = this.#links?.waitForOthers(stop) ?? null;
    local.barrier();
    return status;
  }

  /** After the last step: the chief ends the job, when the other workers have ended. Collective within the worker. */
  end(): void {
    this.#links?.finish(this.#isChief);
    this.options.local.barrier();
  }
}
