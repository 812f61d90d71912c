/**
 * The module that a replica runs: which it may be, and how it is loaded.
 *
 * A replica that starts replicas of its own module would go on without end: each loads the module, and the module's last lines start
 * the next ones. So a thread remembers which module it runs, and whether it is still being loaded.
 */
import { host } from '#host';
import type { ReplicaContext } from './replica-context.js';

/** The default export of a module that strategies run. */
export type ReplicaFunction = (context: ReplicaContext, args: unknown) => unknown;

let own: string | null = null;
let isLoading = false;

/** In a replica's thread: its module's default export. @param url see {@link checkModule} */
export async function loadReplica(url: string): Promise<ReplicaFunction> {
  own = withoutQuery(url);
  isLoading = true;
  const replica = await importDefault<ReplicaFunction>(url, 'replica module');
  isLoading = false;
  return replica;
}

/** @throws TypeError naming the module if its default export is no function. @param what 'backend module' */
export async function importDefault<T>(url: string, what: string): Promise<T> {
  const module = (await host.importModule(url)) as { default?: T | { default?: T } };
  const exported = module.default;
  if (typeof exported === 'function') return exported;
  // CommonJS that a compiler made of a module: the whole of its exports is the default one.
  if (
    typeof exported === 'object' &&
    exported !== null &&
    typeof (exported as { default?: T }).default === 'function'
  ) {
    return (exported as { default: T }).default;
  }
  const names = Object.keys(module).filter((name) => name !== 'default' && name !== 'module.exports');
  throw new TypeError(
    `The ${what} ${url} has no function as its default export${names.length > 0 ? `; it exports ${names.join(', ')}` : ''}.\n` +
      'help: export default async function train(context, args) { … }',
  );
}

/**
 * What strategy.run() is to start, in whatever thread that is, as a URL: a relative name would be relative to a worker's own file.
 * @throws TypeError for what is no URL; Error in a replica's thread while its module is loaded, or for the module that it runs itself.
 */
export function checkModule(module: URL | string): string {
  const url = String(module);
  if (!URL.canParse(url)) {
    throw new TypeError(
      `strategy.run() needs the URL of a module, got '${url}'.\nhelp: new URL('./train.js', import.meta.url)`,
    );
  }
  if (own === null || (!isLoading && withoutQuery(url) !== own)) return url;
  throw new Error(
    `strategy.run() was called in a replica, ${isLoading ? `while ${own} was loaded` : `by ${own}, which the replica runs`}: ` +
      'every replica would start replicas of its own, without end.\n' +
      "help: put the lines that start the run behind `if (isMainThread) { … }` (import { isMainThread } from 'node:worker_threads'), or " +
      'into a file of their own.',
  );
}

function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/s, '');
}
