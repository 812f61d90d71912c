/**
 * What ran, in order, so that it can run again without TensorFlow.js: primitives bound to their buffers, and the host's own
 * small loops. The list is the step; everything that made it (the tape, shapes, layouts, caches) is paid for once.
 *
 * Replaying is right only if the host decided nothing by what was in the data. So code that reads data says which it is: a
 * loop that is part of the step ({@link Recorder.host}), a verdict on the data that is found anew in every replay
 * ({@link Recorder.judge}) and what is done if it is another one ({@link Recorder.either}), or anything else, which makes the
 * recording useless ({@link Recorder.refuse}).
 */
import type { MemoryPool, PooledBuffer } from '../memory/pool.js';
import type { StepListener, Verdict } from '../memory/step-listener.js';
import type { TensorStorage } from '../memory/storage.js';
import type { BoundPrimitive, PrimitiveRecorder, Runnable, Scratchpad } from '../primitive.js';

/** What is done if a verdict holds, as it did while it was recorded, and otherwise. */
class Branch {
  constructor(
    readonly verdict: Verdict,
    readonly usual: readonly Operation[],
    readonly otherwise: () => void,
  ) {}
}

/** One thing that a replay does. */
type Operation = BoundPrimitive | (() => void) | Branch;

/** Listens while a step runs. */
export class Recorder implements StepListener, PrimitiveRecorder {
  /** Why what is recorded cannot be replayed; null if it can. */
  refusal: string | null = null;
  #operations: Operation[] = [];
  readonly #trace: unknown[] = [];
  readonly #constants: ArrayLike<number>[] = [];
  readonly #kept = new Set<unknown>();
  /** Data that was there before the recording began and that it reads, and where it lay. */
  readonly #externals = new Map<TensorStorage, number>();

  /** Of data, in other layouts: by storage and layout. */
  readonly #copies = new Map<object, Map<object, PooledBuffer>>();
  /** What copies lie in. It is nobody else's until {@link releaseCopies}. */
  readonly #copied: PooledBuffer[] = [];
  /** Branches that are being recorded. */
  #depth = 0;

  /** @param keeps whether to bind primitives to their buffers; a rehearsal only compares. */
  constructor(private readonly keeps: boolean) {}

  primitive(primitive: Runnable, addresses: readonly number[]): void {
    this.#trace.push(primitive);
    if (this.keeps) this.#operations.push(primitive.bind(addresses));
  }

  /** A loop over memory that stays where it is. It has run. `constants` are what it was made with. */
  host(run: () => void, constants: readonly (number | string)[]): void {
    this.#trace.push(constants.join());
    if (this.keeps) this.#operations.push(run);
  }

