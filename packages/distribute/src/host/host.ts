/**
 * SEAM: Host, what replicas, strategies and packing need of the program around them: threads, cores, files, a place to print. There are two,
 * node.ts and browser.ts; `#host` is one of them, by the conditions of package.json's `imports`. Nothing else in those folders knows where it
 * runs. What only Node has (processes, Open MPI, parameter servers) does not ask here.
 */
import type { OutputMessage } from './output.js';

/** V8's, as Node's worker threads take them. */
export interface MemoryLimits {
  maxOldGenerationSizeMb?: number | undefined;
  maxYoungGenerationSizeMb?: number | undefined;
  codeRangeSizeMb?: number | undefined;
  stackSizeMb?: number | undefined;
}

/** What becomes of a thread, in this order; `onExit` is always the last. */
export interface ThreadEvents {
  onMessage(message: unknown): void;
  /** Something was thrown that nobody caught, or a message could not be read. */
  onError(error: Error & { code?: string }): void;
  /** @param code 0: it ended by itself */
  onExit(code: number): void;
}

export interface ThreadOptions {
  readonly name: string;
  readonly resourceLimits?: MemoryLimits;
}

export interface Thread {
  terminate(): void;
  /** It keeps the program alive no longer. */
  unref(): void;
}

/** A value that belongs to what is being run, and to what that calls. */
export interface Scope<T> {
  run<Result>(value: T, body: () => Result): Result;
  get(): T | undefined;
}

/** See the file's head. */
export interface Host {
  /** Logical CPUs on which this program may run, ascending. */
  allowedCpus(): number[];
  /** @returns false where threads cannot be bound */
  bindThread(cpus: readonly number[]): boolean;
  /** Large pages for memory that was just taken and is used by all; nothing where they are not to be had. */
  adviseHugePages(buffer: ArrayBufferLike): void;
  /** CPUs' worth of threads that run at once. */
  parallelism(): number;
  /** A file of the system, trimmed; null where there is none. */
  readText(path: string): string | null;
  /** The compiled loops; null where they are not to be had: plain ones give the same bits. */
  readKernels(): Uint8Array | null;
  /** A line for the person who runs the program. */
  log(line: string): void;
  /** Any value, as text. */
  inspect(value: unknown): string;
  toBase64(bytes: Uint8Array): string;
  fromBase64(text: string): Uint8Array<ArrayBuffer>;
  scope<T>(): Scope<T>;
  /** Whether `from`, the URL of a module, or the program itself could import a package; null where that is not to be advised. */
  canImport(name: string, from: string): boolean | null;
  /** URL of the module that makes TensorFlow.js' own `cpu` a thread's backend. */
  readonly cpuBackend: string;
  /** A module by its URL. */
  importModule(url: string): Promise<object>;
  /** @throws Error where threads cannot share memory, with what to do about it. */
  checkThreads(): void;
  /** A replica's thread, which runs replica/replica-worker.ts. */
  startReplica(data: unknown, options: ThreadOptions, events: ThreadEvents): Thread;
  /** In a replica's thread: what it was started with. */
  replicaData(): Promise<unknown>;
  /** In a replica's thread: to the events of whoever started it. */
  tell(message: unknown): void;
  /** In a replica's thread: what is printed goes through `post`, if the host prints nothing of threads by itself. */
  redirectOutput(post: (message: OutputMessage) => void, underWay: Int32Array): void;
  /** A piece of a replica's output is printed. */
  writeOutput(message: OutputMessage, underWay: Int32Array): void;
}
