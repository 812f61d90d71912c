/**
 * FlatReducer: one step's gradients of all replicas of a process, summed and applied where they lie.
 *
 * Weights, slots and one gradient buffer per replica are flat arrays in a FlatMemory. A replica marks a segment when its
 * gradient is final; when all segments of a pack are, the replica has filled it; and once every replica has, the pack may
 * be summed: replicas that are through with backward and wait for the others do so meanwhile (overlap that costs nobody
 * anything). When all are through, what is left is summed and applied in the same pass over memory, chunk by chunk, each
 * chunk by one replica; whoever is fast takes more.
 *
 * Bytes per replica of the whole step, for S bytes of gradients and n replicas: reads (n + 2)/n·S, writes 2/n·S. The sum of
 * an element runs in replica order whoever takes it and however packs and chunks are cut, so weights are bit-identical from
 * run to run and for every num_packs. With other algorithms than ShardedAllReduce the packs are reduced by those, after
 * backward, and the update is a pass of its own. It computes no gradients and knows no tensors.
 */
import { type Communicator, CommunicatorError } from '../communicator/communicator.js';
import type { FlatMemory } from '../simd/flat-memory.js';
import type { FlatKernels } from '../simd/kernels.js';
import { plainKernels } from '../simd/plain-kernels.js';
import { flatOptimizer, type OptimizerConfig } from '../trainer/optimizers/create.js';
import type { FlatOptimizer, Piece } from '../trainer/optimizers/optimizer.js';
import type { CrossDeviceOps } from './cross-device-ops.js';
import { type Pack, splitIntoPacks } from './packing.js';
import { ShardedAllReduce } from './sharded-all-reduce.js';

/** A variable's place in the flat arrays. */
export interface FlatSegment {
  readonly name?: string;
  readonly offset: number;
  readonly length: number;
  /** weightDecay·w is added to the gradient. Default 0. */
  readonly weightDecay?: number;
}

export interface FlatReducerOptions {
  readonly communicator: Communicator;
  /** Where the arrays below lie; words for coordination are allocated there too. */
  readonly memory: FlatMemory;
  /** Algorithm and number of packs. Default: ShardedAllReduce with `numPacks`. */
  readonly crossDeviceOps?: CrossDeviceOps;
  /** Used if no `crossDeviceOps` are given. Default 1. */
  readonly numPacks?: number;
  /** In any order, not overlapping. */
  readonly segments: readonly FlatSegment[];
  readonly weights: Float32Array;
  /** The optimizer's, by name. */
  readonly slots: Readonly<Record<string, Float32Array>>;
  /** One array per replica, in replica order. */
  readonly gradients: readonly Float32Array[];
  readonly optimizer: OptimizerConfig;
  /** Gradients are divided by it (and by the number of replicas). Default 1. */
  readonly lossScale?: number;
}

export interface UpdateOptions {
  readonly learningRate: number;
  /** Updates made so far, this one included. Default 1; only optimizers that count need it. */
  readonly count?: number;
  /** Overrides the constructor's, for dynamic loss scaling. */
  readonly lossScale?: number;
  /** The summed gradient is multiplied by it. Default: 1 ÷ (replicas · loss scale). */
  readonly gradientScale?: number;
  /** Leave weights and slots alone if any summed gradient is not finite. Costs a pass more. Default false. */
  readonly skipNonFinite?: boolean;
}

/** The same on all replicas, but for the times. */
export interface FinishResult {
  /** Whether every summed gradient was a finite number. */
  readonly finite: boolean;
  /** Whether weights were updated. */
  readonly updated: boolean;
  /** Waiting for other replicas, and summing that was not part of the update pass, in milliseconds. */
  readonly reduceMs: number;
  readonly updateMs: number;
}

/** Numbers that {@link FlatReducer.meet} exchanges at most. */
export const MAX_MEET_VALUES = 8;

/** 64 KiB of each array: several arrays' chunks fit a second-level cache. */
const CHUNK = 16_384;
const SLICE_MS = 20;
const SPIN_MS = 0.1;
/** Longest wait for another replica to finish a chunk that it has begun; it takes microseconds. */
const CHUNK_MS = 30_000;

