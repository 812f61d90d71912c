/**
 * A oneDNN primitive that is ready to run on any buffers of its layouts, and the cache that keeps it.
 *
 * Creating one costs tens of microseconds to milliseconds (code is generated), running one costs a handful of FFI calls.
 * Scratchpads are the caller's: one buffer per thread serves every primitive, since a thread runs one at a time.
 */
import koffi from 'koffi';
import { Arg, Query } from './ffi/constants.js';
import type { Dnnl, MemoryDescriptor, PrimitiveDescriptor } from './ffi/dnnl.js';
import type { MemoryPool, PooledBuffer } from './memory/pool.js';

/** An argument of a primitive: its index (dnnl_exec_arg_t) and layout. */
export type PrimitiveArgument = readonly [index: number, descriptor: MemoryDescriptor];

/** The one scratchpad of a thread. */
export class Scratchpad {
  #buffer: PooledBuffer | null = null;
  /** Who comes back to which buffer. */
  readonly #holders = new Map<PooledBuffer, number>();
  constructor(private readonly pool: MemoryPool) {}

  /** Address of at least `byteLength` bytes, valid until the next call. */
  address(byteLength: number): number {
    if (this.#buffer === null || this.#buffer.byteLength < byteLength) {
      const old = this.#buffer;
      // Forgotten before the next is asked for: that may be refused.
      this.#buffer = null;
      if (old && !this.#holders.has(old)) this.pool.release(old);
      this.#buffer = this.pool.acquire(byteLength);
    }
    return this.#buffer.address;
  }

  /** As {@link address}, but it stays where it is until {@link drop}, even if the thread has another by then. */
  hold(byteLength: number): PooledBuffer {
    this.address(byteLength);
    const buffer = this.#buffer as PooledBuffer;
    this.#holders.set(buffer, (this.#holders.get(buffer) ?? 0) + 1);
    return buffer;
  }

  /** Ends what {@link hold} began. */
  drop(buffer: PooledBuffer): void {
    const others = (this.#holders.get(buffer) as number) - 1;
    if (others > 0) this.#holders.set(buffer, others);
    else this.#holders.delete(buffer);
    if (others === 0 && buffer !== this.#buffer) this.pool.release(buffer);
  }
}

/** What runs on buffers in one call: a primitive of oneDNN's, or code of our own. */
export interface Runnable {
  /** Kind and shapes, for people: 'convolution_forward [128,16,32,32] …'. */
  readonly label: string;
  /** Whose code it is: 'jit:avx512_core', 'lockstep:avx512'. */
  readonly implementation: string;
  /** Layouts of the arguments, in the order in which `run` takes their addresses. */
  readonly layouts: readonly MemoryDescriptor[];
  /** Runs and returns when done. Buffers must stay referenced by the caller until then. */
  run(...addresses: number[]): void;
  /** The same on buffers that stay where they are. They must outlive the binding, which keeps the code. */
  bind(addresses: readonly number[]): BoundPrimitive;
  destroy(): void;
}

/** Told about everything that ran: for tracing, and to list a step's convolutions. */
export type PrimitiveObserver = (primitive: Runnable, milliseconds: number) => void;

/** What a recording hears of primitives. */
export interface PrimitiveRecorder {
  primitive(primitive: Runnable, addresses: readonly number[]): void;
}

/** Who listens to a thread's primitives. */
export interface PrimitiveListeners {
  observer: PrimitiveObserver | null;
  /** Of the step that is being recorded; null outside of one. */
  recorder: PrimitiveRecorder | null;
}

/** A primitive bound to its buffers, so that running it is one call. */
export interface BoundPrimitive {
  /** Bytes of scratchpad that it needs; see {@link useScratchpad}. */
  readonly scratchBytes: number;
  useScratchpad(address: number): void;
  run(): void;
  destroy(): void;
}

/** A compiled operation. `run` takes the buffers' addresses in the order in which the arguments were named. */
export class Primitive implements Runnable {
  readonly implementation: string;
  readonly layouts: readonly MemoryDescriptor[];
  readonly #handle: number;
  readonly #memories: number[];
  readonly #arguments: BigInt64Array;
  readonly #argumentsAddress: number;
  readonly #scratchBytes: number;
  readonly #all: readonly PrimitiveArgument[];
  /** Bindings that still need the handle. */
  #bindings = 0;
  #isDestroyed = false;

  constructor(
    private readonly dnnl: Dnnl,
    private readonly scratchpad: Scratchpad,
    descriptor: PrimitiveDescriptor,
    args: readonly PrimitiveArgument[],
    readonly label = '',
    private readonly listeners: PrimitiveListeners = { observer: null, recorder: null },
    /** Runs its argument on one thread, for work that is done before a second thread has woken up; null: all threads. */
    private readonly alone: ((execute: () => void) => void) | null = null,
  ) {
    this.implementation = descriptor.implementation;
    this.#handle = dnnl.createPrimitive(descriptor);
    this.layouts = args.map(([, layout]) => layout);
    const scratch = descriptor.query(Query.scratchpad);
    this.#scratchBytes = scratch?.byteLength ?? 0;
    const all = this.#scratchBytes > 0 ? [...args, [Arg.scratchpad, scratch as MemoryDescriptor] as const] : args;
    this.#all = all;
    this.#memories = all.map(([, layout]) => dnnl.createMemory(layout));
    this.#arguments = argumentList(all, this.#memories);
    this.#argumentsAddress = Number(koffi.address(this.#arguments));
    descriptor.destroy();
  }

  run(...addresses: number[]): void {
    const { dnnl } = this;
    const memories = this.#memories;
    for (let i = 0; i < addresses.length; i++) dnnl.setData(memories[i] as number, addresses[i] as number);
    if (this.#scratchBytes > 0) {
      dnnl.setData(memories[addresses.length] as number, this.scratchpad.address(this.#scratchBytes));
    }
    this.#execute(this.#argumentsAddress);
    this.listeners.recorder?.primitive(this, addresses);
  }

  bind(addresses: readonly number[]): BoundPrimitive {
    const { dnnl } = this;
    const memories = this.#all.map(([, layout]) => dnnl.createMemory(layout));
    for (const [i, address] of addresses.entries()) dnnl.setData(memories[i] as number, address);
    const list = argumentList(this.#all, memories);
    const listAddress = Number(koffi.address(list));
    const scratchpad = this.#scratchBytes > 0 ? (memories[addresses.length] as number) : null;
    this.#bindings++;
    return {
      scratchBytes: this.#scratchBytes,
      useScratchpad: (address) => {
        if (scratchpad !== null) dnnl.setData(scratchpad, address);
      },
      run: () => this.#execute(listAddress),
      destroy: () => {
        for (const memory of memories) dnnl.destroyMemory(memory);
        // The list's memory is referenced by this closure until here.
        list.fill(0n);
        this.#bindings--;
        if (this.#isDestroyed && this.#bindings === 0) dnnl.destroyPrimitive(this.#handle);
      },
    };
  }

  #execute(list: number): void {
    const { observer } = this.listeners;
    if (observer === null) this.#start(list);
    else {
      const start = performance.now();
      this.#start(list);
      observer(this, performance.now() - start);
    }
  }

  #start(list: number): void {
    if (this.alone) this.alone(() => this.dnnl.execute(this.#handle, this.#memories.length, list));
    else this.dnnl.execute(this.#handle, this.#memories.length, list);
  }

  /** Frees it, once the last binding is gone. */
  destroy(): void {
    this.#isDestroyed = true;
    if (this.#bindings === 0) this.dnnl.destroyPrimitive(this.#handle);
    for (const memory of this.#memories) this.dnnl.destroyMemory(memory);
  }
}

/** dnnl_exec_arg_t[]: argument index and memory, in turns. */
function argumentList(args: readonly PrimitiveArgument[], memories: readonly number[]): BigInt64Array {
  const list = new BigInt64Array(2 * args.length);
  args.forEach(([index], i) => {
    list[2 * i] = BigInt(index);
    list[2 * i + 1] = BigInt(memories[i] as number);
  });
  return list;
}

/** Least-recently-used cache of whatever was compiled for a key. Bounded, so that shapes that never repeat cannot grow it. */
export class CompileCache<T extends { destroy(): void }> {
  readonly #entries = new Map<string, T>();
  constructor(private readonly capacity = 2048) {}

  get(key: string, compile: () => T): T {
    let entry = this.#entries.get(key);
    if (entry !== undefined) {
      // Re-insertion keeps the map in order of use; only worth its cost when eviction is near.
      if (this.#entries.size > this.capacity / 2) {
        this.#entries.delete(key);
        this.#entries.set(key, entry);
      }
      return entry;
    }
    entry = compile();
    this.#entries.set(key, entry);
    if (this.#entries.size > this.capacity) {
      const [oldestKey, oldest] = this.#entries.entries().next().value as [string, T];
      this.#entries.delete(oldestKey);
      oldest.destroy();
    }
    return entry;
  }

  get size(): number {
    return this.#entries.size;
  }

  clear(): void {
    for (const entry of this.#entries.values()) entry.destroy();
    this.#entries.clear();
  }
}