  /** Data was judged. A replay judges its own. */
  judge(verdict: { holds: boolean }, find: () => boolean): void {
    this.#trace.push(verdict.holds);
    if (!this.keeps) return;
    this.#operations.push(() => {
      verdict.holds = find();
    });
  }

  /**
   * Runs `usual`, because the verdict holds. A replay in which it does not runs `otherwise`, which must leave the same results
   * in the same memory.
   */
  either<T>(verdict: Verdict, usual: () => T, otherwise: () => void): T {
    const before = this.#operations;
    const inner: Operation[] = [];
    this.#operations = inner;
    this.#depth++;
    try {
      return usual();
    } finally {
      this.#depth--;
      this.#operations = before;
      if (this.keeps) before.push(new Branch(verdict, inner, otherwise));
    }
  }

  /** While a kernel of TensorFlow.js runs: whether it has read anything. */
  #foreign: { hasRead: boolean } | null = null;

  /** Whether a kernel of TensorFlow.js runs, which reads and makes values as it likes. */
  get isForeign(): boolean {
    return this.#foreign !== null;
  }

  /** Runs a kernel of TensorFlow.js that the caller records as a whole. `hasRead` says whether the result depends on data. */
  foreign<T>(run: () => T): { readonly result: T; readonly hasRead: boolean } {
    const foreign = { hasRead: false };
    this.#foreign = foreign;
    try {
      return { result: run(), ...foreign };
    } finally {
      this.#foreign = null;
    }
  }

  /** Values were handed to code that knows nothing of recordings. */
  read(): void {
    if (this.#foreign) this.#foreign.hasRead = true;
    else this.refuse('values were read for a kernel of TensorFlow.js');
  }

  /** Values that the host made, which a replay finds where they are. */
  constant(values: unknown): void {
    if (this.#foreign) return;
    if (ArrayBuffer.isView(values) || Array.isArray(values)) this.#constants.push(values as ArrayLike<number>);
  }

  /** Memory of the host's whose address native code has. */
  keep(memory: unknown): void {
    this.#kept.add(memory);
  }

  /** Data from before: it must still be there at a replay. */
  external(storage: TensorStorage, address: number): void {
    if (!this.#externals.has(storage)) this.#externals.set(storage, address);
  }

  /** Address of data in a layout, from {@link keepCopy}; null if they are not there so, or were changed since. */
  copyOf(storage: object, layout: object): number | null {
    return this.#copies.get(storage)?.get(layout)?.address ?? null;
  }

  /**
   * Keeps data that were converted to a layout, for who wants them so later in the step: a replay converts once, too.
   * @returns false where a replay might not come by; then the buffer is still the caller's.
   */
  keepCopy(storage: object, layout: object, buffer: PooledBuffer): boolean {
    if (this.#depth > 0) return false;
    const copies = this.#copies.get(storage) ?? new Map<object, PooledBuffer>();
    this.#copies.set(storage, copies.set(layout, buffer));
    this.#copied.push(buffer);
    return true;
  }

  /** Data are about to be written over where they lie. */
  changed(storage: object): void {
    this.#copies.delete(storage);
  }

  /** When the step is over, and whatever a replay needs has its memory. */
  releaseCopies(pool: MemoryPool): void {
    this.#copies.clear();
    for (const buffer of this.#copied.splice(0)) pool.release(buffer);
  }

  /** Which kernel runs, for the message; null between kernels. */
  kernel: string | null = null;

  /** @param what was done that a replay cannot know of. */
  refuse(what: string): void {
    this.refusal ??= this.kernel === null ? what : `${what} by kernel '${this.kernel}'`;
  }

  /** Whether two recordings are of the same step: the same primitives in the same order, the same constants. */
  isLike(other: Recorder): boolean {
    const [a, b] = [this.#trace, other.#trace];
    if (a.length !== b.length || a.some((entry, i) => entry !== b[i])) return false;
    const [c, d] = [this.#constants, other.#constants];
    return c.length === d.length && c.every((values, i) => areEqual(values, d[i] as ArrayLike<number>));
  }

  /** Frees what was recorded, if it is not to be finished. */
  discard(): void {
    release(this.#operations);
  }

  /** What was recorded, ready to run. The recorder must not be told anything afterwards. */
  finish(scratchpad: Scratchpad): Recording {
    return new Recording(this.#operations, this.#externals, this.#kept, scratchpad);
  }
}

function release(operations: readonly Operation[]): void {
  for (const primitive of primitivesOf(operations)) primitive.destroy();
}

/** The primitives among them, those of branches too. */
function* primitivesOf(operations: readonly Operation[]): Generator<BoundPrimitive> {
  for (const operation of operations) {
    if (operation instanceof Branch) yield* primitivesOf(operation.usual);
    else if (typeof operation !== 'function') yield operation;
  }
}

function countOf(operations: readonly Operation[]): number {
  return operations.reduce((sum, operation) => sum + (operation instanceof Branch ? countOf(operation.usual) : 1), 0);
}

function perform(operations: readonly Operation[]): void {
  for (let i = 0; i < operations.length; i++) {
    const operation = operations[i] as Operation;
    if (typeof operation === 'function') operation();
    else if (!(operation instanceof Branch)) operation.run();
    else if (operation.verdict.holds) perform(operation.usual);
    else operation.otherwise();
  }
}

function areEqual(a: ArrayLike<unknown>, b: ArrayLike<unknown>): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return false;
  return true;
}

/** A step that can run again. Memory that it uses belongs to it until {@link dispose}. */
export class Recording {
  readonly #scratch: PooledBuffer | null;
  #isDisposed = false;

  constructor(
    private readonly operations: readonly Operation[],
    private readonly externals: ReadonlyMap<TensorStorage, number>,
    /** Referenced because native code has their addresses. */
    readonly kept: ReadonlySet<unknown>,
    private readonly scratchpad: Scratchpad,
  ) {
    let bytes = 0;
    for (const { scratchBytes } of primitivesOf(operations)) bytes = Math.max(bytes, scratchBytes);
    // The thread's serves all: primitives run one after another, and leave nothing in it for each other.
    this.#scratch = bytes > 0 ? scratchpad.hold(bytes) : null;
    if (this.#scratch === null) return;
    for (const primitive of primitivesOf(operations)) primitive.useScratchpad(this.#scratch.address);
  }

  /** Operations of a replay: primitives and loops. */
  get length(): number {
    return countOf(this.operations);
  }

  /** Whether it depends on data from before. */
  reads(storage: TensorStorage): boolean {
    return this.externals.has(storage);
  }

  /** Whether everything that it reads still lies where it lay. */
  get isValid(): boolean {
    if (this.#isDisposed) return false;
    for (const [storage, address] of this.externals) {
      if (!storage.isAlive || storage.address !== address) return false;
    }
    return true;
  }

  replay(): void {
    perform(this.operations);
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    release(this.operations);
    if (this.#scratch) this.scratchpad.drop(this.#scratch);
  }
}
