/**
 * FlatReducer: the Reducer of replicas that share memory. A step's gradients are summed and applied where they lie.
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
import type { CrossDeviceOps } from '../cross-device-ops/cross-device-ops.js';
import { type Pack, splitIntoPacks } from '../cross-device-ops/packing.js';
import { ShardedAllReduce } from '../cross-device-ops/sharded-all-reduce.js';
import type { FlatMemory } from '../simd/flat-memory.js';
import type { FlatKernels } from '../simd/kernels.js';
import { plainKernels } from '../simd/plain-kernels.js';
import { activeTrace } from '../trace/trace.js';
import { flatOptimizer } from './optimizers/create.js';
import type { FlatOptimizer } from './optimizers/optimizer.js';
import { type CutPiece, clipSum, cutPieces, cutRuns, type Run, updatePieces } from './pieces.js';
import type { FinishResult, FlatLayout, FlatSegment, Reducer, ReducerUpdate } from './reducer.js';
import { clipBound, UpdateFactors } from './update-factors.js';

export interface FlatReducerOptions extends FlatLayout {
  readonly communicator: Communicator;
  /** Where the layout's arrays lie; words for coordination are allocated there too. */
  readonly memory: FlatMemory;
  /** Algorithm and number of packs. Default: ShardedAllReduce with `numPacks`. */
  readonly crossDeviceOps?: CrossDeviceOps;
  /** Used if no `crossDeviceOps` are given. Default 1. */
  readonly numPacks?: number;
  /** Gradients are divided by it (and by the number of replicas) if an update says nothing else. Default 1. */
  readonly lossScale?: number;
  /** Runs what waits for other replicas, as one collective operation. Default: runs it. */
  readonly counted?: <T>(collective: () => T) => T;
  /** Steps, and passes over the chunks, that it counts as made: for tests of what happens after 2³² of them. Default 0. */
  readonly countFrom?: number;
}

/** An update, with what is usual left out: mean, no look at the gradients before, apply. */
export type UpdateOptions = Pick<ReducerUpdate, 'learningRate'> & Partial<ReducerUpdate>;

/** Numbers that {@link FlatReducer.meet} exchanges at most. */
export const MAX_MEET_VALUES = 8;

/** 64 KiB of each array: several arrays' chunks fit a second-level cache. */
const CHUNK = 16_384;
const SLICE_MS = 20;
const SPIN_MS = 0.1;
/** Longest wait for another replica to finish a chunk that it has begun; it takes microseconds. */
const CHUNK_MS = 30_000;

/** A chunk's word is 4·pass + state modulo 2³², so that a new pass needs no clearing; all that is less is of a pass before. */
const State = { summing: 1, summed: 2, taken: 3 } as const;

interface Chunk {
  readonly pack: number;
  readonly gradients: readonly Float32Array[];
  readonly pieces: readonly CutPiece[];
}

/** See the file's head. */
export class FlatReducer implements Reducer {
  /** Where {@link finishWithSum} leaves the sum over replicas; the same memory on all. */
  readonly reduced: Float32Array;
  readonly packs: readonly Pack[];
  readonly #communicator: Communicator;
  readonly #ops: CrossDeviceOps;
  readonly #options: FlatReducerOptions;
  readonly #kernels: FlatKernels;
  readonly #optimizer: FlatOptimizer;
  readonly #factors: UpdateFactors;
  readonly #counted: <T>(collective: () => T) => T;
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
  #count = 0;
  #steps: number;
  #pass: number;
  #hasMet = false;
  #meetValues = new Float64Array(0);
  #chunksSummedEarly = 0;