/** A chunk's word is 4·pass + state, so that a new pass needs no clearing. */
const State = { summing: 1, summed: 2, taken: 3 } as const;

interface Chunk {
  readonly pack: number;
  readonly gradients: readonly Float32Array[];
  readonly pieces: readonly Piece[];
}

/** See the file's head. */
export class FlatReducer {
  /** Where {@link finish} leaves the sum over replicas; the same memory on all. */
  readonly reduced: Float32Array;
  readonly packs: readonly Pack[];
  readonly #communicator: Communicator;
  readonly #ops: CrossDeviceOps;
  readonly #options: FlatReducerOptions;
  readonly #kernels: FlatKernels;
  readonly #optimizer: FlatOptimizer;
  readonly #chunks: readonly Chunk[];
  /** Chunks' states, then one counter per pack of replicas that have filled it, then a counter of events. */
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #values: Float64Array<SharedArrayBuffer>;
  /** Of each segment: the packs in which it lies, and with how many elements. */
  readonly #shares: readonly (readonly { pack: number; elements: number }[])[];
  readonly #packElements: Int32Array;
  /** Elements of each pack whose gradient is not final here. */
  readonly #missing: Int32Array;
  readonly #isReady: Uint8Array;
  #readyCount = 0;
  #steps = 0;
  #pass = 0;
  #hasMet = false;
  #meetValues = new Float64Array(0);
  #chunksSummedEarly = 0;

