/**
 * A replica that starts replicas of its own module would go on without end: each loads the module, and the module's last lines start
 * the next ones. So a thread remembers which module it runs, and whether it is still being loaded.
 */

let own: string | null = null;
let isLoading = false;

/** In a replica's thread, before its module is loaded. @param module its URL */
export function enterReplica(module: string): void {
  own = withoutQuery(module);
  isLoading = true;
}

/** The module has been loaded; the replica function begins. */
export function leaveStart(): void {
  isLoading = false;
}

/**
 * @param module the URL of what strategy.run() is to start, in whatever thread that is
 * @throws Error in a replica's thread while its module is loaded, or for the module that it runs itself.
 */
export function checkNotOwn(module: string): void {
  if (own === null || (!isLoading && withoutQuery(module) !== own)) return;
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
