/**
 * Finds Open MPI's shared library, pins it, and loads it.
 *
 * It does not start MPI. RTLD_GLOBAL is needed because Open MPI's plug-ins look their symbols up in the global scope;
 * RTLD_NODELETE keeps code mapped that Open MPI's own threads still run while the process ends.
 */
import { existsSync } from 'node:fs';
import koffi, { type LibraryHandle } from 'koffi';

/** The environment variable that names the library file, before every other place. */
export const LIBRARY_VARIABLE = 'LOCKSTEP_MPI_LIBRARY';

const RTLD_NOW = 0x2;
const RTLD_GLOBAL = process.platform === 'darwin' ? 0x8 : 0x100;
const RTLD_NODELETE = process.platform === 'darwin' ? 0x80 : 0x1000;

/** Open MPI could not be found, loaded or used. The message says what was tried and what to install. */
export class MpiNotFoundError extends Error {
  override readonly name = 'MpiNotFoundError';
}

/**
 * The places where Open MPI is looked for, in order: `LOCKSTEP_MPI_LIBRARY` alone if it is set, otherwise the loader's own
 * path by soname (40 in Open MPI 4 and 5 alike), then the usual folders.
 */
export function librarySearchOrder(environment: NodeJS.ProcessEnv = process.env): string[] {
  const named = environment[LIBRARY_VARIABLE];
  if (named) return [named];
  const prefix = environment.MPI_HOME ?? environment.OPAL_PREFIX;
  if (process.platform === 'darwin') {
    const folders = [...(prefix ? [`${prefix}/lib`] : []), '/opt/homebrew/lib', '/usr/local/lib'];
    return [...folders.map((folder) => `${folder}/libmpi.40.dylib`).filter(existsSync), 'libmpi.40.dylib'];
  }
  const folders = [
    '/usr/lib/x86_64-linux-gnu',
    '/usr/lib/aarch64-linux-gnu',
    '/usr/lib64/openmpi/lib',
    '/opt/openmpi/lib',
    '/usr/local/lib',
  ];
  return [
    ...(prefix ? [`${prefix}/lib/libmpi.so.40`].filter(existsSync) : []),
    'libmpi.so.40',
    ...folders.map((folder) => `${folder}/libmpi.so.40`).filter(existsSync),
    'libmpi.so',
  ];
}

/** A loaded library, the name it was found by, and what it says it is. */
export interface LoadedMpi {
  readonly library: LibraryHandle;
  readonly path: string;
  /** '4.1.4' */
  readonly version: string;
}

/**
 * Loads Open MPI from the first place that has it.
 * @throws MpiNotFoundError when no place has it, or when what is there is another MPI.
 */
export function loadMpi(environment: NodeJS.ProcessEnv = process.env): LoadedMpi {
  const tried: string[] = [];
  for (const path of librarySearchOrder(environment)) {
    let library: LibraryHandle;
    try {
      pin(path);
      library = koffi.load(path);
    } catch (error) {
      tried.push(`${path} (${(error as Error).message.split('\n')[0]})`);
      continue;
    }
    return { library, path, version: versionOf(library, path) };
  }
  throw new MpiNotFoundError(
    `Open MPI was not found. Tried: ${tried.join('; ')}.\n` +
      'help: on Debian or Ubuntu run `apt-get install openmpi-bin libopenmpi3` (Debian 13: libopenmpi40), or set ' +
      `${LIBRARY_VARIABLE} to the path of libmpi.so. One machine needs no Open MPI: --distribution_strategy=mirrored.`,
  );
}

/** True if Open MPI can be loaded. For tests and for messages. */
export function isMpiAvailable(environment: NodeJS.ProcessEnv = process.env): boolean {
  try {
    loadMpi(environment);
    return true;
  } catch {
    return false;
  }
}

function versionOf(library: LibraryHandle, path: string): string {
  const text = new Uint8Array(256 * 32);
  const length = new Int32Array(1);
  library.func('int MPI_Get_library_version(void *text, void *length)')(text, length);
  const full = Buffer.from(text.buffer, 0, Math.max(0, (length[0] as number) - 1)).toString();
  const version = /^Open MPI v(\d+(?:\.\w+)*)/.exec(full)?.[1];
  if (version && Number.parseInt(version, 10) >= 4) return version;
  throw new MpiNotFoundError(
    `${path} is '${full.split('\n')[0]?.slice(0, 80)}', and Lockstep needs Open MPI 4 or newer.\n` +
      `help: install Open MPI and set ${LIBRARY_VARIABLE} to its libmpi.so.40; its mpirun must start the program.`,
  );
}

function pin(path: string): void {
  if (process.platform === 'win32') throw new Error('Open MPI does not run on Windows');
  const libc = koffi.load(process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6');
  libc.func('uintptr_t dlopen(const char *path, int flags)')(path, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
}
