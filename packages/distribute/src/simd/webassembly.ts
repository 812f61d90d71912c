/**
 * The part of WebAssembly's JavaScript interface that this package uses, typed.
 *
 * TypeScript declares it only together with a browser's whole DOM; Node 20's own types leave it out.
 */

/** A shared memory; `buffer` is a new object after growing, older ones stay valid up to their length. */
export interface WasmMemory {
  readonly buffer: SharedArrayBuffer;
  /** Adds pages of 64 KiB. @returns the number of pages before. @throws RangeError beyond the maximum. */
  grow(pages: number): number;
}

/** Compiled code, clonable to other threads. */
export interface WasmModule {
  readonly [Symbol.toStringTag]: 'WebAssembly.Module';
}

interface WasmInstance {
  readonly exports: Record<string, unknown>;
}

interface WebAssemblyNamespace {
  readonly Memory: new (descriptor: { initial: number; maximum: number; shared: true }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: Record<string, Record<string, unknown>>) => WasmInstance;
}

export const { Memory, Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyNamespace })
  .WebAssembly;
