/**
 * CollectiveReducer: the Reducer between processes; what FlatReducer is within one.
 *
 * Weights and slots are one copy per process, in shared memory; gradients one flat buffer per replica. The buffer is cut
 * into num_packs contiguous packs, which are reduced in a static order, from the end (whose gradients are final first): as
 * soon as all replicas of the process have filled a pack, the leader sums it and starts its all-reduce between processes,
 * which a thread of its own carries on while backward goes on. A finished pack is applied by all replicas, a slice each,
 * while later ones travel. Every process adds the same numbers in the same order, so weights stay bit-identical everywhere without being sent.
 */

import type { Work } from '../communicator/communicator.js';
import { evenBounds, taperedBounds } from '../cross-device-ops/pack-bounds.js';
import type { FlatMemory } from '../simd/index.js';
import type { PackCut } from '../step-model/packs.js';
import { activeTrace } from '../trace/trace.js';
import { flatOptimizer } from '../trainer/optimizers/create.js';
import type { FlatOptimizer, StepNumbers } from '../trainer/optimizers/optimizer.js';
import { type CutPiece, clipSum, cutPieces, cutRuns, updatePieces } from '../trainer/pieces.js';
import type { FinishResult, FlatLayout, FlatSegment, Reducer, ReducerUpdate } from '../trainer/reducer.js';
import { REPORT } from '../trainer/step-reports.js';
import { clipBound, UpdateFactors } from '../trainer/update-factors.js';
import { guard, type HierarchicalCommunicator, WorkerLostError } from './hierarchical-communicator.js';
import { cutNumber, cutOf, PackTuner } from './pack-tuner.js';

export interface CollectiveReducerOptions {
  readonly communicator: HierarchicalCommunicator;
  /** Where the layout's arrays lie. */
  readonly memory: FlatMemory;
  /** Null: by size; 'auto': by size at first, then what {@link PackTuner} finds. */
  readonly numPacks: number | null | 'auto';
  readonly wire: 'f32' | 'bf16';
  readonly algorithm: 'auto' | 'ring';
  /** Says a line once for all replicas. */
  say(line: string): void;
  /** Longest wait of a replica for its leader, in milliseconds. */
  readonly timeoutMs: number;
  /** Steps that it counts as made: for tests of what happens after 2³² gradients. Default 0. */
  readonly countFrom?: number;
}

/** Contiguous part of the flat buffers. Packs count in the order of their reduction. */
interface Pack {
  readonly start: number;
  readonly end: number;
  /** Variables whose gradients lie in it, wholly or in part. */
  readonly segments: number;
  /** This replica's slice. */
  readonly from: number;
  readonly to: number;
  readonly pieces: readonly CutPiece[];
}

/** See the file's head. Its counters in shared words are modulo 2³². */
export class CollectiveReducer implements Reducer {
  readonly #optimizer: FlatOptimizer;
  readonly #factors: UpdateFactors;
  #packs!: readonly Pack[];
  /** Packs that a segment lies in. */
  #packsOf!: readonly number[][];
  /** Per pack: gradients that replicas have put in place, counted over all steps; and steps whose sum is there. */
  #filled!: Int32Array;
  #summed!: Int32Array;
  /** The last step in which a replica of this process found a summed gradient that is not a finite number. */
  readonly #notFinite: Int32Array;
  readonly #localReports: Float64Array;
  /** Of all replicas of all workers; written by the leader. */
  readonly #reports: Float64Array;
  readonly #works: Work[] = [];
  /** When they began, for a trace; null once they are there. */
  readonly #begun: (number | null)[] = [];
  /** Gradients that this replica has put in place in each pack, in this step. */
  #ownFilled!: Int32Array;
  /** Until it has chosen. */
  #tuner: PackTuner | null = null;
  /** As a number; see cutNumber. */
  #chosen: number | null = null;
  #steps: number;
  #count = 0;

