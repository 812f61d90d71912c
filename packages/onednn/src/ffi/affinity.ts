/** Pins the calling thread to cores. OpenMP's threads are made by it later and inherit that. Linux only; elsewhere an error. */
import koffi from 'koffi';

/** glibc's cpu_set_t: 1024 bits. */
const SET_BYTES = 128;

/**
 * @param cores Logical cores, as in /proc/cpuinfo.
 * @throws RangeError for numbers that are none; Error where the system has no affinity or no such core.
 */
export function pinToCores(cores: readonly number[]): void {
  const mask = new Uint8Array(SET_BYTES);
  for (const core of cores) {
    if (!Number.isInteger(core) || core < 0 || core >= 8 * SET_BYTES) {
      throw new RangeError(`cores must be numbers of logical cores, got ${core}.`);
    }
    mask[core >> 3] = (mask[core >> 3] as number) | (1 << (core & 7));
  }
  if (cores.length === 0) throw new RangeError('cores must not be empty.');
  if (process.platform !== 'linux') {
    throw new Error(`Threads cannot be pinned to cores on ${process.platform}.\nhelp: leave the option cores out.`);
  }
  const setAffinity = koffi.load('libc.so.6').func('int sched_setaffinity(int, size_t, void *)') as unknown as (
    pid: number,
    size: number,
    mask: Uint8Array,
  ) => number;
  if (setAffinity(0, SET_BYTES, mask) !== 0) {
    throw new Error(
      `The system refused to pin the thread to cores ${cores.join(', ')}.\nhelp: nproc counts the cores there are.`,
    );
  }
}
