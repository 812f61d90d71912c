/**
 * The TensorFlow.js backend 'onednn': TensorFlow.js' `cpu` backend with another kind of memory behind its tensors.
 *
 * Every kernel exists from the first day (they are `cpu`'s, reading plain values); the hot ones are replaced by oneDNN, one
 * file each in kernels/. Results of those live in pooled memory, in whatever layout oneDNN likes, until somebody asks for
 * values.
 */
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';
import {
  type backend_util,
  type DataType,
  dispose,
  keep,
  type Tensor,
  type TensorInfo,
  tensor,
  util,
  type Variable,
} from '@tensorflow/tfjs-core';
import type { MemoryDescriptor } from './ffi/dnnl.js';
import type { PooledBuffer } from './memory/pool.js';
import type { Verdict } from './memory/step-listener.js';
import { type NativeLayout, TensorStorage } from './memory/storage.js';
import { type ProgramHost, StepProgram } from './recording/program.js';
import { Runtime, type RuntimeOptions } from './runtime.js';

type DataId = TensorInfo['dataId'];

/** Arithmetic of convolutional networks: everything in f32, or activations in bf16 with f32 weights and statistics. */
export type Precision = 'f32' | 'bf16';
/** What may be asked for: 'bf16_emulated' is bf16 on a CPU that has no instructions for it, slower than f32. */
export type PrecisionOption = Precision | 'bf16_emulated';

/** The CPU cannot compute in the type that was asked for. */
export class PrecisionError extends Error {
  override readonly name = 'PrecisionError';
}

export interface OneDnnBackendOptions extends RuntimeOptions {
  /** Default 'f32'. */
  readonly precision?: PrecisionOption;
}

/** How code that knows no backend reaches the memory of this one: the HostAccess of `@lockstep/distribute`, by shape. */
export interface OneDnnHostAccess {
  /** A tensor that was made of a typed array is that array. */
  readonly aliases: true;
  read(tensor: Tensor, target: Float32Array, landed?: () => void): void;
  settled(): void;
  write(variable: Variable, values: Float32Array): void;
  program(): StepProgram;
  observe(tensors: readonly Tensor[], observer: (...values: never[]) => void): void;
  detach(dataId: DataId, owners: number): boolean;
  setPrecision(precision: PrecisionOption): void;
}

/** See the file's head. `runtime` is the thread's oneDNN. */
export class OneDnnBackend extends MathBackendCPU {
  readonly runtime: Runtime;
  #precision: Precision = 'f32';
  /** Kernels that run, one within the other. */
  #attempts = 0;
  /** Data that they have allocated: the first so many. The list is never cut, because making it anew takes time. */
  readonly #made: DataId[] = [];
  #madeCount = 0;
  /** What the device module hands over; found here where no such module ran. */
  readonly hostAccess: OneDnnHostAccess = {
    aliases: true,
    read: (gradient, target, landed) => {
      if (!this.readInto(gradient.dataId, target)) target.set(gradient.dataSync() as Float32Array);
      if (landed) this.observe([], landed);
    },
    settled() {},
    write(variable, values) {
      const copy = tensor(values.slice(), variable.shape, 'float32');
      variable.assign(copy);
      dispose(copy);
    },
    program: () => this.program(),
    observe: (tensors, observer) => {
      // What nobody has made yet is looked at when the step is over.
      const isOpen = tensors.some(({ dataId }) => this.unresolved(dataId).recipe !== null);
      if (!isOpen || !this.observeAtEnd(tensors, observer)) this.observe(tensors, observer);
    },
    detach: (dataId, owners) => this.detach(dataId, owners),
    setPrecision: (precision) => {
      this.precision = precision;
    },
  };

  /** @throws OneDnnNotFoundError when the library is not installed. */
  constructor(options: OneDnnBackendOptions = {}) {
    super();
    this.runtime = new Runtime(options);
    this.precision = options.precision ?? 'f32';
  }

  /** Element type of the activations that convolutions produce. Weights, statistics and weight gradients are f32 always. */
  get precision(): Precision {
    return this.#precision;
  }

