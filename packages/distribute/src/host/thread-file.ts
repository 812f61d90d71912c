/**
 * The files of this package that run as threads of their own. They are found beside the file that starts them, which is no longer so
 * when a bundler has put everything into one file.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker, type WorkerOptions } from 'node:worker_threads';

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
  const ofProgram = /^(--input-type|--test)(=|-|$)|^(-e|-p|-pe|--eval|--print|-i|--interactive|-c|--check)$/;
  return without(flags, (flag) => ofProgram.test(flag));
}

/**
 * A thread with this process's flags, as {@link threadFlags} has them. Those of V8 and of the whole process (`--max-old-space-size`,
 * `--title`; on Node 26 `node --test` adds a dozen) hold in its threads anyway, and Node refuses to start one that is given them: which
 * those are, it says itself.
 */
export function startOwnThread(file: URL, options: WorkerOptions): Worker {
  let execArgv = threadFlags();
  for (;;) {
    try {
      return new Worker(file, { ...options, execArgv });
    } catch (error) {
      const taken = withoutRefused(execArgv, error as Error & { code?: string });
      if (taken.length === execArgv.length) throw error;
      execArgv = taken;
    }
  }
}

/** The flags but for those that the error names. */
function withoutRefused(flags: readonly string[], { code, message }: Error & { code?: string }): string[] {
  // A value may have commas in it as well.
  const named = `, ${message.slice(message.indexOf(': ') + 2)}, `;
  return without(flags, (flag) => code === 'ERR_WORKER_INVALID_EXEC_ARGV' && named.includes(`, ${flag}, `));
}

/** The flags but for some, and for the words after those, which are their values. */
function without(flags: readonly string[], isOut: (flag: string) => boolean): string[] {
  let isLeftOut = false;
  return flags.filter((word) => {
    if (word.startsWith('-')) isLeftOut = isOut(word);
    return !isLeftOut;
  });
}
