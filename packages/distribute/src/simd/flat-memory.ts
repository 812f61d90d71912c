/**
 * FlatMemory: one block of memory that every thread of the process sees, and that SIMD kernels work in.
 *
 * It is a shared WebAssembly.Memory (at most 4 GiB) with a bump allocator: the main thread creates it, worker threads attach
 * to its handle. Allocation needs no messages: as in a symmetric heap (OpenSHMEM), every thread makes the same allocations
 * in the same order and so computes the same addresses. Nothing is freed before the whole memory is: it holds what lives as
 * long as a run (weights, slots, gradients, staging areas). Fresh memory is zero.
 */
import { host } from '#host';
import { compileKernels, type FlatKernels, SimdKernels, TABLE_WORDS } from './kernels.js';
import { plainKernels } from './plain-kernels.js';
import { Memory, type WasmMemory, type WasmModule } from './webassembly.js';

const PAGE = 65_536;
/** The module imports a memory of this maximum; WebAssembly allows no more with 32-bit addresses. */
const MAX_PAGES = 65_536;
/** A cache line, and what SIMD loads like best. */
const ALIGNMENT = 64;
/** A lock that growing takes. */
const LOCK_ADDRESS = 512;
/** Address 0 stays unused, so that a forgotten address shows. */
const FIRST_ADDRESS = 1024;
/** Longest wait for another thread to grow the memory; it takes microseconds, unless that thread was terminated in it. */
const LOCK_MS = 10_000;

/** What a thread needs to attach. Crosses threads by postMessage or workerData. */
export interface FlatMemoryHandle {
  readonly memory: WasmMemory;
  readonly module: WasmModule | null;
  /** Address of the threads' scratch tables. */
  readonly tables: number;
  /** Where the allocations begin that all threads make alike. */
  readonly cursor: number;
}

/** See the file's head. */
export class FlatMemory {
  readonly memory: WasmMemory;
  /** Buffer objects of this memory in this thread: growing makes a new one, views of the old one stay good. */
  readonly #buffers = new WeakSet<ArrayBufferLike>();
  readonly #module: WasmModule | null;
  readonly #tables: number;
  readonly #thread: number;
  #cursor: number;
  #kernels: FlatKernels | null = null;

  private constructor({ memory, module, tables, cursor }: FlatMemoryHandle, thread: number) {
    this.memory = memory;
    this.#module = module;
    this.#tables = tables;
    this.#thread = thread;
    this.#cursor = cursor;
    this.#buffers.add(memory.buffer);
  }

  /** A new memory for `threads` worker threads, and the creating thread beside them. */
  static create(threads: number): FlatMemory {
    const memory = new Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
    const flat = new FlatMemory(
      { memory, module: compileKernels(), tables: FIRST_ADDRESS, cursor: FIRST_ADDRESS },
      threads,
    );
    flat.#reserve((threads + 1) * TABLE_WORDS * Uint32Array.BYTES_PER_ELEMENT);
    return flat;
  }

  /** The same memory in a worker thread. @param thread Its number, 0 to threads − 1, nobody else's. */
  static attach(handle: FlatMemoryHandle, thread: number): FlatMemory {
    return new FlatMemory(handle, thread);
  }

  /** For {@link attach}, at a time when nobody allocates. */
  get handle(): FlatMemoryHandle {
    return { memory: this.memory, module: this.#module, tables: this.#tables, cursor: this.#cursor };
  }

  /** Bytes given out so far. Equal on all threads that made the same allocations. */
  get allocatedBytes(): number {
    return this.#cursor;
  }

  /**
   * `length` zeroed f32, aligned to 64 bytes. Every thread must make the same allocations in the same order.
   * @throws RangeError when the 4 GiB are used up.
   */
  allocate(length: number): Float32Array<SharedArrayBuffer> {
    const address = this.#reserve(length * Float32Array.BYTES_PER_ELEMENT);
    return new Float32Array(this.#buffer(), address, length);
  }

  /** As {@link allocate}: one array of `length` for each of `count` replicas. */
  allocateEach(count: number, length: number): Float32Array<SharedArrayBuffer>[] {
    return Array.from({ length: count }, () => this.allocate(length));
  }

  /** As {@link allocate}: integers, for Atomics. */
  allocateWords(length: number): Int32Array<SharedArrayBuffer> {
    const address = this.#reserve(length * Int32Array.BYTES_PER_ELEMENT);
    return new Int32Array(this.#buffer(), address, length);
  }

  /** As {@link allocate}: f64. */
  allocateDoubles(length: number): Float64Array<SharedArrayBuffer> {
    const address = this.#reserve(length * Float64Array.BYTES_PER_ELEMENT);
    return new Float64Array(this.#buffer(), address, length);
  }

  /** A view of `length` f32 at an address that another thread's array of this memory has. */
  viewAt(address: number, length: number): Float32Array<SharedArrayBuffer> {
    return new Float32Array(this.#buffer(), address, length);
  }

  /** Whether the array is a view of this memory, by an object that this thread got from here. */
  contains(view: ArrayBufferView): boolean {
    return this.#buffers.has(view.buffer);
  }

  /** SIMD kernels over this memory; plain ones if the package was built without kernels.wasm. */
  get kernels(): FlatKernels {
    this.#kernels ??= this.#module ? new SimdKernels(this.#module, this, this.#table()) : plainKernels;
    return this.#kernels;
  }

  #table(): Uint32Array {
    const address = this.#tables + this.#thread * TABLE_WORDS * Uint32Array.BYTES_PER_ELEMENT;
    return new Uint32Array(this.#buffer(), address, TABLE_WORDS);
  }

  #reserve(bytes: number): number {
    const address = Math.ceil(this.#cursor / ALIGNMENT) * ALIGNMENT;
    const end = address + bytes;
    if (end > this.#buffer().byteLength) this.#growTo(end, bytes);
    this.#cursor = end;
    return address;
  }

  /** Under a lock: threads allocate alike at about the same time, and the memory is to grow once. */
  #growTo(end: number, bytes: number): void {
    const lock = new Int32Array(this.#buffer(), LOCK_ADDRESS, 1);
    const deadline = performance.now() + LOCK_MS;
    while (Atomics.compareExchange(lock, 0, 0, 1) !== 0) {
      Atomics.wait(lock, 0, 1, 100);
      if (performance.now() > deadline) throw new Error('The lock on growing shared memory was never given back.');
    }
    try {
      // Growing by nothing refreshes this thread's view of a memory that another thread grew.
      this.memory.grow(0);
      const missing = Math.ceil((end - this.#buffer().byteLength) / PAGE);
      if (missing > 0) {
        this.memory.grow(missing);
        host.adviseHugePages(this.#buffer());
      }
    } catch (cause) {
      throw new RangeError(
        `${bytes.toLocaleString('en')} bytes of shared memory are not to be had: ${this.#cursor.toLocaleString('en')} of ` +
          'at most 4,294,967,296 are in use by weights, optimizer slots and one gradient per replica.\n' +
          'help: fewer replicas in this process, or a smaller model.',
        { cause },
      );
    } finally {
      Atomics.store(lock, 0, 0);
      Atomics.notify(lock, 0);
    }
  }

  #buffer(): SharedArrayBuffer {
    const { buffer } = this.memory;
    this.#buffers.add(buffer);
    return buffer;
  }
}
