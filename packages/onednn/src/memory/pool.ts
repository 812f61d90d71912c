/**
 * Pooled memory for tensors: buffers are reused, never returned to the system within a step.
 *
 * First touch of fresh memory runs at 1–2 GB/s against 27 GB/s for memory in use, so a step that allocates anew is a slow
 * step. Buffers are ordinary ArrayBuffers: what is dropped without being released is collected by V8, not leaked.
 * Addresses are 64-byte aligned (one cache line, one AVX-512 register); large buffers are aligned to 2 MiB and offered to
 * the kernel as huge pages.
 */
import koffi from 'koffi';
import { type Place, Region } from './region.js';

const CACHE_LINE = 64;
const HUGE_PAGE = 2 * 1024 * 1024;
const MADV_HUGEPAGE = 14;
const LARGE = 2 ** 20;
/** Size classes are this fraction of a power of two, so that at most one eighth of a buffer is unused. */
const CLASSES_PER_DOUBLING = 8;
/** Buffers of a recorded step from this size on begin and end at pages, and small ones that stay long do not lie between them. */
const PAGED = 2 ** 16;
const PAGE = 4096;
/** Pieces that a recorded step's buffers lie in: as large as all before them together, within these bounds. */
const PIECES = { small: { min: 2 ** 16, max: 2 ** 20 }, paged: { min: 2 ** 20, max: 2 ** 28 } } as const;

/** A piece of memory that native code may write to. `address` is valid as long as this object is referenced. */
export interface PooledBuffer {
  readonly memory: ArrayBuffer;
  /** Offset in `memory` of the first usable byte. */
  readonly byteOffset: number;
  /** Usable bytes: the size class, at least what was asked for. */
  readonly byteLength: number;
  readonly address: number;
  /** The view of it that was made last; most buffers hold tensors of the same size again and again. */
  lastView: Float32Array | Int32Array | Uint8Array | null;
  /** Where it goes when it is released. */
  readonly home: Arena;
  /** Of a recorded step's memory: which piece it lies in, and where. */
  readonly place: Place | null;
}

/** A large buffer of which parts are handed out. */
interface Piece {
  readonly memory: ArrayBuffer;
  readonly byteOffset: number;
  readonly address: number;
}

/** Memory of a recording: parts of pieces that stay where they are, referenced so that addresses stay valid. */
class Parts {
  readonly region = new Region();
  readonly pieces: Piece[] = [];
  bytes = 0;
  constructor(readonly sizes: (typeof PIECES)[keyof typeof PIECES]) {}
}

/** Free buffers. Memory of one arena is never handed out on behalf of another. */
export class Arena {
  /** By size class; empty where there are parts. */
  readonly free = new Map<number, PooledBuffer[]>();
  freeBytes = 0;
  /** Of a recording's arena; null: nobody depends on addresses once a buffer is given back. */
  readonly parts: { readonly small: Parts; readonly paged: Parts } | null;
  isClosed = false;

  constructor(isRecording: boolean) {
    this.parts = isRecording ? { small: new Parts(PIECES.small), paged: new Parts(PIECES.paged) } : null;
  }
}

/** Counters of a pool; bytes unless the name says otherwise. */
export interface PoolStatistics {
  readonly bytesInUse: number;
  readonly bytesFree: number;
  readonly peakBytes: number;
  /** How often memory was taken from the system instead of the pool. */
  readonly allocations: number;
  /** Of those, buffers of 1 MiB and more: the ones whose first touch a step would notice. */
  readonly largeAllocations: number;
}

/** No memory for a tensor; the engine stays usable. */
export class OutOfMemoryError extends Error {
  override readonly name = 'OutOfMemoryError';
}

export interface MemoryPoolOptions {
  /** Upper limit of bytes in use plus bytes kept free. Default: none. */
  readonly maxBytes?: number;
  /** Bytes kept for reuse; what is released beyond is left to the garbage collector. Default 16 GiB. */
  readonly maxFreeBytes?: number;
}

/** A free list for each size class. One pool belongs to one thread. */
export class MemoryPool {
  readonly #common = new Arena(false);
  /** Who gets memory at the moment. */
  #arena = this.#common;
  readonly #maxBytes: number;
  readonly #maxFreeBytes: number;
  #inUse = 0;
  #freeBytes = 0;
  #peak = 0;
  #allocations = 0;
  #largeAllocations = 0;
  /** Called when memory is refused, before giving up: somebody may close an arena. @returns whether it is worth another try. */
  onPressure: () => boolean = () => false;

