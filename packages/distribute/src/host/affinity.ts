/**
 * Which logical CPUs this process may use, and binding the calling thread to some of them.
 *
 * Linux only (`sched_getaffinity`, `sched_setaffinity`); elsewhere the first gives 0..n−1 and the second does nothing,
 * because macOS has no such call and Windows' groups are not worth it for a thread pool of our size. A failure to bind is
 * never an error: the scheduler then does what it always did.
 */
import { availableParallelism } from 'node:os';
import koffi from 'koffi';

/** 1,024 CPUs, glibc's `cpu_set_t`. */
const MASK_BYTES = 128;

interface Scheduler {
  get(pid: number, bytes: number, mask: Uint8Array): number;
  set(pid: number, bytes: number, mask: Uint8Array): number;
}

/**
 * Logical CPUs on which the main thread of this process may run, ascending. Containers, `taskset` and `mpirun --bind-to`
 * narrow it. The main thread is asked whichever thread calls, because replicas' threads are bound to a share of it.
 */
export function allowedCpus(): number[] {
  const mask = new Uint8Array(MASK_BYTES);
  const scheduler = loadScheduler();
  if (!scheduler || scheduler.get(process.pid, MASK_BYTES, mask) < 0) {
    return Array.from({ length: availableParallelism() }, (_, cpu) => cpu);
  }
  const cpus: number[] = [];
  for (let cpu = 0; cpu < MASK_BYTES * 8; cpu++) {
    if (((mask[cpu >> 3] as number) >> (cpu & 7)) & 1) cpus.push(cpu);
  }
  return cpus;
}

/**
 * Binds the calling thread, and every thread that it starts later (OpenMP's), to these logical CPUs.
 * @returns false where that is impossible; the thread then runs anywhere.
 */
export function bindThread(cpus: readonly number[]): boolean {
  const scheduler = loadScheduler();
  if (!scheduler || cpus.length === 0) return false;
  const mask = new Uint8Array(MASK_BYTES);
  for (const cpu of cpus) if (cpu < MASK_BYTES * 8) mask[cpu >> 3] = (mask[cpu >> 3] as number) | (1 << (cpu & 7));
  return scheduler.set(0, MASK_BYTES, mask) === 0;
}

/** Logical CPUs to which the calling thread is bound, or null where that cannot be known. */
export function threadCpus(): number[] | null {
  const mask = new Uint8Array(MASK_BYTES);
  const scheduler = loadScheduler();
  if (!scheduler || scheduler.get(0, MASK_BYTES, mask) < 0) return null;
  return Array.from({ length: MASK_BYTES * 8 }, (_, cpu) => cpu).filter(
    (cpu) => ((mask[cpu >> 3] as number) >> (cpu & 7)) & 1,
  );
}

function loadScheduler(): Scheduler | null {
  if (process.platform !== 'linux') return null;
  try {
    // null is the process itself: Node already links the C library, whatever its file is called.
    const libc = koffi.load(null);
    return {
      get: libc.func('int sched_getaffinity(int pid, size_t bytes, void *mask)') as unknown as Scheduler['get'],
      set: libc.func('int sched_setaffinity(int pid, size_t bytes, void *mask)') as unknown as Scheduler['set'],
    };
  } catch {
    return null;
  }
}
