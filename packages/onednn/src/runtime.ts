/**
 * What the kernels of one thread share: the library, pooled memory, compiled primitives, and the layouts that pay.
 *
 * It knows oneDNN and memory, no TensorFlow.js. One runtime belongs to one thread (a replica), because OpenMP's thread
 * count, the scratchpad and the pool are per thread; the library's code cache is shared by all of them.
 */
import { pinToCores } from './ffi/affinity.js';
import { bindDnnl } from './ffi/bind.js';
import type { DataTypeName } from './ffi/constants.js';
import { Arg } from './ffi/constants.js';
import { type Dnnl, type MemoryDescriptor, OneDnnError, type PrimitiveDescriptor } from './ffi/dnnl.js';
import { loadLibrary } from './ffi/library.js';
import { loadOpenMp, type OpenMp } from './ffi/openmp.js';
import { type CodeOptions, CodePrimitive } from './jit/code-primitive.js';
import { loadMachine, type Machine } from './jit/machine.js';
import { MemoryPool, type MemoryPoolOptions } from './memory/pool.js';
import type { StepListener, Verdict } from './memory/step-listener.js';
import type { StorageHost } from './memory/storage.js';
import {
  CompileCache,
  Primitive,
  type PrimitiveArgument,
  type PrimitiveListeners,
  type PrimitiveObserver,
  type PrimitiveRecorder,
  Scratchpad,
} from './primitive.js';

/** Hears of a step all that there is to hear. */
type RuntimeRecorder = StepListener & PrimitiveRecorder;

/** Names of layouts that are kept; shapes that never repeat must not grow the table. */
const LAYOUT_CAPACITY = 4096;
/** Bits of dnnl_cpu_isa_t. */
const ISA_AVX2 = 0x7;
const ISA_AVX512_CORE = 0x20;
const ISA_AVX512_CORE_BF16 = 0x80;
const ISA_AVX512_CORE_AMX = 0x200;

export interface RuntimeOptions extends MemoryPoolOptions {
  /** OpenMP threads of this JavaScript thread. Default: what OpenMP says (OMP_NUM_THREADS, or every core). */
  readonly threads?: number;
  /** Logical cores that the calling thread and its OpenMP threads run on. Default: where the system puts them. Linux only. */
  readonly cores?: readonly number[];
  /** How many compiled primitives are kept. Default 2048. */
  readonly cacheCapacity?: number;
  /** Whether f32 convolutions may use Winograd's algorithm, which rounds a little more. Default true, unless LOCKSTEP_WINOGRAD=0. */
  readonly winograd?: boolean;
  /** Whether steps that are alike are recorded and replayed (see program.ts). Default true, unless LOCKSTEP_RECORDING=0. */
  readonly recording?: boolean;
  /** Whether kernels may be code that is made here, where the CPU has AVX-512. Default true, unless LOCKSTEP_CODE=0. */
  readonly code?: boolean;
}

/** Tensors that somebody wants to see when a step is over, and that are kept until then. */
export interface Observation {
  observe(): void;
  dispose(): void;
}

/** One thread's oneDNN. */
export class Runtime implements StorageHost {
  readonly dnnl: Dnnl;
  readonly pool: MemoryPool;
  /** Channels per block that the CPU's vectors want: 16 with AVX-512, 8 otherwise. */
  readonly channelBlock: 8 | 16;
  readonly isa: number;
  /** True where bf16 arithmetic is an instruction. */
  readonly hasBf16: boolean;
  /** True where vectors are 512 bits wide, which oneDNN needs to emulate bf16. */
  readonly hasAvx512: boolean;
  /** True where the CPU multiplies bf16 tiles (AMX); those kernels read channels-last memory. */
  readonly hasAmx: boolean;
  /** Whether convolutions may use Winograd's algorithm. */
  readonly winograd: boolean;
  /** Whether steps may be recorded. */
  readonly recording: boolean;
  /** Where code of our own runs; null where there is none: the CPU has no AVX-512, or it is switched off. */
  readonly machine: Machine | null;
  /** What kernels need besides their operands; a recording holds its size. */
  readonly scratchpad: Scratchpad;
  readonly #cache: CompileCache<{ destroy(): void }>;
  readonly #listeners: PrimitiveListeners & { recorder: RuntimeRecorder | null } = { observer: null, recorder: null };
  readonly #openmp: OpenMp | null;
  #threads: number;
  /** While a primitive is made that runs on one thread. */
  #isAlone = false;
  /** Who holds recordings, and so memory that is given back under pressure. */
  readonly programs = new Set<{ dispose(): void }>();
  #endOfStep: Observation[] | null = null;
  /** Told, in words, what became of recording a step. */
  onProgram: (text: string) => void = () => {};
  readonly #layouts = new Map<string, MemoryDescriptor>();
  readonly #sameMemory = new Map<MemoryDescriptor, MemoryDescriptor>();
  readonly #warned = new Set<string>();

