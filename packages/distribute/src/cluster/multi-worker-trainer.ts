/**
 * The fast path of a synchronous step over several processes; what Trainer is within one.
 *
 * Weights and slots are one copy per process, in shared memory; gradients one flat buffer per replica. The buffer is cut
 * into num_packs contiguous packs, which are reduced in a static order, from the end (whose gradients are final first): as
 * soon as all replicas of the process have filled a pack, the leader sums it and starts its all-reduce between processes,
 * which a thread of its own carries on while backward goes on. A finished pack is applied by all replicas, a slice each,
 * while later ones travel. Every process adds the same numbers in the same order, so weights stay bit-identical everywhere without being sent.
 */

import type * as tf from '@tensorflow/tfjs-core';
import type { Work } from '../communicator/communicator.js';
import { gatherValues } from '../communicator/gather.js';
import { checkSameVariables } from '../mirror/mirror.js';
import { checkStep, checkTrainer } from '../optimizer/check-trainer.js';
import { checkViews, fillWeights, layOut, viewWeights } from '../optimizer/flat-variables.js';
import { LocalStepRunner, type Loss, type StepInput } from '../optimizer/local-step.js';
import { LossScale, type LossScaleState } from '../optimizer/loss-scale.js';
import { REPORT, StepReports } from '../optimizer/step-reports.js';
import type { StepResult, TrainerOptions, TrainerSegment } from '../optimizer/trainer.js';
import { copyValues, observe } from '../replica/tensor-values.js';
import type { FlatMemory } from '../simd/index.js';
import { flatOptimizer } from '../trainer/optimizers/create.js';
import type { FlatOptimizer } from '../trainer/optimizers/optimizer.js';
import { asWorkerError, type HierarchicalCommunicator, WorkerLostError } from './hierarchical-communicator.js';
import { evenBounds, taperedBounds } from './pack-bounds.js';

/** What a trainer needs of its replica. */
export interface MultiWorkerTrainerContext {
  readonly communicator: HierarchicalCommunicator;
  readonly memory: FlatMemory;
  /** Null: by size. */
  readonly numPacks: number | null;
  readonly wire: 'f32' | 'bf16';
  readonly algorithm: 'auto' | 'ring';
  /** Longest wait of a replica for its leader, in milliseconds. */
  readonly timeoutMs: number;
  /** Whether this process was asked to stop; asked once per step, and told to all with the step's exchange. */
  readonly isStopRequested?: () => boolean;
  /** Told once per step, the same on all replicas of all workers. */
  readonly onStopKnown?: (stop: boolean) => void;
}

interface Run {
  readonly start: number;
  readonly end: number;
  readonly weightDecay: number;
}

/** Contiguous part of the flat buffers. Packs count in the order of their reduction. */
interface Pack {
  readonly start: number;
  readonly end: number;
  /** Variables whose gradients lie in it, wholly or in part. */
  readonly segments: number;
  /** Parts with one rate of decay. */
  readonly runs: readonly Run[];
}

/** See the file's head. */
export class MultiWorkerTrainer {
  /** All weights of this process, in variable order. Write to it only between steps, on every process's leader alike. */
  readonly weights: Float32Array;
  readonly slots: Record<string, Float32Array> = {};
  readonly segments: readonly TrainerSegment[];
  readonly #gradients: readonly Float32Array[];
  readonly #packs: readonly Pack[];
  /** Packs that a segment lies in. */
  readonly #packsOf: readonly number[][];
  readonly #segmentOf: ReadonlyMap<tf.Variable, number>;
  readonly #aliases: readonly object[];
  readonly #decayed: readonly TrainerSegment[];
  /** Per pack: gradients that replicas have put in place, counted over all steps; and steps whose sum is there. */
  readonly #filled: Int32Array;
  readonly #summed: Int32Array;
  /** Steps in which a replica of this process found a summed gradient that is not a finite number: the last one. */
  readonly #notFinite: Int32Array;
  readonly #produced: Uint8Array;
  readonly #stepReports: StepReports;
  readonly #lossScale: LossScale;
  readonly #local: LocalStepRunner;
  readonly #localReports: Float64Array;
  /** Of all replicas of all workers; written by the leader. */
  readonly #reports: Float64Array;
  readonly #works: Work[] = [];
  readonly #optimizer: FlatOptimizer;
  #steps = 0;
  #updates = 0;

