/**
 * Finds oneDNN's shared library, pins it, and loads it.
 *
 * Pinning is not optional: libgomp's pool threads outlive the closing of the library at process exit, and an unpinned
 * library ends the process with a segmentation fault. `dlopen(RTLD_NODELETE)` before first use keeps code and thread
 * functions mapped until the kernel tears the process down, in worker threads too.
 */
import { existsSync } from 'node:fs';
import koffi, { type LibraryHandle } from 'koffi';
import { pinOpenMp } from './openmp.js';

/** The environment variable that names the library file, before every other place. */
export const LIBRARY_VARIABLE = 'LOCKSTEP_DNNL_LIBRARY';

const RTLD_NOW = 0x2;
const RTLD_NODELETE = 0x1000;

/** oneDNN could not be found or loaded. The message lists what was tried and what to install. */
export class OneDnnNotFoundError extends Error {
  override readonly name = 'OneDnnNotFoundError';
}

/**
 * The places where oneDNN is looked for, in order: `LOCKSTEP_DNNL_LIBRARY` alone if it is set, otherwise the loader's own
 * path (`LD_LIBRARY_PATH`, ldconfig) by soname, oldest supported API first, then the usual folders.
 */
export function librarySearchOrder(environment: NodeJS.ProcessEnv = process.env): string[] {
  const named = environment[LIBRARY_VARIABLE];
  if (named) return [named];
  if (process.platform === 'darwin') {
    return ['libdnnl.dylib', '/opt/homebrew/lib/libdnnl.dylib', '/usr/local/lib/libdnnl.dylib'];
  }
  if (process.platform === 'win32') return ['dnnl.dll'];
  const folders = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/local/lib'];
  const names = ['libdnnl.so.2', 'libdnnl.so.3', 'libdnnl.so.3.6'];
  return [...names, ...folders.flatMap((folder) => names.map((name) => `${folder}/${name}`)).filter(existsSync)];
}

/** A loaded library, the name it was found by, and its version. */
export interface LoadedLibrary {
  readonly library: LibraryHandle;
  readonly path: string;
  readonly version: { readonly major: number; readonly minor: number; readonly patch: number };
}

/**
 * Loads oneDNN from the first place that has it.
 * @throws OneDnnNotFoundError when no place has it, with what to install.
 */
export function loadLibrary(environment: NodeJS.ProcessEnv = process.env): LoadedLibrary {
  const tried: string[] = [];
  for (const path of librarySearchOrder(environment)) {
    try {
      pin(path);
      const library = koffi.load(path);
      const pointer = library.func('uintptr_t dnnl_version()')() as number;
      const [major, minor, patch] = koffi.decode(pointer, 'int', 3) as Int32Array;
      return { library, path, version: { major, minor, patch } };
    } catch (error) {
      tried.push(`${path} (${(error as Error).message.split('\n')[0]})`);
    }
  }
  throw new OneDnnNotFoundError(
    `oneDNN was not found. Tried: ${tried.join('; ')}.\n` +
      'help: on Debian or Ubuntu run `apt-get install libdnnl2` (Debian 13: libdnnl3.6), or set ' +
      `${LIBRARY_VARIABLE} to the path of libdnnl.so; without oneDNN, TensorFlow.js' slow backend is --backend=cpu.`,
  );
}

function pin(path: string): void {
  if (process.platform === 'win32') return;
  const libc = koffi.load(process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6');
  const dlopen = libc.func('uintptr_t dlopen(const char *path, int flags)');
  if (process.platform === 'linux') pinOpenMp(process.env);
  dlopen(path, RTLD_NOW | (process.platform === 'linux' ? RTLD_NODELETE : 0x80));
}