  /** Collective: allocates, and compares what was allocated. */
  constructor(options: FlatReducerOptions) {
    const { communicator, memory, segments, weights, slots, gradients, optimizer } = options;
    this.#options = options;
    this.#communicator = communicator;
    this.#ops = options.crossDeviceOps ?? new ShardedAllReduce(options.numPacks ?? 1);
    checkLengths(options);
    this.packs = splitIntoPacks(weights.length, this.#ops.numPacks);
    this.reduced = gradients[0] as Float32Array;
    const arrays = [weights, ...Object.values(slots), ...gradients];
    this.#kernels = memory.kernels.accepts(arrays) ? memory.kernels : plainKernels;

    this.#optimizer = flatOptimizer(optimizer);
    const own = this.#optimizer.slots.map((name) => slots[name] as Float32Array);
    this.#chunks = cutChunks(this.packs, segments, weights, own, gradients);
    this.#words = memory.allocateWords(this.#chunks.length + this.packs.length + 1);
    this.#values = memory.allocateDoubles(2 * communicator.size * MAX_MEET_VALUES);

    this.#shares = segments.map((segment) => sharesOf(segment, this.packs));
    this.#packElements = new Int32Array(this.packs.length);
    for (const share of this.#shares.flat()) this.#packElements[share.pack]! += share.elements;
    this.#missing = this.#packElements.slice();
    this.#isReady = new Uint8Array(segments.length);
    communicator.barrier();
  }

  /** Chunks that this replica has summed before all replicas were through with backward, since it was made. */
  get chunksSummedEarly(): number {
    return this.#chunksSummedEarly;
  }

  /**
   * The gradient of `segments[index]` is final in this replica's array for this step. Never waits.
   * @throws Error if it was marked before in this step.
   */
  markReady(index: number): void {
    const shares = this.#shares[index];
    if (!shares) throw new RangeError(`There is no segment ${index}; segments are 0 to ${this.#shares.length - 1}.`);
    if (this.#isReady[index] === 1) {
      throw new Error(`The gradient of ${this.#describeSegment(index)} was marked ready twice in one step.`);
    }
    this.#isReady[index] = 1;
    this.#readyCount++;
    for (const { pack, elements } of shares) {
      this.#missing[pack]! -= elements;
      if (this.#missing[pack] === 0) this.#fill(pack);
    }
  }

  /**
   * This replica is through with its gradients: waits until all are, summing full packs meanwhile, and exchanges a few
   * numbers (a loss, say). Part of every step; {@link finishWithUpdate} does it if it was not called. Collective.
   * @returns `values` of all replicas, replica 0's first; good until the next call.
   */
  meet(values: ArrayLike<number> = []): Float64Array {
    this.#checkComplete();
    if (values.length > MAX_MEET_VALUES) {
      throw new RangeError(`meet() exchanges at most ${MAX_MEET_VALUES} numbers, got ${values.length}.`);
    }
    const { rank, size } = this.#communicator;
    const at = (this.#steps & 1) * size * MAX_MEET_VALUES;
    this.#values.set(values, at + rank * MAX_MEET_VALUES);
    const work = this.#communicator.allReduceAsync(Int32Array.of(values.length), 'max');
    while (!work.test()) {
      const seen = this.#events;
      if (this.#sumFullPacks(() => work.test())) continue;
      if (this.packs.every((_, pack) => this.#isFull(pack))) work.wait();
      else this.#sleepAfter(seen);
    }
    this.#hasMet = true;
    this.#meetValues = new Float64Array(size * values.length);
    for (let other = 0; other < size; other++) {
      const from = at + other * MAX_MEET_VALUES;
      this.#meetValues.set(this.#values.subarray(from, from + values.length), other * values.length);
    }
    return this.#meetValues;
  }

  /** After {@link meet}: this step's gradients count for nothing, and the next step may begin. Collective. */
  abandonStep(): void {
    // Nobody sums a chunk any more.
    this.#communicator.barrier();
    this.#pass++;
    this.#nextStep();
  }

  /** Sums what is not summed and updates weights and slots. On return they are new on every replica. Collective. */
  finishWithUpdate(options: UpdateOptions): FinishResult {
    const began = performance.now();
    if (!this.#hasMet) this.meet();
    const fused = this.#ops instanceof ShardedAllReduce && options.skipNonFinite !== true;
    if (!fused) {
      const { finite } = this.#reduce(options.skipNonFinite === true);
      const reduced = performance.now();
      this.#nextStep();
      if (options.skipNonFinite && !finite) return { finite, updated: false, reduceMs: reduced - began, updateMs: 0 };
      const result = this.update(options);
      return { ...result, reduceMs: reduced - began };
    }
    const reduced = performance.now();
    const allFinite = this.#updateChunks(options);
    const finite = this.#agree(allFinite);
    this.#nextStep();
    return { finite, updated: true, reduceMs: reduced - began, updateMs: performance.now() - reduced };
  }

  /** Sums only: the result is in {@link reduced} on return. For gradients that go on to other processes. Collective. */
  finish(): FinishResult {
    const began = performance.now();
    if (!this.#hasMet) this.meet();
    const { finite } = this.#reduce(true);
    this.#nextStep();
    return { finite, updated: false, reduceMs: performance.now() - began, updateMs: 0 };
  }

  /**
   * After {@link finish}: updates weights and slots from {@link reduced}, which one replica may have changed meanwhile (then
   * a barrier belongs in between). Collective.
   */
  update(options: UpdateOptions): FinishResult {
    const began = performance.now();
    const allFinite = this.#updateChunks(options, true);
    const finite = this.#agree(allFinite);
    return { finite, updated: true, reduceMs: 0, updateMs: performance.now() - began };
  }

  /** The sum, in `reduced`, everywhere. */
  #reduce(check: boolean): { finite: boolean } {
    const { rank, size } = this.#communicator;
    let finite = true;
    if (this.#ops instanceof ShardedAllReduce) {
      this.#takeChunks(({ gradients }, isSummed) => {
        const target = gradients[0] as Float32Array;
        if (!isSummed && size > 1) this.#kernels.sum(target, gradients);
        if (check && finite) finite = this.#kernels.allFinite(target);
      });
    } else {
      const { gradients } = this.#options;
      const barrier = () => this.#communicator.barrier();
      this.#ops.reducePacks({ rank, size, buffers: gradients, kernels: this.#kernels, barrier }, this.packs);
      if (check) {
        this.#takeChunks((chunk) => {
          if (finite) finite = this.#kernels.allFinite(chunk.gradients[0]!);
        });
      }
    }
    return { finite: this.#agree(finite) };
  }

  #updateChunks(options: UpdateOptions, onlyReduced = false): boolean {
    const { lossScale = 1, gradients } = this.#options;
    const gradientScale = options.gradientScale ?? 1 / (gradients.length * (options.lossScale ?? lossScale));
    const step = { learningRate: options.learningRate, gradientScale, count: options.count ?? 1 };
    let finite = true;
    this.#takeChunks(({ pieces }, isSummed) => {
      for (const piece of pieces) {
        const summed = isSummed || onlyReduced ? { ...piece, gradients: piece.gradients.slice(0, 1) } : piece;
        const isPieceFinite = this.#optimizer.apply(this.#kernels, summed, step);
        finite &&= isPieceFinite;
      }
    });
    return finite;
  }

  /** Takes chunks until all are taken, by this replica or another: first its own share, then what others left. */
  #takeChunks(action: (chunk: Chunk, isSummed: boolean) => void): void {
    const count = this.#chunks.length;
    const first = Math.floor((count * this.#communicator.rank) / this.#communicator.size);
    const beingSummed: number[] = [];
    const take = (index: number) => {
      const found = Atomics.load(this.#words, index);
      const state = found - 4 * this.#pass;
      if (state === State.taken) return;
      if (state === State.summing) beingSummed.push(index);
      else if (Atomics.compareExchange(this.#words, index, found, 4 * this.#pass + State.taken) === found) {
        action(this.#chunks[index] as Chunk, state === State.summed);
      } else take(index);
    };
    for (let i = 0; i < count; i++) take((first + i) % count);
    const deadline = performance.now() + CHUNK_MS;
    for (let index = beingSummed.shift(); index !== undefined; index = beingSummed.shift()) {
      if (performance.now() > deadline) this.#abandon();
      Atomics.wait(this.#words, index, 4 * this.#pass + State.summing, 1);
      take(index);
    }
    this.#pass++;
  }

  /** Sums chunks of full packs that nobody has begun, until `isOver`. @returns whether there were any. */
  #sumFullPacks(isOver: () => boolean): boolean {
    if (!(this.#ops instanceof ShardedAllReduce) || this.#communicator.size === 1) return false;
    let found = false;
    for (const [index, { pack, gradients }] of this.#chunks.entries()) {
      if (!this.#isFull(pack)) continue;
      const word = Atomics.load(this.#words, index);
      const tag = 4 * this.#pass;
      if (word > tag || Atomics.compareExchange(this.#words, index, word, tag + State.summing) !== word) continue;
      this.#kernels.sum(gradients[0] as Float32Array, gradients);
      Atomics.store(this.#words, index, tag + State.summed);
      Atomics.notify(this.#words, index);
      this.#chunksSummedEarly++;
      found = true;
      if (isOver()) break;
    }
    return found;
  }

  /** This replica has filled a pack. The last one to do so wakes those that wait. */
  #fill(pack: number): void {
    const at = this.#chunks.length + pack;
    const filled = Atomics.add(this.#words, at, 1) + 1;
    if (filled !== Math.imul(this.#steps + 1, this.#communicator.size)) return;
    const events = this.#words.length - 1;
    Atomics.add(this.#words, events, 1);
    Atomics.notify(this.#words, events);
  }

  #isFull(pack: number): boolean {
    if (this.#packElements[pack] === 0) return true;
    const filled = Atomics.load(this.#words, this.#chunks.length + pack);
    return filled === Math.imul(this.#steps + 1, this.#communicator.size);
  }

  get #events(): number {
    return Atomics.load(this.#words, this.#words.length - 1);
  }

  #sleepAfter(seen: number): void {
    const began = performance.now();
    while (performance.now() - began < SPIN_MS) {
      for (let i = 0; i < 100; i++) if (this.#events !== seen) return;
    }
    Atomics.wait(this.#words, this.#words.length - 1, seen, SLICE_MS);
  }

  /** Whether all replicas say yes; a barrier as well. */
  #agree(isTrue: boolean): boolean {
    const no = Int32Array.of(isTrue ? 0 : 1);
    this.#communicator.allReduce(no, 'max');
    return no[0] === 0;
  }

  #nextStep(): void {
    this.#steps++;
    this.#hasMet = false;
    this.#readyCount = 0;
    this.#isReady.fill(0);
    this.#missing.set(this.#packElements);
  }

  #checkComplete(): void {
    if (this.#hasMet) throw new Error('meet() was called twice in one step.');
    const { segments } = this.#options;
    if (this.#readyCount === segments.length) return;
    throw new Error(
      `The gradient of ${this.#describeSegment(this.#isReady.indexOf(0))} was not marked ready; ` +
        `${this.#readyCount} of ${segments.length} were.\nhelp: fill the gradient of an unused variable with zeros and mark it.`,
    );
  }

  #describeSegment(index: number): string {
    const name = this.#options.segments[index]?.name;
    return `segment ${index}${name ? ` ('${name}')` : ''}`;
  }

  #abandon(): never {
    const text = `A replica began to sum a chunk and did not finish it within ${CHUNK_MS / 1000} s.`;
    this.#communicator.abort(text);
    throw new CommunicatorError(text);
  }
}

function checkLengths({ communicator, weights, slots, gradients, optimizer, segments }: FlatReducerOptions): void {
  if (gradients.length !== communicator.size) {
    throw new RangeError(`${communicator.size} replicas need as many gradient arrays, got ${gradients.length}.`);
  }
  for (const name of flatOptimizer(optimizer).slots) {
    if (slots[name]) continue;
    throw new RangeError(`The ${optimizer.kind} optimizer needs slots.${name}, an array of the weights' length.`);
  }
  for (const array of [...Object.values(slots), ...gradients]) {
    if (array.length === weights.length) continue;
    throw new RangeError(`Weights have ${weights.length} elements, a slot or gradient array has ${array.length}.`);
  }
  const ordered = segments.toSorted((a, b) => a.offset - b.offset);
  for (const [i, { offset, length }] of ordered.entries()) {
    const end = ordered[i + 1]?.offset ?? weights.length;
    if (offset >= 0 && length >= 0 && offset + length <= end) continue;
    throw new RangeError(`The segment of ${length} elements at ${offset} runs into ${end}, the next one or the end.`);
  }
}

function sharesOf({ offset, length }: FlatSegment, packs: readonly Pack[]): { pack: number; elements: number }[] {
  return packs
    .map((pack, index) => {
      const end = Math.min(offset + length, pack.offset + pack.length);
      return { pack: index, elements: end - Math.max(offset, pack.offset) };
    })
    .filter(({ elements }) => elements > 0);
}

function cutChunks(
  packs: readonly Pack[],
  segments: readonly FlatSegment[],
  weights: Float32Array,
  slots: readonly Float32Array[],
  gradients: readonly Float32Array[],
): Chunk[] {
  const ranges = decayRanges(segments, weights.length);
  return packs.flatMap(({ offset, length }, pack) =>
    Array.from({ length: Math.ceil(length / CHUNK) }, (_, i) => {
      const from = offset + i * CHUNK;
      const to = Math.min(from + CHUNK, offset + length);
      const pieces = ranges
        .filter((range) => range.from < to && range.to > from)
        .map((range) => {
          const [begin, end] = [Math.max(from, range.from), Math.min(to, range.to)];
          return {
            weights: weights.subarray(begin, end),
            slots: slots.map((slot) => slot.subarray(begin, end)),
            gradients: gradients.map((gradient) => gradient.subarray(begin, end)),
            weightDecay: range.weightDecay,
            factor: 1,
          };
        });
      return { pack, gradients: gradients.map((gradient) => gradient.subarray(from, to)), pieces };
    }),
  );
}

/** The whole length in runs of equal weight decay; between segments there is none. */
function decayRanges(segments: readonly FlatSegment[], total: number) {
  const ranges: { from: number; to: number; weightDecay: number }[] = [];
  const append = (to: number, weightDecay: number) => {
    const last = ranges.at(-1);
    const from = last?.to ?? 0;
    if (to <= from) return;
    if (last?.weightDecay === weightDecay) last.to = to;
    else ranges.push({ from, to, weightDecay });
  };
  for (const { offset, length, weightDecay = 0 } of segments.toSorted((a, b) => a.offset - b.offset)) {
    append(offset, 0);
    append(offset + length, weightDecay);
  }
  append(total, 0);
  return ranges;
}