  constructor(
    private readonly variables: readonly tf.Variable[],
    private readonly options: TrainerOptions,
    private readonly context: MultiWorkerTrainerContext,
  ) {
    checkTrainer(variables, options);
    const { communicator, memory } = context;
    const replicas = communicator.local.size;
    checkSameVariables(variables, {
      communicator,
      replicas: communicator.size,
      gather: (value) => gatherValues(communicator, value),
    });
    const { weightDecay } = options;
    this.#lossScale = new LossScale(options.lossScale);
    this.#local = new LocalStepRunner(variables, (variable, gradient) => this.#take(variable, gradient));
    this.segments = layOut(variables);
    const elements = this.segments.reduce((total, { length }) => total + length, 0);
    this.#segmentOf = new Map(variables.map((variable, i) => [variable, i]));
    const rates = variables.map((variable) => (weightDecay?.applies(variable) ? weightDecay.rate : 0));
    this.#decayed = this.segments.filter((_, i) => rates[i] !== 0);
    const bounds = context.numPacks === null ? taperedBounds(elements) : evenBounds(elements, context.numPacks);
    this.#packs = cutIntoPacks(this.segments, rates, bounds);
    this.#packsOf = this.segments.map((segment) =>
      this.#packs.flatMap((pack, index) => (overlaps(segment, pack) ? [index] : [])),
    );
    // Every thread of the process makes the same allocations in the same order: see FlatMemory.
    this.weights = memory.allocate(elements);
    this.#optimizer = flatOptimizer(options.optimizer);
    for (const name of this.#optimizer.slots) this.slots[name] = memory.allocate(elements);
    this.#gradients = memory.allocateEach(replicas, elements);
    this.#filled = memory.allocateWords(this.#packs.length);
    this.#summed = memory.allocateWords(this.#packs.length);
    this.#notFinite = memory.allocateWords(1);
    this.#reports = memory.allocateDoubles(REPORT * communicator.size);
    this.#localReports = new Float64Array(REPORT * replicas);
    this.#produced = new Uint8Array(variables.length);
    const { rank } = communicator.local;
    this.#stepReports = new StepReports({
      segments: this.segments,
      gather: (value) => gatherValues(communicator, value),
      copies: {
        weights: this.weights,
        part: this.weights.subarray(
          Math.floor((elements * rank) / replicas),
          Math.floor((elements * (rank + 1)) / replicas),
        ),
        replicasPerCopy: replicas,
      },
    });
    this.#aliases = this.#adopt();
  }

  /**
   * One synchronous step: `loss` and its gradients here, their mean over all replicas of all workers, the update. Collective.
   * @param loss The mean over this replica's batch, a scalar; must use the trainer's variables.
   * @param inputs The batch, if `loss` takes it as arguments: then the step is recorded where the backend can (see {@link Loss}).
   * @throws WorkerLostError if another process is lost; TypeError, RangeError for what no step can be made of; Error, the same on all
   * replicas, if they produced gradients of different variables, or have different learning rates, inputs or weights.
   */
  step(loss: Loss, learningRate: number, inputs?: readonly StepInput[]): StepResult {
    checkStep(loss, learningRate, inputs);
    this.#checkAliases();
    const { communicator } = this.context;
    this.#steps++;
    this.#produced.fill(0);
    this.#works.length = 0;
    communicator.workers.setStep(this.#steps);
    const lossScale = this.#lossScale.value;
    const { loss: localLoss, begin, forwardDone } = this.#local.run(loss, lossScale, inputs);
    for (const [segment, produced] of this.#produced.entries()) if (produced === 0) this.#zero(segment);
    const backwardDone = performance.now();
    const stop = this.context.isStopRequested?.() ?? false;
    this.#exchange(
      this.#stepReports.write({ loss: localLoss, stop, produced: this.#produced, learningRate, lossScale, inputs }),
    );
    const sum = this.#readReports();
    const updateMs = this.#finish(learningRate, Number.isFinite(sum));
    const finite = Atomics.load(this.#notFinite, 0) !== this.#steps;
    const isMadeUpFor = this.#lossScale.settle(finite);
    const end = performance.now();
    return {
      loss: sum / communicator.size,
      localLoss,
      finite: Number.isFinite(sum) && finite,
      skipped: !finite && isMadeUpFor,
      lossScale,
      phases: {
        forward: forwardDone - begin,
        backward: backwardDone - forwardDone,
        reduce: end - backwardDone - updateMs,
        update: updateMs,
      },
    };
  }

  /** What a dynamic loss scale has found so far, for a checkpoint; null if it is fixed. The same on all replicas. */
  get lossScaleState(): LossScaleState | null {
    return this.#lossScale.state;
  }

  /**
   * The loss scale goes on where another run's left off; call it on every replica. Without effect if it is fixed.
   * @throws RangeError for a state that no scale can have had.
   */
  restoreLossScale(state: LossScaleState): void {
    this.#lossScale.restore(state);
  }

  /** rate · Σw²/2 over the variables that decay: what weight decay adds to the loss. Plain f64 sum, for logs. */
  weightDecayLoss(): number {
    const { kernels } = this.context.memory;
    let sum = 0;
    for (const { offset, length } of this.#decayed)
      sum += kernels.sumSquares(this.weights.subarray(offset, offset + length));
    return ((this.options.weightDecay?.rate ?? 0) * sum) / 2;
  }

  #take(variable: tf.Variable, gradient: tf.Tensor): void {
    const index = this.#segmentOf.get(variable) as number;
    copyValues(gradient, this.#gradientOf(index));
    observe([], () => {
      this.#produced[index] = 1;
      this.#markReady(index);
    });
  }

  /** A variable that the loss does not reach has a zero gradient; weight decay and momentum still act on it. */
  #zero(index: number): void {
    this.#gradientOf(index).fill(0);
    this.#markReady(index);
  }

  #gradientOf(index: number): Float32Array {
    const { offset, length } = this.segments[index] as TrainerSegment;
    return (this.#gradients[this.context.communicator.local.rank] as Float32Array).subarray(offset, offset + length);
  }

  #markReady(index: number): void {
    for (const pack of this.#packsOf[index] as number[]) Atomics.add(this.#filled, pack, 1);
    if (!this.context.communicator.isLeader) return;
    // Packs start in their static order, whatever the order in which they are filled.
    while (this.#works.length < this.#packs.length && this.#isFilled(this.#works.length)) this.#start();
    if (this.#works.length === 0) return;
    // Packs move on by themselves; here a lost worker ends the step, before the rest of backward is computed for nothing.
    try {
      this.context.communicator.workers.progress();
    } catch (error) {
      throw asWorkerError(error);
    }
  }

  #isFilled(pack: number): boolean {
    const { segments } = this.#packs[pack] as Pack;
    return Atomics.load(this.#filled, pack) === segments * this.#steps * this.context.communicator.local.size;
  }

  /** Leader: sums the next pack over the process's replicas and starts its journey. */
  #start(): void {
    const { communicator, memory, wire, algorithm } = this.context;
    const { start, end } = this.#packs[this.#works.length] as Pack;
    const parts = this.#gradients.map((buffer) => buffer.subarray(start, end));
    const sum = parts[0] as Float32Array;
    if (parts.length > 1) memory.kernels.sum(sum, parts);
    // Backward is over when the last pack starts, and this thread has time for it.
    const background = this.#works.length + 1 < this.#packs.length;
    try {
      this.#works.push(communicator.workers.allReduceAsync(sum, 'sum', { wire, algorithm, background }));
    } catch (error) {
      throw asWorkerError(error);
    }
  }

  /** Tells everybody this replica's report. All packs are on their way afterwards. */
  #exchange(own: Float64Array): void {
    const { communicator } = this.context;
    communicator.local.allGather(own, this.#localReports);
    if (!communicator.isLeader) return;
    while (this.#works.length < this.#packs.length) this.#start();
    try {
      communicator.workers.allGather(this.#localReports, this.#reports);
    } catch (error) {
      throw asWorkerError(error);
    }
  }

  /** Applies pack after pack as they arrive; a step without a finite loss changes nothing. @returns milliseconds of updating. */
  #finish(learningRate: number, hasLoss: boolean): number {
    const { communicator } = this.context;
    let updateMs = 0;
    if (this.#lossScale.isDynamic || !hasLoss) {
      const areFinite = this.#areAllFinite();
      if (!areFinite || !hasLoss) return 0;
    }
    this.#updates++;
    for (const [index, pack] of this.#packs.entries()) {
      this.#await(index);
      const begin = performance.now();
      this.#update(pack, learningRate);
      updateMs += performance.now() - begin;
    }
    communicator.local.barrier();
    return updateMs;
  }

  /** Waits for every pack before any weight changes, and looks at the sums: they are the same in every process. */
  #areAllFinite(): boolean {
    const { communicator, memory } = this.context;
    const { local } = communicator;
    for (const [index, { start, end }] of this.#packs.entries()) {
      this.#await(index);
      const from = start + Math.floor(((end - start) * local.rank) / local.size);
      const to = start + Math.floor(((end - start) * (local.rank + 1)) / local.size);
      if (from < to && !memory.kernels.allFinite((this.#gradients[0] as Float32Array).subarray(from, to))) {
        Atomics.store(this.#notFinite, 0, this.#steps);
      }
    }
    local.barrier();
    return Atomics.load(this.#notFinite, 0) !== this.#steps;
  }

  #await(pack: number): void {
    const { communicator, timeoutMs } = this.context;
    if (communicator.isLeader) {
      try {
        this.#works[pack]?.wait();
      } catch (error) {
        throw asWorkerError(error);
      }
      Atomics.store(this.#summed, pack, this.#steps);
      Atomics.notify(this.#summed, pack);
      return;
    }
    while (Atomics.load(this.#summed, pack) < this.#steps) {
      if (Atomics.wait(this.#summed, pack, this.#steps - 1, timeoutMs) === 'timed-out') {
        throw new WorkerLostError(
          `Replica ${communicator.rank} waited ${timeoutMs / 1000} s for its worker's leader in step ${this.#steps}.`,
        );
      }
    }
  }

  /** This replica's slice of a pack: sum → mean → decay → optimizer → weights, in one pass. */
  #update(pack: Pack, learningRate: number): void {
    const { communicator, memory } = this.context;
    const { local } = communicator;
    const gradientScale = 1 / (communicator.size * this.#lossScale.value);
    const step = { learningRate, gradientScale, count: this.#updates };
    for (const { start, end, weightDecay } of pack.runs) {
      const from = start + Math.floor(((end - start) * local.rank) / local.size);
      const to = start + Math.floor(((end - start) * (local.rank + 1)) / local.size);
      if (from === to) continue;
      const piece = {
        weights: this.weights.subarray(from, to),
        slots: this.#optimizer.slots.map((name) => (this.slots[name] as Float32Array).subarray(from, to)),
        gradients: [(this.#gradients[0] as Float32Array).subarray(from, to)],
        weightDecay,
        factor: 1,
      };
      const allFinite = this.#optimizer.apply(memory.kernels, piece, step);
      // The sums are the same in every process, so each finds out by itself; the barrier after the last pack tells all.
      if (!allFinite) Atomics.store(this.#notFinite, 0, this.#steps);
    }
  }

  /**
   * Reads what everybody reported, before any weight changes. The leader has it; the others see it as soon as the first sum is there.
   * @returns the sum of all losses.
   */
  #readReports(): number {
    if (this.#packs.length > 0) this.#await(0);
    else this.context.communicator.local.barrier();
    const { lossSum, stop } = this.#stepReports.read(this.#reports, () => {
      for (const index of this.#packs.keys()) this.#await(index);
      this.context.communicator.local.barrier();
    });
    this.context.onStopKnown?.(stop);
    return lossSum;
  }

  /** Before weights are saved: throws unless all workers have the same, naming the first variable that differs. Collective. */
  checkMirrored(): void {
    this.#stepReports.check('now');
  }

  /** Replica 0 of worker 0 has the initial values; every variable becomes a view of the flat weights. */
  #adopt(): object[] {
    const { communicator } = this.context;
    if (communicator.isLeader) {
      fillWeights(this.variables, this.segments, this.weights);
      try {
        communicator.workers.broadcast(this.weights, 0);
      } catch (error) {
        throw asWorkerError(error);
      }
    }
    communicator.local.barrier();
    return viewWeights(this.variables, this.segments, this.weights);
  }

  #checkAliases(): void {
    checkViews(
      this.variables,
      this.#aliases,
      'write new values to trainer.weights, between steps; or assign before making the trainer.',
    );
  }
}

/** The packs between bounds, listed from the end of the buffer: backward produces the last variables' gradients first. */
function cutIntoPacks(
  segments: readonly TrainerSegment[],
  rates: readonly number[],
  bounds: readonly number[],
): Pack[] {
  const packs: Pack[] = [];
  for (const [index, end] of bounds.slice(1).entries()) {
    const start = bounds[index] as number;
    const runs: Run[] = [];
    let touching = 0;
    for (const [i, segment] of segments.entries()) {
      if (!overlaps(segment, { start, end })) continue;
      touching++;
      const from = Math.max(start, segment.offset);
      const to = Math.min(end, segment.offset + segment.length);
      const before = runs.at(-1);
      if (before?.weightDecay === rates[i]) runs[runs.length - 1] = { ...before, end: to };
      else runs.push({ start: from, end: to, weightDecay: rates[i] as number });
    }
    packs.unshift({ start, end, segments: touching, runs });
  }
  return packs;
}

function overlaps({ offset, length }: TrainerSegment, { start, end }: { start: number; end: number }): boolean {
  return length > 0 && offset < end && offset + length > start;
}
