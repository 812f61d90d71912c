/**
 * What stands behind a tensor's data id: values in plain row-major order, or a native buffer in a layout of oneDNN's
 * choice, until somebody asks for plain values.
 *
 * TensorFlow.js' `cpu` kernels read `storage.values`; the getter gives them plain values whatever the layout was. A view
 * that was handed out that way is never recycled, because the pool cannot know how long it is held.
 */
import type { backend_util, DataType, TensorInfo } from '@tensorflow/tfjs-core';
import koffi from 'koffi';
import type { MemoryDescriptor } from '../ffi/dnnl.js';
import type { MemoryPool, PooledBuffer } from './pool.js';
import type { StepListener, Verdict } from './step-listener.js';

type NumericArray = Float32Array | Int32Array | Uint8Array;

/** What data needs of its thread; the runtime is it. */
export interface StorageHost {
  /** Moves elements from one layout to another, native address to native address. */
  reorder(from: number, fromLayout: MemoryDescriptor, to: number, toLayout: MemoryDescriptor): void;
  /** Of the step that is being recorded; null outside of one. */
  readonly recorder: StepListener | null;
  /** Runs a loop over memory that stays where it is, and tells the recorder. */
  host(run: () => void): void;
  /** Runs what is no part of the step that is being recorded. */
  outside(run: () => void): void;
}

/** Where the elements lie, and where they would lie in the tensor's own row-major order. Both describe the same tensor. */
export interface NativeLayout {
  readonly current: MemoryDescriptor;
  readonly plain: MemoryDescriptor;
}

/** Data behind one or more tensors. `refCount` counts them, as TensorFlow.js' engine expects. */
export class TensorStorage {
  refCount = 1;
  complexTensorInfos?: { real: TensorInfo; imag: TensorInfo };
  /** Layout of the native buffer; null is plain row-major order of the tensor's shape. */
  layout: NativeLayout | null = null;
  /** Memory that lives and dies with this data, such as the bit mask of a fused ReLU; what it is, and in which order. */
  companion: {
    readonly kind: string;
    readonly buffer: PooledBuffer;
    readonly layout?: MemoryDescriptor;
    readonly verdict?: Verdict;
  } | null = null;
  /** Whether all elements are finite, if somebody has found out; null says nothing. Lets ReLU be fused into what would hide a NaN. */
  finite: Verdict | null = null;
  /** Computes the data, if nobody has needed it yet. See {@link defer}. */
  #pending: { compute(): void; readonly reads: readonly TensorStorage[]; readonly recipe: object | null } | null = null;
  /** Deferred computations that will read this data; it outlives its tensors until they are done. */
  #readers = 0;
  /** The one computation that all of them are of; null if they are of several. */
  #reader: object | null = null;
  #isReleased = false;
  #values: backend_util.BackendValues | null;
  #buffer: PooledBuffer | null = null;
  #handedOut = false;
  /** Whether the memory is another's, who gives it back. */
  #isLent = false;
  #address = 0;
  #length = 0;
  /** The recording during which it was made; null outside of one. */
  readonly #recorder: StepListener | null;

  constructor(
    readonly dtype: DataType,
    private readonly pool: MemoryPool,
    private readonly owner: StorageHost,
    values: backend_util.BackendValues | null,
  ) {
    this.#values = values;
    this.#recorder = owner.recorder;
    this.#recorder?.constant(values);
  }

  /** Storage in pooled memory: `length` elements in plain order, or the layout's bytes. */
  static pooled(
    dtype: DataType,
    pool: MemoryPool,
    host: StorageHost,
    length: number,
    layout: NativeLayout | null,
  ): TensorStorage {
    const storage = new TensorStorage(dtype, pool, host, null);
    storage.place(length, layout);
    return storage;
  }

  /**
   * Plain values, for code that keeps what it gets. The memory leaves the pool. Of memory that other threads write to, the values as
   * they are now: a kernel of TensorFlow.js may make a tensor of a part of what it gets.
   */
  get values(): backend_util.BackendValues {
    this.resolve();
    this.owner.recorder?.read();
    const values = this.view();
    if (this.isShared) return (values as NumericArray).slice();
    this.#handedOut = true;
    return values;
  }

  set values(values: backend_util.BackendValues) {
    this.#freeMemory();
    this.#values = values;
    this.changed();
    this.#handedOut = false;
    this.#address = 0;
  }

  /** Forgets what was found out about the data: they are other ones from now on. */
  changed(): void {
    this.finite = null;
    this.owner.recorder?.changed(this);
  }

  /** Plain values, for code that is done with them when it returns. The memory stays pooled. */
  peek(): backend_util.BackendValues {
    this.owner.recorder?.refuse('values were read');
    return this.view();
  }