  /** @throws PrecisionError for bf16 on a CPU without such instructions, and for what it cannot even emulate. */
  set precision(wanted: PrecisionOption) {
    if (wanted !== 'f32' && wanted !== 'bf16' && wanted !== 'bf16_emulated') {
      throw new PrecisionError(
        `The backend 'onednn' does not compute in ${wanted}.\nhelp: use bf16, which has the range of f32 and needs no loss scale.`,
      );
    }
    const { hasBf16, hasAvx512 } = this.runtime;
    if (wanted === 'bf16' && !hasBf16) {
      throw new PrecisionError(
        'This CPU has no bf16 instructions (AVX-512 BF16 or AMX).\n' +
          'help: use f32 (--dtype=fp32), which is faster here; bf16_emulated (--dtype=bf16_emulated) runs bf16 anyway, slowly.',
      );
    }
    if (wanted === 'bf16_emulated' && !hasAvx512) {
      throw new PrecisionError(
        'oneDNN emulates bf16 with AVX-512, which this CPU does not have.\nhelp: use f32 (--dtype=fp32).',
      );
    }
    this.#precision = wanted === 'f32' ? 'f32' : 'bf16';
  }

  override write(values: backend_util.BackendValues, _shape: number[], dtype: DataType): DataId {
    const dataId = newDataId();
    this.#adopt(dataId, values, dtype, 1);
    return dataId;
  }

  override move(
    dataId: DataId,
    values: backend_util.BackendValues,
    _shape: number[],
    dtype: DataType,
    refCount: number,
  ): void {
    this.#adopt(dataId, values, dtype, refCount);
  }

