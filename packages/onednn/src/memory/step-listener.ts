/**
 * SEAM: who listens while a step runs, so that it can be recorded. Memory, kernels and the runtime tell it what they do and know no more
 * of recording than this; `recording/recorder.ts` is the one that listens.
 */
import type { PooledBuffer } from './pool.js';

/** What was found out about data. A replay finds it out again, so whoever holds it must look when it runs. */
export interface Verdict {
  readonly holds: boolean;
}

/** See the file's head. Its own file says of each what a replay does. */
export interface StepListener {
  /** The kernel that runs, for messages; null between kernels. */
  kernel: string | null;
  /** True while a kernel of TensorFlow.js runs, which is recorded as a whole. */
  readonly isForeign: boolean;
  host(run: () => void, constants: readonly (number | string)[]): void;
  judge(verdict: { holds: boolean }, find: () => boolean): void;
  either<T>(verdict: Verdict, usual: () => T, otherwise: () => void): T;
  foreign<T>(run: () => T): { readonly result: T; readonly hasRead: boolean };
  read(): void;
  constant(values: unknown): void;
  keep(memory: unknown): void;
  external(storage: object, address: number): void;
  copyOf(storage: object, layout: object): number | null;
  keepCopy(storage: object, layout: object, buffer: PooledBuffer): boolean;
  changed(storage: object): void;
  refuse(what: string): void;
}