  constructor(options: RuntimeOptions = {}) {
    // Before OpenMP makes threads: they inherit where they may run.
    if (options.cores) pinToCores(options.cores);
    this.winograd = options.winograd ?? isOn('winograd', process.env);
    this.recording = options.recording ?? isOn('recording', process.env);
    const loaded = loadLibrary();
    this.dnnl = bindDnnl(loaded);
    this.isa = loaded.library.func('int dnnl_get_effective_cpu_isa()')() as number;
    this.channelBlock = (this.isa & ISA_AVX512_CORE) !== 0 ? 16 : 8;
    this.hasAvx512 = (this.isa & ISA_AVX512_CORE) !== 0;
    this.hasBf16 = (this.isa & ISA_AVX512_CORE_BF16) !== 0;
    this.hasAmx = (this.isa & ISA_AVX512_CORE_AMX) !== 0;
    this.machine = this.hasAvx512 && (options.code ?? isOn('code', process.env)) ? loadMachine() : null;
    this.pool = new MemoryPool(options);
    this.pool.onPressure = () => {
      if (this.recorder !== null || this.programs.size === 0) return false;
      for (const program of this.programs) program.dispose();
      return true;
    };
    this.scratchpad = new Scratchpad(this.pool);
    this.#cache = new CompileCache(options.cacheCapacity);
    this.#openmp = loadOpenMp();
    this.#threads = this.#openmp?.get() ?? 1;
    if (options.threads !== undefined) this.threads = options.threads;
  }

  /** OpenMP threads that primitives started by this JavaScript thread use (the setting is per thread). */
  get threads(): number {
    return this.#threads;
  }

