/**
 * Standard error as a terminal, from any thread. In a worker's thread process.stderr is a relay to the main thread, which knows of no
 * terminal; the file behind it does.
 */
import { isatty, WriteStream } from 'node:tty';
import { isMainThread } from 'node:worker_threads';

/** What progress is written to; any NodeJS.WriteStream is one. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  /** Width of the terminal, if it is one. */
  readonly columns?: number;
  write(text: string): unknown;
}

const STDERR = 2;
/** A worker hears of no change of the window's size: it looks again so often. */
const LOOK_MS = 1000;

/** Where progress goes unless a program says otherwise: standard output stays for results. */
export function standardError(): ProgressStream {
  return isMainThread ? process.stderr : new Relay();
}

class Relay implements ProgressStream {
  readonly isTTY = isatty(STDERR);
  #columns: number | undefined;
  #lookedAt = Number.NEGATIVE_INFINITY;

  get columns(): number | undefined {
    if (this.isTTY && performance.now() - this.#lookedAt >= LOOK_MS) {
      this.#lookedAt = performance.now();
      try {
        // A handle of its own on the terminal, for a moment.
        const terminal = new WriteStream(STDERR);
        this.#columns = terminal.columns;
        terminal.destroy();
      } catch {
        this.#columns = undefined;
      }
    }
    return this.#columns as number;
  }

  write(text: string): boolean {
    return process.stderr.write(text);
  }
}
