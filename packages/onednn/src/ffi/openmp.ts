/**
 * libgomp, the OpenMP runtime that oneDNN's threads are made by: how many there are, and how long one that waits keeps its core.
 *
 * By default a thread spins for milliseconds before it sleeps. That is good on a machine that does nothing else, and bad on any other: the
 * thread that it waits for may need that very core. Spinning is bounded such that threads of an idle machine hardly ever fall asleep
 * within a step, and a neighbour gets its core after some tenths of a millisecond. `lockstep bench busy` and docs/busy-machines.md show both.
 */
import { dirname, join } from 'node:path';
import koffi from 'koffi';
import { loadLibc, pinner } from './pin-library.js';

/** GCC's OpenMP, as Linux names it. */
export const LIBGOMP = 'libgomp.so.1';

/** Read by libgomp when it is loaded, and never again. */
const SPIN_VARIABLE = 'GOMP_SPINCOUNT';
/** Whoever sets one of these decides for himself. */
const USERS = [SPIN_VARIABLE, 'OMP_WAIT_POLICY'];
/** Rounds of a waiting thread, of some ten nanoseconds each. libgomp's own: 300,000. */
const SPINS = 50_000;

export interface OpenMp {
  get(): number;
  set(count: number): void;
}

/**
 * Loads libgomp for good, with spinning bounded unless the environment says otherwise. Without effect if the process has it already.
 * @param user path of the library that needs it: it is taken from that folder where the system has none. The loader gives it to the
 *   library by its name.
 */
export function pinOpenMp(environment: NodeJS.ProcessEnv, user = ''): void {
  const libc = loadLibc();
  const pin = pinner(libc);
  const load = (): void => {
    if (!pin(LIBGOMP) && user.includes('/')) pin(join(dirname(user), LIBGOMP));
  };
  if (USERS.some((name) => environment[name] !== undefined)) {
    load();
    return;
  }
  // process.env of a worker thread is a copy; the library reads the process's. Child processes decide anew.
  libc.func('int setenv(const char *name, const char *value, int overwrite)')(SPIN_VARIABLE, String(SPINS), 1);
  load();
  libc.func('int unsetenv(const char *name)')(SPIN_VARIABLE);
}

/** The calling thread's number of threads; null where oneDNN has no OpenMP that is known: then it cannot be set. */
export function loadOpenMp(): OpenMp | null {
  const names = process.platform === 'linux' ? [LIBGOMP, 'libiomp5.so'] : ['libomp.dylib'];
  for (const name of names) {
    try {
      const library = koffi.load(name);
      return {
        get: library.func('int omp_get_max_threads()') as unknown as () => number,
        set: library.func('void omp_set_num_threads(int)') as unknown as (count: number) => void,
      };
    } catch {
      // The next name, or a oneDNN built without OpenMP.
    }
  }
  return null;
}
