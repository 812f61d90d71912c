/**
 * Finds oneDNN's shared library, pins it, and loads it.
 *
 * Pinning is not optional: libgomp's pool threads outlive the closing of the library at process exit, and an unpinned
 * library ends the process with a segmentation fault. `dlopen(RTLD_NODELETE)` before first use keeps code and thread
 * functions mapped until the kernel tears the process down, in worker threads too.
 */
import { readdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import koffi, { type LibraryHandle } from 'koffi';
import { pinOpenMp } from './openmp.js';
import { loadLibc, pinner } from './pin-library.js';
import { installCommand } from './system-package.js';

/** The environment variable that names the library's file, or a folder that has it, before every other place. */
export const LIBRARY_VARIABLE = 'LOCKSTEP_DNNL_LIBRARY';

/** oneDNN could not be found or loaded. The message lists what was tried and what to install. */
export class OneDnnNotFoundError extends Error {
  override readonly name = 'OneDnnNotFoundError';

  constructor(message: string) {
    super(message);
    // Where TensorFlow.js wanted its backend is of no use to whoever has to install a library. LOCKSTEP_STACK=1 shows it.
    if (!process.env.LOCKSTEP_STACK) this.stack = `OneDnnNotFoundError: ${message}`;
  }
}

/** Where a library lies in a folder, and in one that a package was unpacked to (`dpkg -x`). */
const PLACES = ['', 'usr/lib/x86_64-linux-gnu', 'usr/lib/aarch64-linux-gnu', 'lib', 'lib64', 'usr/lib', 'usr/lib64'];
/** Versions that are bound; `libdnnl.so` alone is of an unknown one. */
const LINUX_FILE = /^libdnnl\.so\.[23](\.\d+)*$/;

/** Where a user without root puts the library: searched after the system's folders. */
export function userFolder(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment.HOME || homedir(), '.local', 'lib', 'lockstep');
}

/**
 * The places where oneDNN is looked for, in order: `LOCKSTEP_DNNL_LIBRARY` alone if it is set (a file, or a folder and what a package
 * was unpacked to in it), otherwise the loader's own path (`LD_LIBRARY_PATH`, ldconfig) by soname, oldest supported API first, then
 * the usual folders, then the user's own (`~/.local/lib/lockstep`).
 */
export function librarySearchOrder(environment: NodeJS.ProcessEnv = process.env): string[] {
  return [...searchOrder(environment)];
}

/** One by one: folders are read only where the loader does not know the library. */
function* searchOrder(environment: NodeJS.ProcessEnv): Generator<string> {
  const named = environment[LIBRARY_VARIABLE];
  if (named) {
    if (isFolder(named)) yield* filesBelow(named);
    else yield named;
  } else if (process.platform === 'darwin') {
    yield* ['libdnnl.dylib', '/opt/homebrew/lib/libdnnl.dylib', '/usr/local/lib/libdnnl.dylib'];
  } else if (process.platform === 'win32') {
    yield 'dnnl.dll';
  } else {
    yield* ['libdnnl.so.2', 'libdnnl.so.3', 'libdnnl.so.3.6'];
    for (const folder of ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/local/lib']) {
      yield* filesIn(folder);
    }
    yield* filesBelow(userFolder(environment));
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function filesBelow(folder: string): string[] {
  return PLACES.flatMap((place) => filesIn(join(folder, place)));
}

/** Files of a folder that may be oneDNN, oldest first. */
function filesIn(folder: string): string[] {
  if (!isFolder(folder)) return [];
  return readdirSync(folder)
    .filter((name) => LINUX_FILE.test(name))
    .sort()
    .map((name) => join(folder, name));
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
  /** Places by what went wrong there. */
  const tried = new Map<string, string[]>();
  const fail = (path: string, why: string) => tried.set(why, [...(tried.get(why) ?? []), path]);
  for (const path of searchOrder(environment)) {
    try {
      pin(path);
      const library = koffi.load(path);
      const pointer = library.func('uintptr_t dnnl_version()')() as number;
      const [major, minor, patch] = koffi.decode(pointer, 'int', 3) as Int32Array;
      return { library, path, version: { major, minor, patch } };
    } catch (error) {
      const [line] = (error as Error).message.split('\n') as [string];
      fail(path, line.replace('Failed to load shared library: ', '').replace(`${path}: `, ''));
    }
  }
  if (tried.size === 0) fail(`${environment[LIBRARY_VARIABLE]}`, 'a folder without libdnnl.so.2 or libdnnl.so.3');
  const places = [...tried].map(([why, paths]) => `${paths.join(', ')} (${why})`);
  throw new OneDnnNotFoundError(
    `oneDNN was not found. Tried: ${places.join('; ')}.\n` +
      `help: ${installCommand()}; without root, unpack it to ${userFolder(environment)} (docs/backend.md says how), or set ` +
      `${LIBRARY_VARIABLE} to its file or folder. TensorFlow.js' slow kernels instead: --backend=cpu, or in a program ` +
      "`await tf.setBackend('cpu')` before the first tensor.",
  );
}

function pin(path: string): void {
  if (process.platform === 'win32') return;
  if (process.platform === 'linux') pinOpenMp(process.env, path);
  pinner(loadLibc())(path);
}