  constructor(options: MemoryPoolOptions = {}) {
    this.#maxBytes = options.maxBytes ?? Number.POSITIVE_INFINITY;
    this.#maxFreeBytes = options.maxFreeBytes ?? 16 * 2 ** 30;
  }

  /**
   * A buffer of at least `byteLength` bytes with undefined content.
   * @throws OutOfMemoryError when the system or `maxBytes` refuses it.
   */
  acquire(byteLength: number): PooledBuffer {
    if (this.#arena.parts !== null) return this.#part(byteLength);
    const size = sizeClass(byteLength);
    const free = this.#arena.free.get(size)?.pop();
    if (free) this.#countFree(this.#arena, -size);
    return this.#handOut(free ?? this.#allocate(size, byteLength));
  }

  #handOut(buffer: PooledBuffer): PooledBuffer {
    this.#inUse += buffer.byteLength;
    this.#peak = Math.max(this.#peak, this.#inUse + this.#freeBytes);
    return buffer;
  }

  #countFree(arena: Arena, bytes: number): void {
    arena.freeBytes += bytes;
    this.#freeBytes += bytes;
  }

  /** A part of a recording's memory. */
  #part(wanted: number): PooledBuffer {
    const home = this.#arena;
    const { small, paged } = home.parts as NonNullable<Arena['parts']>;
    const isPaged = wanted >= PAGED;
    const { region, pieces, sizes, bytes } = isPaged ? paged : small;
    const byteLength = roundUp(Math.max(1, wanted), isPaged ? PAGE : CACHE_LINE);
    let place = region.take(byteLength);
    if (place === null) {
      this.#makeRoom(byteLength, wanted);
      const room = this.#maxBytes - this.#inUse - this.#freeBytes;
      const size = Math.max(byteLength, Math.min(sizes.max, Math.max(sizes.min, bytes), roundDown(room, PAGE)));
      pieces.push(this.#take(size, wanted));
      (isPaged ? paged : small).bytes += size;
      this.#countFree(home, region.add(size));
      place = region.take(byteLength) as Place;
    } else if (place.unused > 0) {
      try {
        this.#makeRoom(place.unused, wanted);
      } catch (error) {
        region.give(place.piece, place.offset, byteLength);
        this.#countFree(home, place.unused);
        throw error;
      }
    }
    this.#countFree(home, place.unused - byteLength);
    const { memory, byteOffset, address } = pieces[place.piece] as Piece;
    return this.#handOut({
      memory,
      byteOffset: byteOffset + place.offset,
      byteLength,
      address: address + place.offset,
      lastView: null,
      home,
      place,
    });
  }

  /** Gives a buffer back. The caller must hold no view of it that anybody reads or writes later. */
  release(buffer: PooledBuffer): void {
    const { byteLength: size, home, place } = buffer;
    this.#inUse -= size;
    if (home.isClosed) return;
    if (home.parts !== null) {
      const { piece, offset } = place as Place;
      (size >= PAGED ? home.parts.paged : home.parts.small).region.give(piece, offset, size);
    } else {
      if (this.#freeBytes + size > this.#maxFreeBytes) return;
      const list = home.free.get(size);
      if (list) list.push(buffer);
      else home.free.set(size, [buffer]);
    }
    this.#countFree(home, size);
  }

  /** Until {@link close} or {@link leave}, memory comes from an arena of its own, whose addresses nobody else gets. */
  enter(): Arena {
    if (this.#arena !== this.#common) throw new Error('The pool is in an arena already.');
    this.#arena = new Arena(true);
    return this.#arena;
  }

  /** Memory is everybody's again; what was acquired since {@link enter} still belongs to the arena. */
  leave(): Arena {
    const arena = this.#arena;
    this.#arena = this.#common;
    return arena;
  }

  /** Goes back to where {@link leave} left. */
  return(arena: Arena): void {
    this.#arena = arena;
  }

  /** Forgets an arena: its free memory goes to the garbage collector, and so does what is released later. */
  close(arena: Arena): void {
    this.#freeBytes -= arena.freeBytes;
    arena.free.clear();
    arena.freeBytes = 0;
    if (arena.parts) for (const { pieces } of Object.values(arena.parts)) pieces.length = 0;
    arena.isClosed = true;
  }

  /** Takes a buffer out of the pool's care: somebody outside holds a view of it, so it must never be reused. */
  disown(buffer: PooledBuffer): void {
    this.#inUse -= buffer.byteLength;
  }

  /** Drops every free buffer that no arena keeps. */
  trim(): void {
    this.#freeBytes -= this.#common.freeBytes;
    this.#common.free.clear();
    this.#common.freeBytes = 0;
  }

  /** Has the C library return to the system what lies free in its heap: it keeps buffers of less than 32 MB that were collected. */
  giveBack(): void {
    trimHeap();
  }

  statistics(): PoolStatistics {
    return {
      bytesInUse: this.#inUse,
      bytesFree: this.#freeBytes,
      peakBytes: this.#peak,
      allocations: this.#allocations,
      largeAllocations: this.#largeAllocations,
    };
  }

  #allocate(size: number, wanted: number): PooledBuffer {
    this.#makeRoom(size, wanted);
    return { ...this.#take(size, wanted), byteLength: size, lastView: null, home: this.#arena, place: null };
  }

  /** So that `size` bytes more are within the limit. */
  #makeRoom(size: number, wanted: number): void {
    const isOver = () => this.#inUse + this.#freeBytes + size > this.#maxBytes;
    if (isOver()) this.trim();
    if (isOver() && this.#inUse + size <= this.#maxBytes) this.onPressure();
    if (isOver()) throw this.#refusal(wanted, `the limit of ${this.#maxBytes} bytes`);
  }

  /** Memory from the system. */
  #take(size: number, wanted: number): Piece {
    const alignment = size >= HUGE_PAGE ? HUGE_PAGE : CACHE_LINE;
    const memory = this.#fromSystem(size + alignment);
    if (memory === null) throw this.#refusal(wanted, 'the system');
    this.#allocations++;
    if (size >= LARGE) this.#largeAllocations++;
    const base = Number(koffi.address(new Uint8Array(memory)));
    const byteOffset = (alignment - (base % alignment)) % alignment;
    if (size >= HUGE_PAGE) adviseHugePages(base + byteOffset, size);
    return { memory, byteOffset, address: base + byteOffset };
  }

  #fromSystem(byteLength: number): ArrayBuffer | null {
    const attempt = () => {
      try {
        return new ArrayBuffer(byteLength);
      } catch {
        return null;
      }
    };
    const memory = attempt();
    if (memory) return memory;
    this.trim();
    return attempt() ?? (this.onPressure() ? attempt() : null);
  }

  #refusal(wanted: number, who: string): OutOfMemoryError {
    return new OutOfMemoryError(
      `Out of memory: a tensor of ${wanted} bytes was refused by ${who}; ${this.#inUse} bytes are in use by tensors.\n` +
        'help: use a smaller batch, dispose tensors that are no longer needed (tf.tidy), or raise the limit.',
    );
  }
}