  /** Collective: allocates, and compares what was allocated. */
  constructor(options: FlatReducerOptions) {
    const { communicator, memory, segments, weights, slots, gradients, optimizer } = options;
    this.#options = options;
    this.#communicator = communicator;
    this.#counted = options.counted ?? ((collective) => collective());
    this.#steps = options.countFrom ?? 0;
    this.#pass = options.countFrom ?? 0;
    this.#ops = options.crossDeviceOps ?? new ShardedAllReduce(options.numPacks ?? 1);
    checkLengths(options);
    this.packs = splitIntoPacks(weights.length, this.#ops.numPacks);
    this.reduced = gradients[0] as Float32Array;
    const arrays = [weights, ...Object.values(slots), ...gradients];
    this.#kernels = memory.kernels.accepts(arrays) ? memory.kernels : plainKernels;

    this.#optimizer = flatOptimizer(optimizer);
    const own = this.#optimizer.slots.map((name) => slots[name] as Float32Array);
    this.#factors = new UpdateFactors({
      ...{ segments, weights, sum: this.reduced, clip: options.clip },
      optimizer: this.#optimizer,
      kernels: this.#kernels,
      group: communicator,
      allocateDoubles: (length) => memory.allocateDoubles(length),
    });
    const runs = cutRuns(segments, weights.length, this.#optimizer);
    this.#chunks = cutChunks(this.packs, runs, { weights, slots: own, gradients });
    this.#words = memory.allocateWords(this.#chunks.length + this.packs.length + 1);
    this.#values = memory.allocateDoubles(2 * communicator.size * MAX_MEET_VALUES);

    this.#shares = segments.map((segment) => sharesOf(segment, this.packs));
    this.#packElements = new Int32Array(this.packs.length);
    for (const share of this.#shares.flat()) this.#packElements[share.pack]! += share.elements;
    this.#missing = this.#packElements.slice();
    this.#isReady = new Uint8Array(segments.length);
    if (communicator.rank === 0) {
      this.#words.fill(4 * this.#pass, 0, this.#chunks.length);
      this.#words.fill(Math.imul(this.#steps, communicator.size), this.#chunks.length, this.#words.length - 1);
    }
    this.#counted(() => communicator.barrier());
  }

  get count(): number {
    return this.#count;
  }

  restore({ updates = this.#count }: Readonly<Record<string, number>>): void {
    this.#count = updates;
  }

  get scalars(): Readonly<Record<string, number>> {
    return { updates: this.#count };
  }

  /** There is one copy of the weights: waits until it is filled in. */
  share(): void {
    this.#counted(() => this.#communicator.barrier());
  }

  begin(): void {}

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
   * numbers (a loss, say). Part of every step; {@link finish} does it if it was not called. Collective.
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
    this.#counted(() => this.#waitForAll());
    this.#hasMet = true;
    this.#meetValues = new Float64Array(size * values.length);
    for (let other = 0; other < size; other++) {
      const from = at + other * MAX_MEET_VALUES;
      this.#meetValues.set(this.#values.subarray(from, from + values.length), other * values.length);
    }
    return this.#meetValues;
  }

  #waitForAll(): void {
    const work = this.#communicator.allReduceAsync(Int32Array.of(1), 'max');
    while (!work.test()) {
      const seen = this.#events;
      if (this.#sumFullPacks(() => work.test())) continue;
      if (this.packs.every((_, pack) => this.#isFull(pack))) work.wait();
      else this.#sleepAfter(seen);
    }
  }

  abandon(): void {
    // Nobody sums a chunk any more.
    this.#counted(() => this.#communicator.barrier());
    this.#pass++;
    this.#nextStep();
  }

  /** Sums what is not summed and updates weights and slots. On return they are new on every replica. Collective. */
  finish(options: UpdateOptions): FinishResult {
    if (!this.#hasMet) this.meet();
    return this.#counted(() => this.#finish(options));
  }

  #finish(options: UpdateOptions): FinishResult {
    const { apply = true, skipNonFinite = false } = options;
    const isChecked = skipNonFinite || !apply || this.#factors.needsSums;
    if (!this.#ops.sumsByChunks || isChecked) {
      const finite = this.#reduce(isChecked);
      this.#nextStep();
      return apply && (finite || !isChecked) ? this.update(options) : { finite, updated: false, updateMs: 0 };
    }
    const began = performance.now();
    const finite = this.#agree(this.#updateChunks(options, this.#scaleOf(options), null));
    this.#nextStep();
    return { finite, updated: true, updateMs: performance.now() - began };
  }

  /** Sums only: the result is in {@link reduced} on return. For gradients that go on elsewhere. Collective. */
  finishWithSum(): FinishResult {
    if (!this.#hasMet) this.meet();
    return this.#counted(() => {
      const finite = this.#reduce(true);
      this.#nextStep();
      return { finite, updated: false, updateMs: 0 };
    });
  }

  /**
   * After {@link finishWithSum}: updates weights and slots from {@link reduced}, which one replica may have changed meanwhile (then
   * a barrier belongs in between). Collective.
   */
  update(options: UpdateOptions): FinishResult {
    const began = performance.now();
    const { gradientScale, factors } = this.#factors.of(this.#scaleOf(options));
    const finite = this.#agree(this.#updateChunks(options, gradientScale, factors, true));
    return { finite, updated: true, updateMs: performance.now() - began };
  }

  /** Without effect, as {@link leave}: weights here are what counts. {@link push} waits for the other replicas alone. */
  pull(): void {}
  push(): void {
    this.#counted(() => this.#communicator.barrier());
  }
  leave(): null {
    return null;
  }

  #scaleOf({ gradientScale }: UpdateOptions): number {
    const { lossScale = 1, gradients } = this.#options;
    return gradientScale ?? 1 / (gradients.length * lossScale);
  }

  /** The sum, in `reduced`, everywhere. @returns whether it is finite; true unless `check`. */
  #reduce(check: boolean): boolean {
    const { rank, size } = this.#communicator;
    let finite = true;
    if (this.#ops.sumsByChunks) {
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
    return this.#agree(finite);
  }

  #updateChunks(
    { learningRate }: UpdateOptions,
    gradientScale: number,
    factors: Float64Array | null,
    onlyReduced = false,
  ): boolean {
    const step = { learningRate, gradientScale, count: ++this.#count };
    const bound = clipBound(this.#options.clip, gradientScale);
    let finite = true;
    this.#takeChunks(({ gradients, pieces }, wasSummed) => {
      let isSummed = wasSummed || onlyReduced;
      if (bound !== null) {
        const sum = gradients[0] as Float32Array;
        if (!isSummed && gradients.length > 1) this.#kernels.sum(sum, gradients);
        finite = clipSum(this.#kernels, sum, bound) && finite;
        isSummed = true;
      }
      finite = updatePieces(this.#optimizer, this.#kernels, pieces, step, factors, isSummed) && finite;
    });
    return finite;
  }

  /** Takes chunks until all are taken, by this replica or another: first its own share, then what others left. */
  #takeChunks(action: (chunk: Chunk, isSummed: boolean) => void): void {
    const count = this.#chunks.length;
    const first = Math.floor((count * this.#communicator.rank) / this.#communicator.size);
    const beingSummed: number[] = [];
    const tag = this.#tag;
    const trace = activeTrace();
    const take = (index: number) => {
      const found = Atomics.load(this.#words, index);
      const state = (found - tag) | 0;
      if (state === State.taken) return;
      if (state === State.summing) beingSummed.push(index);
      else if (Atomics.compareExchange(this.#words, index, found, (tag + State.taken) | 0) === found) {
        const chunk = this.#chunks[index] as Chunk;
        const began = trace ? performance.now() : 0;
        action(chunk, state === State.summed);
        trace?.extend(`update pack ${chunk.pack}`, 'pack', began, { pack: chunk.pack });
      } else take(index);
    };
    for (let i = 0; i < count; i++) take((first + i) % count);
    const deadline = performance.now() + CHUNK_MS;
    for (let index = beingSummed.shift(); index !== undefined; index = beingSummed.shift()) {
      if (performance.now() > deadline) this.#abandon();
      Atomics.wait(this.#words, index, (tag + State.summing) | 0, 1);
      take(index);
    }
    this.#pass++;
  }

  /** Sums chunks of full packs that nobody has begun, until `isOver`. @returns whether there were any. */
  #sumFullPacks(isOver: () => boolean): boolean {
    if (!this.#ops.sumsByChunks || this.#communicator.size === 1) return false;
    const tag = this.#tag;
    const trace = activeTrace();
    let found = false;
    for (const [index, { pack, gradients }] of this.#chunks.entries()) {
      if (!this.#isFull(pack)) continue;
      const word = Atomics.load(this.#words, index);
      if (((word - tag) | 0) > 0) continue;
      if (Atomics.compareExchange(this.#words, index, word, (tag + State.summing) | 0) !== word) continue;
      const began = trace ? performance.now() : 0;
      this.#kernels.sum(gradients[0] as Float32Array, gradients);
      trace?.extend(`reduce pack ${pack}`, 'pack', began, { pack });
      Atomics.store(this.#words, index, (tag + State.summed) | 0);
      Atomics.notify(this.#words, index);
      this.#chunksSummedEarly++;
      found = true;
      if (isOver()) break;
    }
    return found;
  }

  /** This replica has filled a pack. The last one to do so wakes those that wait. */
  #fill(pack: number): void {
    activeTrace()?.fill(pack);
    const at = this.#chunks.length + pack;
    const filled = (Atomics.add(this.#words, at, 1) + 1) | 0;
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

  /** 4·pass, as it stands in a word. */
  get #tag(): number {
    return Math.imul(4, this.#pass);
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

function cutChunks(packs: readonly Pack[], runs: readonly Run[], arrays: Parameters<typeof cutPieces>[3]): Chunk[] {
  return packs.flatMap(({ offset, length }, pack) =>
    Array.from({ length: Math.ceil(length / CHUNK) }, (_, i) => {
      const from = offset + i * CHUNK;
      const to = Math.min(from + CHUNK, offset + length);
      const gradients = arrays.gradients.map((gradient) => gradient.subarray(from, to));
      return { pack, gradients, pieces: cutPieces(runs, from, to, arrays) };
    }),
  );
}
