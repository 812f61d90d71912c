/** Provisional: a small shared-memory group, until the communicator's own file is here. */
import type { Buffer, Communicator, CommunicatorReduceOp, Work } from '../communicator/communicator.js';
import { CommunicatorError } from '../communicator/communicator.js';

const SLOT = 1 << 22;
export class SharedMemoryGroup {
  constructor(
    readonly size: number,
    readonly timeoutMs: number,
    readonly control = new SharedArrayBuffer(64 * 4),
    readonly data = new SharedArrayBuffer(SLOT * size),
  ) {}
  abort(_reason: string): void {
    const words = new Int32Array(this.control);
    Atomics.store(words, 2, 1);
    Atomics.add(words, 1, 1);
    Atomics.notify(words, 1);
  }
}
export function createSharedMemoryGroup(size: number, { timeoutMs }: { timeoutMs: number }): SharedMemoryGroup {
  return new SharedMemoryGroup(size, timeoutMs);
}
export function joinSharedMemoryGroup(handle: SharedMemoryGroup, rank: number): Communicator {
  return new Provisional(new SharedMemoryGroup(handle.size, handle.timeoutMs, handle.control, handle.data), rank);
}
class Provisional implements Communicator {
  readonly name = 'provisional';
  readonly size: number;
  #words: Int32Array;
  constructor(
    private readonly group: SharedMemoryGroup,
    readonly rank: number,
  ) {
    this.size = group.size;
    this.#words = new Int32Array(group.control);
  }
  #bytes(b: Buffer) {
    return new Uint8Array(b.buffer, b.byteOffset, b.byteLength);
  }
  #slot(rank: number, n: number) {
    return new Uint8Array(this.group.data, rank * SLOT, n);
  }
  barrier(): void {
    const w = this.#words;
    const epoch = Atomics.load(w, 1);
    if (Atomics.load(w, 2)) throw new CommunicatorError('aborted');
    Atomics.store(w, 8 + this.rank, 1);
    if (Atomics.add(w, 0, 1) === this.size - 1) {
      Atomics.store(w, 0, 0);
      for (let i = 0; i < this.size; i++) Atomics.store(w, 8 + i, 0);
      Atomics.add(w, 1, 1);
      Atomics.notify(w, 1);
    } else if (Atomics.wait(w, 1, epoch, this.group.timeoutMs) === 'timed-out') {
      const missing = Array.from({ length: this.size }, (_, i) => i).find((i) => Atomics.load(w, 8 + i) === 0);
      this.group.abort('timeout');
      throw new CommunicatorError(`timed out waiting for rank ${missing}`, missing);
    }
    if (Atomics.load(w, 2)) throw new CommunicatorError('aborted');
  }
  allGather(send: Buffer, receive: Buffer): void {
    const n = send.byteLength;
    this.#slot(this.rank, n).set(this.#bytes(send));
    this.barrier();
    for (let i = 0; i < this.size; i++) this.#bytes(receive).set(this.#slot(i, n), i * n);
    this.barrier();
  }
  allReduce(buffer: Buffer, op: CommunicatorReduceOp = 'sum'): void {
    const step = 1 << 18;
    for (let at = 0; at < buffer.length; at += step) {
      const part = buffer.subarray(at, at + step) as Float32Array;
      const all = new (part.constructor as Float32ArrayConstructor)(part.length * this.size);
      this.allGather(part, all);
      for (let i = 0; i < part.length; i++) {
        let s = all[i]!;
        for (let r = 1; r < this.size; r++) {
          const v = all[r * part.length + i]!;
          s = op === 'sum' ? s + v : op === 'max' ? Math.max(s, v) : Math.min(s, v);
        }
        part[i] = s;
      }
    }
  }
  allReduceAsync(buffer: Buffer, op?: CommunicatorReduceOp): Work {
    return { test: () => false, wait: () => this.allReduce(buffer, op) };
  }
  broadcast(buffer: Buffer, root: number): void {
    const all = new Uint8Array(buffer.byteLength * this.size);
    this.allGather(buffer, all);
    this.#bytes(buffer).set(all.subarray(root * buffer.byteLength, (root + 1) * buffer.byteLength));
  }
  send(): void {}
  receive(): void {}
  abort(reason: string): void {
    this.group.abort(reason);
  }
  close(): void {}
}
export interface CrossDeviceOpsConfig {
  name: string;
  numPacks: number;
}
export class CrossDeviceOps {
  constructor(
    readonly name: string,
    readonly numPacks: number,
  ) {}
  checkDevices(_d: unknown) {}
  toConfig(): CrossDeviceOpsConfig {
    return { name: this.name, numPacks: this.numPacks };
  }
  allReduce(c: Communicator, flat: Float32Array) {
    c.allReduce(flat);
  }
}
export function createCrossDeviceOps(name: string, numPacks: number) {
  return new CrossDeviceOps(name, numPacks);
}
export function createCrossDeviceOpsFromConfig(c: CrossDeviceOpsConfig) {
  return new CrossDeviceOps(c.name, c.numPacks);
}
export class NcclAllReduce extends CrossDeviceOps {
  constructor(n = 1) {
    super('nccl', n);
  }
}
export class HierarchicalCopyAllReduce extends CrossDeviceOps {
  constructor(n = 1) {
    super('hierarchical_copy', n);
  }
}
export class ShardedAllReduce extends CrossDeviceOps {
  constructor(n = 1) {
    super('sharded', n);
  }
}
interface FlatOptions {
  communicator: Communicator;
  segments: { offset: number; length: number; weightDecay: number }[];
  weights: Float32Array;
  slots: Record<string, Float32Array>;
  gradients: Float32Array[];
  optimizer: { kind: string; momentum?: number; nesterov?: boolean };
  lossScale: number;
  [k: string]: unknown;
}
export class FlatReducer {
  constructor(private readonly o: FlatOptions) {}
  markReady(_i: number) {}
  finishWithUpdate({ learningRate }: { learningRate: number }) {
    const { communicator: c, weights, slots, gradients, segments, lossScale, optimizer } = this.o;
    c.barrier();
    if (c.rank === 0) {
      for (const s of segments)
        for (let i = s.offset; i < s.offset + s.length; i++) {
          let g = 0;
          for (const r of gradients) g += r[i]!;
          g = g / gradients.length / lossScale + s.weightDecay * weights[i]!;
          const v = slots.momentum;
          if (v) {
            v[i] = optimizer.momentum! * v[i]! + g;
            weights[i]! -= learningRate * (optimizer.nesterov ? g + optimizer.momentum! * v[i]! : v[i]!);
          } else weights[i]! -= learningRate * g;
        }
    }
    c.barrier();
    return { reduceMs: 0, updateMs: 0 };
  }
}
