/**
 * Machine code that was made here, and OpenMP to run it on a team of threads: the one that oneDNN's primitives have, so that a kernel of ours
 * between two of theirs finds its threads awake.
 */
import koffi from 'koffi';
import { LIBGOMP } from '../ffi/openmp.js';
import { loadLibc } from '../ffi/pin-library.js';

const PROT = { read: 1, write: 2, execute: 4 } as const;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_FAILED = 2 ** 64;
const RTLD = { now: 2, noLoad: 4 } as const;

/** Functions that code calls. */
export interface OpenMpAddresses {
  /** GOMP_barrier: where a team's threads wait for each other. */
  readonly barrier: number;
  /** omp_get_thread_num */
  readonly thread: number;
  /** omp_get_num_threads */
  readonly threads: number;
}

/** What kernels are run with. */
export interface Machine {
  readonly openMp: OpenMpAddresses;
  /** @returns where the code lies, which may be run and no longer written. @throws Error if the system refuses */
  load(code: Uint8Array): number;
  unload(address: number, byteLength: number): void;
  /**
   * Runs the code on every thread of a team, each with the same argument.
   * @param threads in the team; 0: as many as the calling thread has
   */
  run(code: number, argument: number, threads: number): void;
}

let machine: Machine | null | undefined;

/**
 * Null where code of ours cannot run: another system than Linux on x86-64, one without libgomp, or one that lets nobody run what was written
 * to memory.
 */
export function loadMachine(): Machine | null {
  if (machine === undefined) machine = process.platform === 'linux' && process.arch === 'x64' ? bind() : null;
  return machine;
}

/** `ret` */
const NOTHING = Uint8Array.of(0xc3);

function bind(): Machine | null {
  const libc = loadLibc();
  const dlopen = libc.func('uintptr_t dlopen(const char *path, int flags)');
  const dlsym = libc.func('uintptr_t dlsym(uintptr_t library, const char *name)');
  const mmap = libc.func('uintptr_t mmap(uintptr_t, size_t, int, int, int, long)');
  const mprotect = libc.func('int mprotect(uintptr_t, size_t, int)');
  const munmap = libc.func('int munmap(uintptr_t, size_t)');
  const memcpy = libc.func('void memcpy(uintptr_t target, const uint8_t *source, size_t)');
  const openMp = dlopen(LIBGOMP, RTLD.now | RTLD.noLoad);
  if (!openMp) return null;
  const [barrier, thread, threads] = ['GOMP_barrier', 'omp_get_thread_num', 'omp_get_num_threads'].map((name) =>
    Number(dlsym(openMp, name)),
  ) as [number, number, number];
  const parallel = koffi
    .load(LIBGOMP)
    .func('void GOMP_parallel(uintptr_t code, uintptr_t argument, unsigned int threads, unsigned int flags)');
  const bound: Machine = {
    openMp: { barrier, thread, threads },
    load(code) {
      const address = Number(mmap(0, code.length, PROT.read | PROT.write, MAP_PRIVATE_ANONYMOUS, -1, 0));
      if (address >= MAP_FAILED - 4096) throw new Error(`No memory for ${code.length} bytes of machine code.`);
      memcpy(address, code, code.length);
      if (mprotect(address, code.length, PROT.read | PROT.execute) === 0) return address;
      munmap(address, code.length);
      throw new Error('The system lets no memory be run that was written to.\nhelp: LOCKSTEP_CODE=0');
    },
    unload(address, byteLength) {
      munmap(address, byteLength);
    },
    run(code, argument, threads) {
      parallel(code, argument, threads, 0);
    },
  };
  try {
    bound.unload(bound.load(NOTHING), NOTHING.length);
  } catch {
    return null;
  }
  return bound;
}