  #adopt(dataId: DataId, values: backend_util.BackendValues, dtype: DataType, refCount: number): void {
    const storage = new TensorStorage(dtype, this.runtime.pool, this.runtime, values);
    storage.refCount = refCount;
    this.data.set(dataId, storage as never);
  }

  /** What stands behind a tensor, computed if it was not yet. */
  storage(tensor: TensorInfo | DataId): TensorStorage {
    const storage = this.unresolved(tensor);
    storage.resolve();
    return storage;
  }

  /** As {@link storage}, but leaves a deferred computation alone. */
  unresolved(tensor: TensorInfo | DataId): TensorStorage {
    const dataId = 'dataId' in tensor ? (tensor as TensorInfo).dataId : (tensor as DataId);
    return this.data.get(dataId) as unknown as TensorStorage;
  }

  /** A tensor whose data `compute` will make when it is needed, if it is; `reads` is kept until then. */
  deferred(shape: number[], reads: readonly TensorInfo[], compute: (storage: TensorStorage) => void): TensorInfo {
    const dataId = newDataId();
    const storage = new TensorStorage('float32', this.runtime.pool, this.runtime, null);
    storage.defer(
      reads.map((tensor) => this.storage(tensor)),
      () => compute(storage),
    );
    this.data.set(dataId, storage as never);
    return { dataId, shape, dtype: 'float32' };
  }

  /** A tensor whose data is yet to be made; its storage is told how by `defer`. */
  unmade(shape: readonly number[]): TensorInfo {
    const dataId = newDataId();
    this.data.set(dataId, new TensorStorage('float32', this.runtime.pool, this.runtime, null) as never);
    return { dataId, shape: [...shape], dtype: 'float32' };
  }

  /** Runs `use` with tensors that stand for data whose own tensors may be gone by now. */
  withTensors<T>(
    parts: readonly { readonly storage: TensorStorage; readonly shape: readonly number[] }[],
    use: (...tensors: TensorInfo[]) => T,
  ): T {
    const tensors = parts.map(({ storage, shape }): TensorInfo => {
      const dataId = newDataId();
      this.data.set(dataId, storage as never);
      return { dataId, shape: [...shape], dtype: storage.dtype };
    });
    try {
      return use(...tensors);
    } finally {
      for (const { dataId } of tensors) this.data.delete(dataId);
    }
  }

  /**
   * Runs `usual` if the verdict holds, otherwise `otherwise`, which computes the same results for all inputs. A step that was
   * recorded while it held does what its own data want in every replay.
   */
  either<I extends readonly TensorInfo[], R extends readonly TensorInfo[]>(
    verdict: Verdict,
    inputs: readonly [...I],
    usual: () => R,
    otherwise: (...inputs: [...I]) => R,
  ): R {
    if (!verdict.holds) return otherwise(...inputs);
    const { recorder } = this.runtime;
    if (recorder === null) return usual();
    const sources = inputs.map((tensor) => ({ lend: this.storage(tensor).lend(), shape: tensor.shape }));
    let targets: (() => TensorStorage)[] = [];
    const redo = () => {
      const loans = sources.map(({ lend, shape }) => ({ storage: lend(), shape }));
      const made = this.withTensors(loans, (...tensors) => otherwise(...(tensors as [...I])));
      for (const [i, result] of made.entries()) {
        this.#move(this.storage(result), (targets[i] as () => TensorStorage)());
        this.disposeData(result.dataId, true);
      }
      for (const { storage } of loans) storage.releaseMemory();
    };
    return recorder.either(
      verdict,
      () => {
        const results = usual();
        targets = results.map((result) => this.storage(result).lend());
        return results;
      },
      redo,
    );
  }

  /** As {@link either}, for results that had to be made to come to the verdict: they are given up if it does not hold. */
  keepIf<I extends readonly TensorInfo[], R extends readonly TensorInfo[]>(
    verdict: Verdict,
    inputs: readonly [...I],
    results: R,
    otherwise: (...inputs: [...I]) => R,
  ): R {
    if (!verdict.holds) for (const { dataId } of results) this.disposeData(dataId, true);
    return this.either(verdict, inputs, () => results, otherwise);
  }

  /** Writes the elements of one tensor where those of another lie, in its layout. */
  #move(from: TensorStorage, to: TensorStorage): void {
    const { layout } = to;
    if (layout === null) {
      (to.view() as Float32Array).set(from.view() as Float32Array);
      return;
    }
    const current = this.layoutOf(from, layout.plain);
    this.runtime.reorder(from.address, current, to.address, layout.current);
  }

  /** Gives what a kernel returned to `target`, and forgets the tensor. */
  surrender(result: TensorInfo, target: TensorStorage): void {
    target.adopt(this.unresolved(result));
    this.data.delete(result.dataId);
  }

  /** Runs a kernel. If it fails, what it had allocated is given back: out of memory must not become less memory. */
  attempt<C, T>(kernel: (call: C) => T, call: C): T {
    const before = this.#madeCount;
    this.#attempts++;
    try {
      return kernel(call);
    } catch (error) {
      for (const dataId of this.#made.slice(before, this.#madeCount)) {
        if (this.data.has(dataId)) this.disposeData(dataId, true);
      }
      throw error;
    } finally {
      this.#madeCount = before;
      this.#attempts--;
    }
  }

  /** A new tensor in pooled memory with undefined content, in the layout given or in row-major order. */
  allocate(shape: number[], dtype: DataType = 'float32', layout: NativeLayout | null = null): TensorInfo {
    const native = nativeOf(layout);
    const length = util.sizeFromShape(shape);
    return this.#enter(TensorStorage.pooled(dtype, this.runtime.pool, this.runtime, length, native), shape);
  }

  /**
   * As {@link allocate}, for a primitive that may work in place: in the memory of the first of `operands` that nobody else will read
   * and that lies alike, if there is one. Ask for their addresses before, and run the primitive next.
   */
  allocateOver(operands: readonly TensorInfo[], shape: number[], layout: NativeLayout | null): TensorInfo {
    const native = nativeOf(layout);
    for (const operand of operands) {
      const heir = this.unresolved(operand).bequeath(util.sizeFromShape(shape), native);
      if (heir) return this.#enter(heir, shape);
    }
    return this.allocate(shape, 'float32', layout);
  }

  #enter(storage: TensorStorage, shape: number[]): TensorInfo {
    const dataId = newDataId();
    this.data.set(dataId, storage as never);
    if (this.#attempts > 0) this.#made[this.#madeCount++] = dataId;
    return { dataId, shape, dtype: storage.dtype };
  }

  /** The layout in which a tensor lies now, seen as `plain` describes it; other layouts are made row-major first. */
  layoutOf(tensor: TensorInfo | TensorStorage, plain: MemoryDescriptor): MemoryDescriptor {
    const storage = tensor instanceof TensorStorage ? tensor : this.storage(tensor);
    if (storage.layout === null) return plain;
    if (storage.layout.plain === plain) return storage.layout.current;
    storage.makePlain();
    return plain;
  }

  /**
   * Runs `use` with the address of the tensor's elements in layout `wanted`, converted into temporary memory if need be.
   * `plain` describes the tensor's own row-major order.
   * @param keep takes the temporary memory over if it returns true
   */
  withLayout<T>(
    tensor: TensorInfo | TensorStorage,
    plain: MemoryDescriptor,
    wanted: MemoryDescriptor,
    use: (address: number) => T,
    keep: ((buffer: PooledBuffer) => boolean) | null = null,
  ): T {
    const storage = tensor instanceof TensorStorage ? tensor : this.storage(tensor);
    const current = this.layoutOf(storage, plain);
    const { address } = storage;
    if (this.runtime.isSameMemory(current, wanted)) return use(address);
    const buffer = this.runtime.pool.acquire(wanted.byteLength);
    let isKept = false;
    try {
      this.runtime.reorder(address, current, buffer.address, wanted);
      isKept = keep?.(buffer) ?? false;
      return use(buffer.address);
    } finally {
      if (!isKept) this.runtime.pool.release(buffer);
    }
  }

  /** As {@link withLayout}, for data that are wanted like this again: while a step is recorded, they are converted once in it. */
  withCopy<T>(
    tensor: TensorInfo | TensorStorage,
    plain: MemoryDescriptor,
    wanted: MemoryDescriptor,
    use: (address: number) => T,
  ): T {
    const { recorder } = this.runtime;
    const storage = tensor instanceof TensorStorage ? tensor : this.storage(tensor);
    const kept = recorder?.copyOf(storage, wanted) ?? null;
    if (kept !== null) return use(kept);
    const keep = recorder && ((buffer: PooledBuffer) => recorder.keepCopy(storage, wanted, buffer));
    return this.withLayout(storage, plain, wanted, use, keep);
  }

  /**
   * Copies a tensor's values to `target` without allocating.
   * @returns false if the data is not numeric (complex or string); then nothing is written.
   */
  readInto(dataId: DataId, target: Float32Array): boolean {
    const storage = this.storage(dataId);
    if (storage.dtype === 'complex64' || storage.dtype === 'string') return false;
    storage.copyTo(target);
    return true;
  }

  /**
   * Calls `observer` with the plain values of `tensors`, now and whenever the step that is being recorded is replayed. The
   * values are valid during the call only.
   */
  observe(tensors: readonly TensorInfo[], observer: (...values: never[]) => void): void {
    const values = tensors.map((tensor) => this.storage(tensor).view() as never);
    // A replay calls the observer, so what it does must not become part of the recording as well.
    this.runtime.outside(() => observer(...values));
    this.runtime.recorder?.host(() => observer(...values), []);
  }

  /**
   * As {@link observe}, but when the step of the running {@link program} is over, so that reading does not decide how the
   * tensors are computed. The tensors are kept until then.
   * @returns false outside of a program, where nothing has an end.
   */
  observeAtEnd(tensors: readonly Tensor[], observer: (...values: never[]) => void): boolean {
    const { endOfStep } = this.runtime;
    if (endOfStep === null) return false;
    for (const tensor of tensors) keep(tensor);
    endOfStep.push({
      observe: () => this.observe(tensors, observer),
      dispose: () => dispose([...tensors]),
    });
    return true;
  }

  /**
   * A step that is run by TensorFlow.js at first and replayed later; see program.ts.
   * @param objection Asked before each recording: why there must be none, or null.
   */
  program(objection?: () => string | null): StepProgram {
    return new StepProgram(this as unknown as ProgramHost, objection);
  }

  /**
   * Before shared memory is written to, of which data is a view: whoever has that data beside `owners` tensors keeps the values of now.
   * @returns whether somebody had; then this data is a view no longer.
   */
  detach(dataId: DataId, owners: number): boolean {
    return this.data.has(dataId) && this.unresolved(dataId).detach(owners);
  }

  /** Values of a tensor. Pooled memory is copied, because the pool will use it again; shared memory, because others write to it. */
  override readSync(dataId: DataId): backend_util.BackendValues {
    const storage = this.storage(dataId);
    if (storage.dtype === 'complex64' || !(storage.isPooled || storage.isShared)) return super.readSync(dataId);
    return (storage.peek() as Float32Array).slice();
  }

  override disposeData(dataId: DataId, force = false): boolean {
    if (!this.data.has(dataId)) return true;
    const storage = this.unresolved(dataId);
    storage.refCount--;
    if (!force && storage.refCount > 0) return false;
    if (storage.complexTensorInfos) {
      this.disposeData(storage.complexTensorInfos.real.dataId, true);
      this.disposeData(storage.complexTensorInfos.imag.dataId, true);
    }
    storage.releaseMemory();
    this.data.delete(dataId);
    return true;
  }

  override memory() {
    const { bytesInUse, bytesFree, peakBytes, allocations } = this.runtime.pool.statistics();
    return { unreliable: false, reasons: [] as string[], bytesInUse, bytesFree, peakBytes, allocations };
  }

  override dispose(): void {
    this.runtime.trim();
  }
}

/** null for row-major order, which needs no name. */
function nativeOf(layout: NativeLayout | null): NativeLayout | null {
  return layout && layout.current !== layout.plain ? layout : null;
}

/** TensorFlow.js knows data by the identity of an object. */
let lastId = 0;
function newDataId(): DataId {
  return { id: ++lastId };
}
