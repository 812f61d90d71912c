/**
 * `dlopen` of the C library, for libraries that must stay: one that is loaded with RTLD_NODELETE is mapped until the kernel tears the
 * process down, whoever closes it.
 */
import koffi, { type LibraryHandle } from 'koffi';

const RTLD_NOW = 0x2;
const RTLD_NODELETE = process.platform === 'darwin' ? 0x80 : 0x1000;

/** The C library of this process. Not on Windows. */
export function loadLibc(): LibraryHandle {
  return koffi.load(process.platform === 'darwin' ? 'libSystem.B.dylib' : 'libc.so.6');
}

/** @returns a function that loads a library, by its path or its name, for good, and says whether it could */
export function pinner(libc: LibraryHandle): (path: string) => boolean {
  const dlopen = libc.func('uintptr_t dlopen(const char *path, int flags)');
  return (path) => Boolean(dlopen(path, RTLD_NOW | RTLD_NODELETE));
}
