/**
 * The files of this package that run as threads of their own. They are found beside the file that starts them, which is no longer so
 * when a bundler has put everything into one file.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/**
 * @param name 'replica-worker.js'
 * @param base import.meta.url of whoever starts the thread
 * @throws Error when the file is not there.
 */
export function threadFile(name: string, base: string): URL {
  const url = new URL(`./${name}`, base);
  if (url.protocol !== 'file:' || existsSync(url)) return url;
  throw new Error(
    `${fileURLToPath(url)} is not there: a bundler has put @lockstep/distribute into one file, and its threads are files of their own.\n` +
      'help: leave packages out of the bundle: esbuild --packages=external, or --external:@lockstep/* --external:@tensorflow/* ' +
      '--external:koffi; Vite: build.ssr with ssr.external = true. docs/bundlers.md says more.',
  );
}

/**
 * This process's own flags as far as they belong to a thread as well: loaders and warnings do, what names the program (`-e`,
 * `--input-type`, `--test`) does not, and Node refuses to start a file with it.
 */
export function threadFlags(flags: readonly string[] = process.execArgv): string[] {
  return flags.filter(
    (flag, i) =>
      !/^(--input-type|--test)(=|-|$)|^(-e|-p|-pe|--eval|--print|-i|--interactive|-c|--check)$/.test(flag) &&
      !/^(-e|-p|-pe|--eval|--print|--input-type)$/.test(flags[i - 1] ?? ''),
  );
}