/** Rounds up to a size class: 64-byte steps when small, an eighth of a power of two when large. */
export function sizeClass(byteLength: number): number {
  if (byteLength <= 1024) return Math.max(CACHE_LINE, Math.ceil(byteLength / CACHE_LINE) * CACHE_LINE);
  // Below 2³¹ by counting bits, which takes a tenth of the time: every kernel comes here.
  const power = byteLength < 2 ** 31 ? 31 - Math.clz32(byteLength) : Math.floor(Math.log2(byteLength));
  const step = 2 ** power / CLASSES_PER_DOUBLING;
  return Math.ceil(byteLength / step) * step;
}

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

function roundDown(bytes: number, unit: number): number {
  return Math.floor(bytes / unit) * unit;
}

let trimmer: ((keep: number) => number) | null | undefined;

function trimHeap(): void {
  if (process.platform !== 'linux') return;
  if (trimmer === undefined) {
    try {
      trimmer = koffi.load('libc.so.6').func('int malloc_trim(size_t)') as unknown as (keep: number) => number;
    } catch {
      trimmer = null;
    }
  }
  trimmer?.(0);
}

type Advise = (address: number, length: number, advice: number) => number;
let advise: Advise | null | undefined;

function adviseHugePages(address: number, length: number): void {
  if (process.platform !== 'linux') return;
  if (advise === undefined) {
    try {
      advise = koffi.load('libc.so.6').func('int madvise(uintptr_t, size_t, int)') as unknown as Advise;
    } catch {
      advise = null;
    }
  }
  // A refusal (no transparent huge pages) costs speed only.
  advise?.(address, Math.floor(length / HUGE_PAGE) * HUGE_PAGE, MADV_HUGEPAGE);
}
