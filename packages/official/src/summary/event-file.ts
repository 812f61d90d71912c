/**
 * TensorBoard's event files: `events.out.tfevents.SECONDS.HOST…`, TFRecord frames of Event messages that are only ever appended. A crash
 * loses what was not yet flushed, and at most cuts off the last record: reading goes on up to it.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { frameBytes, frameRecord, RecordError, recordIn, recordPlaces } from '../data/tfrecord.js';
import { writeAll } from '../utils/files/bytes.js';
import { reasonOf } from '../utils/files/file-errors.js';
import { decodeEvent, type Event, encodeEvent, FILE_VERSION } from './event.js';

/** What a run may lose. */
const FLUSH_MS = 2000;
/** So much is not kept back, however fast it comes. */
const MAX_BUFFERED = 2 ** 18;

export interface EventFileOptions {
  /** Told once, where the file cannot be written; the run goes on without it. */
  readonly warn: (line: string) => void;
  /** Seconds since 1970. Default: the clock. */
  readonly now?: () => number;
}

/** See the file's head. The file is made with the first event. */
export class EventFileWriter {
  readonly #now: () => number;
  readonly #warn: (line: string) => void;
  #file: string | null = null;
  #descriptor: number | null = null;
  #buffered: Uint8Array[] = [];
  #bytes = 0;
  #timer: NodeJS.Timeout | null = null;
  #isBroken = false;

  constructor(
    private readonly folder: string,
    { warn, now = () => Date.now() / 1000 }: EventFileOptions,
  ) {
    this.#now = now;
    this.#warn = warn;
  }

  /** Null before the first event. */
  get file(): string | null {
    return this.#file;
  }

  add(event: Omit<Event, 'wallTime'>): void {
    if (this.#isBroken) return;
    if (this.#file === null) {
      // TensorBoard looks for the beginning; --clean (utils/misc/clean-model-dir.ts) knows ours by the end.
      const name = `events.out.tfevents.${Math.floor(this.#now())}.${hostname()}.${process.pid}.lockstep`;
      this.#file = path.join(this.folder, name);
      this.#append({ fileVersion: FILE_VERSION });
    }
    this.#append(event);
    if (this.#bytes >= MAX_BUFFERED) this.flush();
    else if (this.#timer === null) {
      this.#timer = setTimeout(() => this.flush(), FLUSH_MS);
      // A run that is over does not wait for it: close() writes what is left.
      this.#timer.unref();
    }
  }

  flush(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#file === null || this.#isBroken || this.#bytes === 0) return;
    const bytes = Buffer.concat(this.#buffered);
    this.#buffered = [];
    this.#bytes = 0;
    try {
      this.#descriptor ??= openSync(this.#file, 'a');
      writeAll(this.#descriptor, bytes);
    } catch (error) {
      this.#isBroken = true;
      this.#warn(
        `warning: ${this.#file} cannot be written: ${reasonOf(error)}; the run goes on without summaries.\n` +
          'help: --save_summary_steps=0 leaves them out.',
      );
    }
  }

  close(): void {
    this.flush();
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
    this.#isBroken = true;
  }

  #append(event: Omit<Event, 'wallTime'>): void {
    const frame = frameRecord(encodeEvent({ ...event, wallTime: this.#now() }));
    this.#buffered.push(frame);
    this.#bytes += frame.length;
  }
}

/**
 * All events of a file, of any program's, up to where it is cut off or damaged.
 * @throws DataError where the file cannot be read
 */
export function* readEvents(file: string): Generator<Event> {
  const descriptor = openSync(file, 'r');
  try {
    for (const place of recordPlaces(file)) {
      const frame = new Uint8Array(frameBytes(place.length));
      let read = 0;
      while (read < frame.length) {
        const more = readSync(descriptor, frame, read, frame.length - read, place.offset + read);
        if (more === 0) break;
        read += more;
      }
      yield decodeEvent(recordIn(frame.subarray(0, read), file, place));
    }
  } catch (error) {
    if (!(error instanceof RecordError)) throw error;
  } finally {
    closeSync(descriptor);
  }
}