  /** As {@link peek}, for code that says so to the recorder: it runs in {@link StorageHost.host}, or decides. */
  view(): backend_util.BackendValues {
    this.makePlain();
    if (this.#values === null) this.#values = view(this.#buffer as PooledBuffer, this.dtype, this.#length);
    // Asking for the address tells the recorder.
    if (this.owner.recorder !== null) void this.address;
    return this.#values;
  }

  /** As {@link view}, but `length` f32 elements in the order in which they lie, whatever the layout. */
  native(length: number): Float32Array {
    if (this.#pending !== null) this.resolve();
    if (this.layout === null) return this.view() as Float32Array;
    if (this.owner.recorder !== null) void this.address;
    const { memory, byteOffset } = this.#buffer as PooledBuffer;
    return new Float32Array(memory, byteOffset, length);
  }

  /** Whether plain values lie in the array that the dtype has; some kernels of TensorFlow.js only relabel others. */
  get isTyped(): boolean {
    return this.#values === null || typed(this.#values, this.dtype) === (this.#values as unknown);
  }

  /** Address of the first element, whatever the layout. */
  get address(): number {
    if (this.#pending !== null) this.resolve();
    if (this.#address === 0) {
      if (this.#buffer) this.#address = this.#buffer.address;
      else {
        this.#values = typed(this.#values, this.dtype);
        this.#address = Number(koffi.address(this.#values));
      }
    }
    const { recorder } = this.owner;
    if (recorder !== null) {
      if (this.#recorder !== recorder) recorder.external(this, this.#address);
      else if (this.#buffer === null) recorder.keep(this.#values);
    }
    return this.#address;
  }

  /**
   * Postpones computing this data until somebody asks for it; what is disposed unasked costs nothing. TensorFlow.js computes
   * some gradients that nobody wants, such as that of the input image, which is the slowest kernel of a ResNet-50.
   * @param reads data that the computation needs; kept until then, even if its tensors are disposed.
   * @param recipe what the computation is, for a kernel that can do it and its own work in one primitive.
   */
  defer(reads: readonly TensorStorage[], compute: () => void, recipe: object | null = null): void {
    this.#pending = { reads, compute, recipe };
    const reader = recipe ?? this.#pending;
    for (const storage of reads) {
      storage.#reader = storage.#readers === 0 || storage.#reader === reader ? reader : null;
      storage.#readers++;
    }
  }

  /** The deferred computation that runs. */
  static #running: object | null = null;

  /** Computes what was deferred. Every access to the data goes through here first. */
  resolve(): void {
    if (this.#pending === null) return;
    const pending = this.#pending;
    this.#pending = null;
    const outer = TensorStorage.#running;
    TensorStorage.#running = pending.recipe ?? pending;
    try {
      // What was put off before a recording began is not what the recording should repeat.
      if (this.owner.recorder !== null && this.owner.recorder !== this.#recorder) this.owner.outside(pending.compute);
      else pending.compute();
    } catch (error) {
      // Out of memory: whoever frees some may ask again.
      this.#pending = pending;
      throw error;
    } finally {
      TensorStorage.#running = outer;
    }
    for (const storage of pending.reads) storage.#release();
  }

  /** What the data will be made of; null once it is there. */
  get recipe(): object | null {
    return this.#pending?.recipe ?? null;
  }

  /** Takes over everything that `other` holds, which is empty afterwards. What was deferred here is settled by that. */
  adopt(other: TensorStorage): void {
    other.resolve();
    const { reads } = this.#pending ?? { reads: [] };
    this.#pending = null;
    this.#values = other.#values;
    this.#buffer = other.#buffer;
    this.#handedOut = other.#handedOut;
    this.#address = other.#address;
    this.#length = other.#length;
    this.layout = other.layout;
    this.companion = other.companion;
    this.finite = other.finite;
    other.#buffer = null;
    other.#values = null;
    other.companion = null;
    other.layout = null;
    for (const storage of reads) storage.#release();
  }

  #release(): void {
    this.#readers--;
    if (!this.isAlive) this.#drop();
  }

  /** True while a tensor or a deferred computation needs the data. */
  get isAlive(): boolean {
    return !this.#isReleased || this.#readers > 0;
  }

  /** Takes memory for the layout that a deferred computation settles on. */
  place(length: number, layout: NativeLayout | null): void {
    this.#buffer = this.pool.acquire(
      layout ? layout.current.byteLength : Math.max(1, length) * bytesPerElement(this.dtype),
    );
    this.#length = length;
    this.layout = layout;
  }

  /** Converts to plain row-major order, in new memory, if it is not there yet. */
  makePlain(): void {
    if (this.#pending !== null) this.resolve();
    if (this.layout === null) return;
    const { current, plain } = this.layout;
    const native = this.#buffer as PooledBuffer;
    const buffer = this.pool.acquire(plain.byteLength);
    this.owner.reorder(native.address, current, buffer.address, plain);
    this.#buffer = buffer;
    if (!this.#isLent) this.pool.release(native);
    this.#isLent = false;
    this.layout = null;
    this.#address = 0;
  }

  /**
   * Where the data lies now, for whoever comes back to that memory when this storage may have other memory, or be gone: each
   * call gives a storage over it that never gives the memory back.
   */
  lend(): () => TensorStorage {
    this.resolve();
    const { layout } = this;
    const [values, buffer, length] = [this.#values, this.#buffer, this.#length];
    return () => {
      const loan = new TensorStorage(this.dtype, this.pool, this.owner, null);
      loan.layout = layout;
      loan.#values = values;
      loan.#buffer = buffer;
      loan.#length = length;
      loan.#isLent = true;
      return loan;
    };
  }

  /** Copies the elements, as f32 in row-major order, to `target`, without memory of its own. */
  copyTo(target: Float32Array): void {
    this.resolve();
    if (this.layout) {
      const { current, plain } = this.layout;
      this.owner.recorder?.keep(target);
      this.owner.reorder(this.address, current, Number(koffi.address(target)), plain);
    } else {
      const values = this.view() as NumericArray;
      this.owner.host(() => target.set(values));
    }
  }

  /** True if the memory came from the pool, so that a reader must not keep a view of it. */
  get isPooled(): boolean {
    return this.#buffer !== null;
  }

  /** True if it is a view of memory that other threads see, such as the weights that replicas share. */
  get isShared(): boolean {
    const { buffer } = (this.#values ?? {}) as { buffer?: ArrayBufferLike };
    return this.#buffer === null && buffer instanceof SharedArrayBuffer;
  }

  /**
   * For shared memory that is about to be written: if anybody but `owners` tensors has this data, it gets memory of its own, with the
   * values as they are now.
   * @returns whether it did; the owners have no view then, either.
   */
  detach(owners: number): boolean {
    this.resolve();
    if (!this.isShared || (this.refCount <= owners && this.#readers === 0)) return false;
    this.values = (this.#values as NumericArray).slice();
    return true;
  }

  /**
   * True if one tensor alone has this data and nobody else can see it: no other tensor, no view handed out, no deferred
   * computation. Only then it may be changed in place.
   */
  get isExclusive(): boolean {
    return this.refCount === 1 && this.isPooled && !this.#handedOut && this.#readers === 0 && this.#pending === null;
  }

  /**
   * Gives its memory to a result, for a primitive that works in place: if nobody will read this data but the deferred computation
   * that runs, and if the result lies as it does. It is empty afterwards, so whoever asks has its address already and needs no more
   * memory: a computation that fails is tried again.
   * @returns the result's storage, which holds this data still; null if there is a reader left, or the result lies otherwise.
   */
  bequeath(length: number, layout: NativeLayout | null): TensorStorage | null {
    const running = TensorStorage.#running;
    const isLast = this.#isReleased && running !== null && this.#readers > 0 && this.#reader === running;
    if (!isLast || this.#pending !== null || !this.isPooled || this.#isLent || this.#handedOut) return null;
    if (this.layout?.current !== layout?.current || this.layout?.plain !== layout?.plain || this.#length !== length)
      return null;
    const heir = new TensorStorage(this.dtype, this.pool, this.owner, null);
    heir.#buffer = this.#buffer;
    heir.#length = length;
    heir.layout = layout;
    this.#buffer = null;
    this.#values = null;
    this.#address = 0;
    return heir;
  }

  /** Gives pooled memory back. Called once, when the last tensor is gone. */
  releaseMemory(): void {
    this.#isReleased = true;
    if (!this.isAlive) this.#drop();
  }

  #drop(): void {
    const pending = this.#pending;
    this.#pending = null;
    this.#freeMemory();
    if (pending) for (const storage of pending.reads) storage.#release();
  }

  #freeMemory(): void {
    if (this.#buffer) {
      if (this.#isLent) this.#isLent = false;
      else if (this.#handedOut) this.pool.disown(this.#buffer);
      else this.pool.release(this.#buffer);
      this.#buffer = null;
    }
    if (this.companion) {
      this.pool.release(this.companion.buffer);
      this.companion = null;
    }
    this.#values = null;
    this.layout = null;
  }
}

export function bytesPerElement(dtype: DataType): number {
  return dtype === 'bool' ? 1 : 4;
}

/** Some `cpu` kernels store plain arrays; native code needs the dtype's typed array. */
function typed(values: backend_util.BackendValues | null, dtype: DataType): NumericArray {
  const array = values as unknown as NumericArray | number[];
  if (dtype === 'int32') return array instanceof Int32Array ? array : Int32Array.from(array);
  if (dtype === 'bool') return array instanceof Uint8Array ? array : Uint8Array.from(array);
  return array instanceof Float32Array ? array : Float32Array.from(array);
}

function view(buffer: PooledBuffer, dtype: DataType, length: number): NumericArray {
  const Kind = dtype === 'int32' ? Int32Array : dtype === 'bool' ? Uint8Array : Float32Array;
  const { lastView } = buffer;
  if (lastView instanceof Kind && lastView.length === length) return lastView;
  buffer.lastView = new Kind(buffer.memory, buffer.byteOffset, length);
  return buffer.lastView;
}
