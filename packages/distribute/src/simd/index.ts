/** Flat memory shared by threads, and the SIMD kernels that work in it. */
export { FlatMemory, type FlatMemoryHandle } from './flat-memory.js';
export { type FlatKernels, MAX_SOURCES } from './kernels.js';
export { plainKernels } from './plain-kernels.js';
export type { WasmMemory, WasmModule } from './webassembly.js';
