/**
 * What a replica prints, on its way to the main thread.
 *
 * A worker thread's own process.stdout hands one piece at a time to the main thread and waits for its event loop before it hands over
 * the next: a synchronous training loop shows nothing until it ends, and a thread that hangs, is terminated or runs out of memory
 * takes the rest with it. So every write is posted at once, in order with the replica's other messages, which Node delivers before
 * the thread's end. A thread that prints faster than the main thread writes is held up, so that memory stays bounded.
 */

/** A piece of output, as it crosses threads. */
export interface OutputMessage {
  readonly type: 'output';
  readonly stream: 'stdout' | 'stderr';
  readonly text: string | Uint8Array;
}

/** Bytes under way from which on a replica waits. */
const MOST_UNDER_WAY = 8 * 2 ** 20;
/** The main thread may be busy, or gone: then memory has to do. */
const LONGEST_WAIT_MS = 1_000;

type Callback = (error?: Error | null) => void;

/**
 * In the replica's thread: its standard output and error go through `post`.
 * @param underWay One shared integer per replica: bytes posted and not yet written.
 */
export function redirectOutput(post: (message: OutputMessage) => void, underWay: Int32Array): void {
  for (const stream of ['stdout', 'stderr'] as const) {
    const write = (chunk: string | Uint8Array, encoding?: BufferEncoding | Callback, callback?: Callback): boolean => {
      const done = typeof encoding === 'function' ? encoding : callback;
      const isText = typeof chunk === 'string' && (typeof encoding !== 'string' || /^utf-?8$/i.test(encoding));
      const text = isText || typeof chunk !== 'string' ? chunk : Buffer.from(chunk, encoding as BufferEncoding);
      const before = Atomics.add(underWay, 0, text.length);
      post({ type: 'output', stream, text });
      if (before > MOST_UNDER_WAY) Atomics.wait(underWay, 0, Atomics.load(underWay, 0), LONGEST_WAIT_MS);
      if (done) queueMicrotask(() => done());
      return true;
    };
    process[stream].write = write as typeof process.stdout.write;
  }
}

/** On the main thread: writes a piece, and lets the replica go on. */
export function writeOutput({ stream, text }: OutputMessage, underWay: Int32Array): void {
  process[stream].write(text);
  Atomics.sub(underWay, 0, text.length);
  Atomics.notify(underWay, 0);
}
