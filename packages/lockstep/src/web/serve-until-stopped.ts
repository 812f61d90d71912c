/** What a command with a page does once its server runs: say where, open a browser on request, and end with Ctrl-C. */
import { spawn } from 'node:child_process';
import type { StaticServer } from './static-server.js';

/** How systems open an address with the program that the user chose for it. */
const OPENERS: Readonly<Partial<Record<NodeJS.Platform, readonly [string, ...string[]]>>> = {
  darwin: ['open'],
  win32: ['explorer.exe'],
};
const OPENER = ['xdg-open'] as const;

export interface ServeOptions {
  /** Begins the line on standard output: 'Digits: http://127.0.0.1:4711/'. */
  readonly title: string;
  /** Open the page in the user's browser. */
  readonly open: boolean;
  /** Ends it, beside SIGINT and SIGTERM. */
  readonly signal?: AbortSignal;
}

/** @returns 0, when it was stopped; the server is closed then */
export async function serveUntilStopped(server: StaticServer, { title, open, signal }: ServeOptions): Promise<number> {
  process.stdout.write(`${title}: ${server.url}\n`);
  process.stderr.write('Ctrl-C ends it.\n');
  if (open) openInBrowser(server.url);
  await new Promise<void>((resolve) => {
    const stop = () => resolve();
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, stop);
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();
  });
  await server.close();
  return 0;
}

/** The address is on the screen, whatever becomes of this. */
function openInBrowser(url: string): void {
  const [program, ...args] = OPENERS[process.platform] ?? OPENER;
  const opener = spawn(program, [...args, url], { stdio: 'ignore', detached: true });
  opener.once('error', () => process.stderr.write(`--open: there is no ${program} here; open ${url} yourself.\n`));
  opener.unref();
}