  constructor(
    private readonly layout: FlatLayout,
    private readonly options: CollectiveReducerOptions,
  ) {
    const { communicator, memory, numPacks, wire, algorithm, countFrom = 0 } = options;
    const { local } = communicator;
    const { segments, weights, gradients, clip } = layout;
    this.#optimizer = flatOptimizer(layout.optimizer);
    const [sum] = gradients as [Float32Array];
    this.#steps = countFrom;
    if (numPacks === 'auto') {
      this.#tuner = new PackTuner({ communicator, segments, travel: { wire, algorithm } });
    }
    this.#cut(typeof numPacks === 'number' ? numPacks : 'by_size');
    // Every thread of the process makes the same allocations in the same order: see FlatMemory.
    this.#notFinite = memory.allocateWords(1);
    this.#reports = memory.allocateDoubles(REPORT * communicator.size);
    this.#localReports = new Float64Array(REPORT * local.size);
    this.#factors = new UpdateFactors({
      ...{ segments, weights, sum, clip, optimizer: this.#optimizer },
      kernels: memory.kernels,
      group: local,
      allocateDoubles: (length) => memory.allocateDoubles(length),
    });
    if (local.rank === 0 && countFrom > 0) this.#notFinite.fill(countFrom);
  }

  get count(): number {
    return this.#count;
  }

  get scalars(): Readonly<Record<string, number>> {
    const { size } = this.options.communicator.workers;
    return {
      updates: this.#count,
      ...(this.#chosen !== null && { numPacks: this.#chosen, numPacksWorkers: size }),
    };
  }

  /** Packs that were chosen for as many workers count; for others they are chosen anew. */
  restore({ updates = this.#count, numPacks, numPacksWorkers }: Readonly<Record<string, number>>): void {
    this.#count = updates;
    const isFor = numPacksWorkers === this.options.communicator.workers.size;
    if (this.#tuner === null || numPacks === undefined || !isFor) return;
    const cut = cutOf(numPacks);
    this.#choose(cut, `num_packs=auto: ${cut === 'by_size' ? 'packs by size' : cut}, as chosen before.`);
  }

  share(): void {
    const { communicator } = this.options;
    if (communicator.isLeader) guard(() => communicator.workers.broadcast(this.layout.weights, 0));
    communicator.local.barrier();
  }

  begin(): void {
    if (this.#tuner?.isDue) {
      const { cut, why } = this.#tuner.choose();
      this.#choose(cut, why);
    }
    this.#tuner?.begin();
    this.#steps++;
    this.#works.length = 0;
    this.#ownFilled.fill(0);
  }

  markReady(index: number): void {
    this.#tuner?.ready(index);
    const trace = activeTrace();
    for (const pack of this.#packsOf[index] as number[]) {
      Atomics.add(this.#filled, pack, 1);
      if (++this.#ownFilled[pack]! === this.#packs[pack]!.segments) trace?.fill(pack);
    }
    if (!this.options.communicator.isLeader) return;
    // Packs start in their static order, whatever the order in which they are filled.
    while (this.#works.length < this.#packs.length && this.#isFilled(this.#works.length)) this.#start();
    // Packs move on by themselves; here a lost worker ends the step, before the rest of backward is computed for nothing.
    if (this.#works.length > 0) guard(() => this.options.communicator.workers.progress());
  }

  /** All packs are on their way when the leader returns; the others return as soon as the first sum is there. */
  meet(report: Float64Array): Float64Array {
    const { communicator } = this.options;
    this.#tuner?.computed();
    communicator.local.allGather(report, this.#localReports);
    if (communicator.isLeader) {
      while (this.#works.length < this.#packs.length) this.#start();
      guard(() => communicator.workers.allGather(this.#localReports, this.#reports));
    }
    if (this.#packs.length > 0) this.#await(0);
    else communicator.local.barrier();
    return this.#reports;
  }

  abandon(): void {
    for (const index of this.#packs.keys()) this.#await(index);
    this.options.communicator.local.barrier();
  }

  /** Applies pack after pack as they arrive, unless something has to be known of all of them first. */
  finish({ learningRate, gradientScale, skipNonFinite, apply }: ReducerUpdate): FinishResult {
    const { communicator } = this.options;
    if (skipNonFinite || !apply || this.#factors.needsSums) {
      const finite = this.#areAllFinite();
      if (!finite || !apply) return { finite, updated: false, updateMs: 0 };
    }
    const { gradientScale: scale, factors } = this.#factors.of(gradientScale);
    const step = { learningRate, gradientScale: scale, count: ++this.#count };
    let updateMs = 0;
    for (const [index, pack] of this.#packs.entries()) {
      this.#await(index);
      const begin = performance.now();
      // The sums are the same in every process, so each finds out by itself; the barrier after the last pack tells all.
      if (!this.#update(pack, step, factors)) Atomics.store(this.#notFinite, 0, this.#steps | 0);
      updateMs += performance.now() - begin;
      activeTrace()?.add(`update pack ${index}`, 'pack', begin, { pack: index });
    }
    this.#tuner?.updated(updateMs);
    communicator.local.barrier();
    return { finite: this.#isStepFinite(), updated: true, updateMs };
  }

  /** Without effect, as {@link leave}: weights here are what counts. {@link push} waits for the other replicas alone. */
  pull(): void {}
  push(): void {
    this.options.communicator.local.barrier();
  }
  leave(): null {
    return null;
  }

  #choose(cut: PackCut, why: string): void {
    this.#chosen = cutNumber(cut);
    this.#tuner = null;
    this.#cut(cut);
    this.options.say(why);
  }

  /** Between steps. Collective within the process: shared counters are made anew, as if all steps so far had been made with these packs. */
  #cut(cut: PackCut): void {
    const { communicator, memory } = this.options;
    const { local } = communicator;
    const { segments, weights, slots, gradients } = this.layout;
    const [sum] = gradients as [Float32Array];
    const own = this.#optimizer.slots.map((name) => slots[name] as Float32Array);
    const runs = cutRuns(segments, weights.length, this.#optimizer);
    const bounds = cut === 'by_size' ? taperedBounds(weights.length) : evenBounds(weights.length, cut);
    this.#packs = cutIntoPacks(segments, bounds).map((pack) => {
      const [from, to] = sliceOf(pack, local);
      return { ...pack, from, to, pieces: cutPieces(runs, from, to, { weights, slots: own, gradients: [sum] }) };
    });
    this.#packsOf = segments.map((segment) =>
      this.#packs.flatMap((pack, index) => (overlaps(segment, pack) ? [index] : [])),
    );
    this.#filled = memory.allocateWords(this.#packs.length);
    this.#summed = memory.allocateWords(this.#packs.length);
    this.#ownFilled = new Int32Array(this.#packs.length);
    this.#begun.length = 0;
    if (this.#steps === 0) return;
    if (local.rank === 0) {
      for (const [index, { segments: count }] of this.#packs.entries()) {
        this.#filled[index] = Math.imul(Math.imul(count, this.#steps), local.size);
      }
      this.#summed.fill(this.#steps);
    }
    local.barrier();
  }

  #isFilled(pack: number): boolean {
    const { segments } = this.#packs[pack] as Pack;
    const gradients = Math.imul(Math.imul(segments, this.#steps), this.options.communicator.local.size);
    return Atomics.load(this.#filled, pack) === gradients;
  }

  /** Leader: sums the next pack over the process's replicas and starts its journey. */
  #start(): void {
    const { communicator, memory, wire, algorithm } = this.options;
    const pack = this.#works.length;
    const { start, end } = this.#packs[pack] as Pack;
    const begin = performance.now();
    const parts = this.layout.gradients.map((buffer) => buffer.subarray(start, end));
    const sum = parts[0] as Float32Array;
    if (parts.length > 1) memory.kernels.sum(sum, parts);
    // Backward is over when the last pack starts, and this thread has time for it.
    const background = this.#works.length + 1 < this.#packs.length;
    this.#begun[pack] = performance.now();
    this.#works.push(guard(() => communicator.workers.allReduceAsync(sum, 'sum', { wire, algorithm, background })));
    activeTrace()?.add(`reduce pack ${pack}`, 'pack', begin, { pack });
  }

  /** Waits for every pack before any weight changes, and looks at the sums: they are the same in every process. */
  #areAllFinite(): boolean {
    const { communicator, memory } = this.options;
    const [sum] = this.layout.gradients as [Float32Array];
    for (const [index, { from, to }] of this.#packs.entries()) {
      this.#await(index);
      if (from < to && !memory.kernels.allFinite(sum.subarray(from, to))) {
        Atomics.store(this.#notFinite, 0, this.#steps | 0);
      }
    }
    communicator.local.barrier();
    return this.#isStepFinite();
  }

  #isStepFinite(): boolean {
    return Atomics.load(this.#notFinite, 0) !== (this.#steps | 0);
  }

  #await(pack: number): void {
    const begin = performance.now();
    this.#waitFor(pack);
    const trace = activeTrace();
    if (trace === null) return;
    trace.add(`wait for pack ${pack}`, 'pack', begin, { pack });
    const begun = this.#begun[pack] ?? null;
    const { start, end } = this.#packs[pack] as Pack;
    if (begun !== null) trace.travel(pack, (end - start) * (this.options.wire === 'bf16' ? 2 : 4), begun);
    this.#begun[pack] = null;
  }

  #waitFor(pack: number): void {
    const { communicator, timeoutMs } = this.options;
    const steps = this.#steps | 0;
    if (communicator.isLeader) {
      guard(() => this.#works[pack]?.wait());
      Atomics.store(this.#summed, pack, steps);
      Atomics.notify(this.#summed, pack);
      return;
    }
    while (Atomics.load(this.#summed, pack) !== steps) {
      if (Atomics.wait(this.#summed, pack, (steps - 1) | 0, timeoutMs) === 'timed-out') {
        throw new WorkerLostError(
          `Replica ${communicator.rank} waited ${timeoutMs / 1000} s for its worker's leader in step ${this.#steps}.`,
        );
      }
    }
  }

  /** This replica's slice of a pack: sum → mean → decay → optimizer → weights, in one pass. @returns whether it was finite. */
  #update({ from, to, pieces }: Pack, step: StepNumbers, factors: Float64Array | null): boolean {
    const { kernels } = this.options.memory;
    const bound = clipBound(this.layout.clip, step.gradientScale);
    const [sum] = this.layout.gradients as [Float32Array];
    const finite = bound === null || clipSum(kernels, sum.subarray(from, to), bound);
    return updatePieces(this.#optimizer, kernels, pieces, step, factors) && finite;
  }
}

/** The packs between bounds, listed from the end of the buffer: backward produces the last variables' gradients first. */
function cutIntoPacks(
  segments: readonly FlatSegment[],
  bounds: readonly number[],
): Pick<Pack, 'start' | 'end' | 'segments'>[] {
  return bounds
    .slice(1)
    .map((end, index) => {
      const start = bounds[index] as number;
      return { start, end, segments: segments.filter((segment) => overlaps(segment, { start, end })).length };
    })
    .reverse();
}

function sliceOf({ start, end }: { start: number; end: number }, { rank, size }: { rank: number; size: number }) {
  const at = (part: number) => start + Math.floor(((end - start) * part) / size);
  return [at(rank), at(rank + 1)] as const;
}

function overlaps({ offset, length }: FlatSegment, { start, end }: { start: number; end: number }): boolean {
  return length > 0 && offset < end && offset + length > start;
}
