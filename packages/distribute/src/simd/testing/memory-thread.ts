/** A thread of flat-memory.test.ts: allocates as the main thread does and writes its own part. */
import { parentPort, workerData } from 'node:worker_threads';
import { FlatMemory, type FlatMemoryHandle } from '../flat-memory.js';

const { handle, thread } = workerData as { handle: FlatMemoryHandle; thread: number };
const memory = FlatMemory.attach(handle, thread);
const own = memory.allocateEach(4, 400_000)[thread] as Float32Array;
const ones = new Float32Array(own.length).fill(1);
own.set(ones);
// A kernel works on memory that this thread, or another, has grown.
memory.kernels.scale(own, own, thread + 1);
parentPort?.postMessage({ name: memory.kernels.name, bytes: memory.allocatedBytes, thread });