  set threads(count: number) {
    if (!Number.isInteger(count) || count < 1) {
      throw new RangeError(`threads must be a positive integer, got ${count}.`);
    }
    if (!this.#openmp) return;
    this.#openmp.set(count);
    this.#threads = count;
  }

  /** Whether the CPU has the wide vectors that blocked layouts are made for; without them everything still works. */
  get isVectorized(): boolean {
    return (this.isa & ISA_AVX2) === ISA_AVX2;
  }

  /** Who is told about every primitive that runs; null is nobody. For tracing and for the convolution bound. */
  set observer(observer: PrimitiveObserver | null) {
    this.#listeners.observer = observer;
  }

  /** What listens to the step that is being recorded; null outside of one. */
  get recorder(): RuntimeRecorder | null {
    return this.#listeners.recorder;
  }

  set recorder(recorder: RuntimeRecorder | null) {
    this.#listeners.recorder = recorder;
  }

  /**
   * Runs a loop over memory that stays where it is; a replay runs it again.
   * @param constants what the loop was made with: a step that makes it with others cannot be replayed.
   */
  host(run: () => void, ...constants: (number | string)[]): void {
    run();
    this.recorder?.host(run, constants);
  }

  /**
   * Runs what is no part of the step that is being recorded: the recorder does not hear of it, and its memory is not the
   * recording's, which a replay would write to.
   */
  outside(run: () => void): void {
    const { recorder } = this;
    if (recorder === null) {
      run();
      return;
    }
    this.recorder = null;
    const arena = this.pool.leave();
    try {
      run();
    } finally {
      this.recorder = recorder;
      this.pool.return(arena);
    }
  }

  /** What is to be observed when the step that runs is over; null if none runs. See {@link runStep}. */
  get endOfStep(): Observation[] | null {
    return this.#endOfStep;
  }

  /** Runs a step, then what is to be observed at its end. A step within a step has no end of its own. */
  runStep(step: () => void): void {
    if (this.#endOfStep !== null) {
      step();
      return;
    }
    const observations: Observation[] = [];
    this.#endOfStep = observations;
    try {
      step();
      for (const { observe } of observations) observe();
    } finally {
      this.#endOfStep = null;
      for (const { dispose } of observations) dispose();
    }
  }

  /** Finds something out about what is in memory, now and in every replay. */
  judge(find: () => boolean): Verdict {
    const verdict = { holds: find() };
    this.recorder?.judge(verdict, find);
    return verdict;
  }

  get compiledCount(): number {
    return this.#cache.size;
  }

  /** The compiled thing for `key`, made by `compile` if it is not there. */
  compiled<T extends { destroy(): void }>(key: string, compile: () => T): T {
    return this.#cache.get(key, compile) as T;
  }

  /** A primitive from its descriptor, which it consumes. */
  primitive(descriptor: PrimitiveDescriptor, args: readonly PrimitiveArgument[], label: string): Primitive {
    if (descriptor.implementation.startsWith('ref')) this.#warnReference(label, descriptor.implementation);
    const alone = (isQuick(args) || this.#isAlone) && this.#openmp ? this.#alone : null;
    return new Primitive(this.dnnl, this.scratchpad, descriptor, args, label, this.#listeners, alone);
  }

  /** Code of our own, to be run by a machine: this runtime has one where there is code at all. */
  codePrimitive(machine: Machine, options: CodeOptions): CodePrimitive {
    return new CodePrimitive(machine, this.scratchpad, this.#listeners, options);
  }

  /**
   * Makes a primitive that is a matrix product; a small one runs on one thread. oneDNN deals a product out to threads when it is described,
   * so it is described on one thread, too.
   * @param products multiplications in it
   */
  product(products: number, make: () => Primitive): Primitive {
    if (products > QUICK_PRODUCTS) return make();
    this.#isAlone = true;
    try {
      return this.#alone(make);
    } finally {
      this.#isAlone = false;
    }
  }

  readonly #alone = <T>(execute: () => T): T => {
    if (this.#threads === 1) return execute();
    this.#openmp?.set(1);
    try {
      return execute();
    } finally {
      this.#openmp?.set(this.#threads);
    }
  };

  reorder(from: number, fromLayout: MemoryDescriptor, to: number, toLayout: MemoryDescriptor): void {
    this.compiled(`reorder ${fromLayout.id} ${toLayout.id}`, () => {
      const descriptor = this.dnnl.reorder(fromLayout, toLayout);
      if (!descriptor) throw new OneDnnError(`oneDNN: no reorder for [${fromLayout.dims}] ${fromLayout.dataType}.`);
      const args = [[Arg.src, fromLayout] as const, [Arg.dst, toLayout] as const];
      return this.primitive(descriptor, args, `reorder [${fromLayout.dims}]`);
    }).run(from, to);
  }

  /** Declares that `other` puts every element where `descriptor` does, so that data needs no conversion between them. */
  nameSameMemory(descriptor: MemoryDescriptor, other: MemoryDescriptor): void {
    if (this.#sameMemory.size >= LAYOUT_CAPACITY) this.#sameMemory.clear();
    this.#sameMemory.set(descriptor, other);
  }

  /** Whether data in one layout can be read as the other. */
  isSameMemory(a: MemoryDescriptor, b: MemoryDescriptor): boolean {
    return a === b || this.#sameMemory.get(a) === b || this.#sameMemory.get(b) === a;
  }

  /** A descriptor made once per name: describing one costs ten times as much as looking it up. */
  layout(name: string, describe: () => MemoryDescriptor): MemoryDescriptor {
    let descriptor = this.#layouts.get(name);
    if (descriptor === undefined) {
      if (this.#layouts.size >= LAYOUT_CAPACITY) this.#layouts.clear();
      descriptor = describe();
      this.#layouts.set(name, descriptor);
    }
    return descriptor;
  }

  /** Row-major descriptor of any shape. */
  rowMajor(shape: readonly number[], dataType: DataTypeName = 'f32'): MemoryDescriptor {
    return this.layout(`row ${dataType} ${shape}`, () =>
      this.dnnl.descriptor(shape, dataType, { strides: rowMajorStrides(shape) }),
    );
  }

  /** Drops recordings, compiled primitives and free memory. */
  trim(): void {
    for (const program of this.programs) program.dispose();
    this.#cache.clear();
    this.pool.trim();
  }

  #warnReference(label: string, implementation: string): void {
    const kind = label.split(' ')[0] as string;
    if (this.#warned.has(kind)) return;
    this.#warned.add(kind);
    process.emitWarning(
      `oneDNN has only its slow reference implementation (${implementation}) for ${label}; this is reported once per kind.`,
      { type: 'OneDnnPerformanceWarning' },
    );
  }
}

const ELEMENTWISE: ReadonlySet<number> = new Set([Arg.src, Arg.src1, Arg.dst, Arg.diffSrc, Arg.diffDst]);
/** Bytes that one thread moves in about the time that it takes to wake up another. */
export const QUICK_BYTES = 3 * 2 ** 18;
/** Multiplications of a matrix product that one thread has done by then. */
const QUICK_PRODUCTS = 2 ** 20;

/** True for element-wise work so small that a second thread does not pay. */
function isQuick(args: readonly PrimitiveArgument[]): boolean {
  let bytes = 0;
  for (const [index, { byteLength }] of args) {
    if (!ELEMENTWISE.has(index)) return false;
    bytes += byteLength;
  }
  return bytes <= QUICK_BYTES;
}

export function rowMajorStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= Math.max(1, shape[axis] as number);
  }
  return strides;
}

/** Options that an environment variable switches off, and what 0 and 1 mean. */
const SWITCHES = {
  winograd: ['LOCKSTEP_WINOGRAD', '0 computes every convolution directly', 'leaves Winograd on'],
  code: ['LOCKSTEP_CODE', '0 computes everything with oneDNN', 'lets kernels be code made here'],
  recording: ['LOCKSTEP_RECORDING', '0 leaves every step to TensorFlow.js', 'lets steps be recorded'],
} as const;

/** 0 is no, 1 and nothing are yes; anything else is a RangeError. */
function isOn(option: keyof typeof SWITCHES, environment: NodeJS.ProcessEnv): boolean {
  const [name, off, on] = SWITCHES[option];
  const value = environment[name] ?? '';
  if (value === '' || value === '1') return true;
  if (value === '0') return false;
  throw new RangeError(`${name}=${value} is neither 0 nor 1.\nhelp: ${off}; 1, or no such variable, ${on}.`);
}

/** @throws RangeError for a switch that means nothing. */
export function checkSwitches(environment: NodeJS.ProcessEnv): void {
  for (const option of Object.keys(SWITCHES)) isOn(option as keyof typeof SWITCHES, environment);
}
