/** Chooses the binding for the library's API generation, by what `dnnl_version()` says. */
import { type Dnnl, OneDnnError } from './dnnl.js';
import { bindV2 } from './dnnl-v2.js';
import { bindV3 } from './dnnl-v3.js';
import { LIBRARY_VARIABLE, type LoadedLibrary } from './library.js';
import { installCommand } from './system-package.js';

/** @throws OneDnnError for a version that no binding knows. */
export function bindDnnl(loaded: LoadedLibrary): Dnnl {
  const { major, minor, patch } = loaded.version;
  if (major === 2 && minor >= 6) return bindV2(loaded);
  if (major === 3) return bindV3(loaded);
  throw new OneDnnError(
    `oneDNN ${major}.${minor}.${patch} (${loaded.path}) is not supported; this backend binds 2.6, 2.7 and 3.x.\n` +
      `help: ${installCommand()}, or name another file with ${LIBRARY_VARIABLE}.`,
  );
}
