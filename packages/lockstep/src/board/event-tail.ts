/**
 * Reads an event file as it grows. A record whose end is not there yet is waited for; one that is damaged ends the file, and is said. No
 * file stays open, so a thousand of them can be followed.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { maskedCrc32c } from '@lockstep/official/utils/files/crc32c';
import { reasonOf } from '@lockstep/official/utils/files/file-errors';
import { type Plugins, scanEvent, type ValueVisitor } from './event-scan.js';

const HEADER_BYTES = 12;
const FOOTER_BYTES = 4;
/** Read at once: what others on this thread wait for. */
const SLICE_BYTES = 4 * 2 ** 20;
/** A record of more is no event. */
const MAX_RECORD_BYTES = 256 * 2 ** 20;

export class EventTail {
  /** How far it is read. */
  offset = 0;
  /** Why nothing more will be read, in words. */
  problem: string | null = null;
  /** Bytes that wait for their end. */
  waiting = 0;
  readonly #plugins: Plugins = new Map();

  constructor(readonly path: string) {}

  /**
   * Reads on, a slice of what is there.
   * @returns whether there may be more at once
   */
  read(visitor: ValueVisitor): boolean {
    if (this.problem !== null) return false;
    try {
      return this.#read(visitor);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      this.problem = `cannot be read: ${reasonOf(error)}`;
      return false;
    }
  }

  #read(visitor: ValueVisitor): boolean {
    const descriptor = openSync(this.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const { size } = fstatSync(descriptor);
      let slice = this.#slice(descriptor, Math.min(SLICE_BYTES, size - this.offset));
      let at = 0;
      while (slice.length - at >= HEADER_BYTES) {
        const length = slice.readUInt32LE(at);
        const isSane = slice.readUInt32LE(at + 4) === 0 && length <= MAX_RECORD_BYTES;
        if (!isSane || maskedCrc32c(slice.subarray(at, at + 8)) !== slice.readUInt32LE(at + 8)) return this.#damaged();
        const frame = HEADER_BYTES + length + FOOTER_BYTES;
        if (slice.length - at < frame) {
          if (at > 0 || size - this.offset < frame) break;
          // Larger than a slice.
          slice = this.#slice(descriptor, frame);
          if (slice.length < frame) break;
        }
        const event = slice.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
        if (maskedCrc32c(event) !== slice.readUInt32LE(at + HEADER_BYTES + length)) return this.#damaged();
        try {
          scanEvent(event, visitor, this.#plugins);
        } catch (error) {
          this.problem = `holds no event at byte ${this.offset} (${(error as Error).message}); what is before it is shown`;
          return false;
        }
        at += frame;
        this.offset += frame;
      }
      this.waiting = size - this.offset;
      return this.waiting > 0 && at > 0;
    } finally {
      closeSync(descriptor);
    }
  }

  #damaged(): false {
    this.problem = `is damaged at byte ${this.offset}; what is before it is shown`;
    return false;
  }

  #slice(descriptor: number, length: number): Buffer {
    const bytes = Buffer.allocUnsafe(Math.max(0, length));
    let read = 0;
    while (read < bytes.length) {
      const more = readSync(descriptor, bytes, read, bytes.length - read, this.offset + read);
      if (more === 0) break;
      read += more;
    }
    return bytes.subarray(0, read);
  }
}
