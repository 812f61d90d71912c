/**
 * TFRecord files: records one after another, each framed by its length and two checksums, lowest byte first:
 *
 *     length u64 · masked CRC-32C of the length u32 · the bytes · masked CRC-32C of the bytes u32
 *
 * (TensorFlow, core/lib/io/record_writer.cc.) A file is walked once for the places of its records; each is then read by its place.
 * What a record holds is somebody else's business (example.ts).
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { writeAll } from '../utils/files/bytes.js';
import { maskedCrc32c } from '../utils/files/crc32c.js';
import { reasonOf } from '../utils/files/file-errors.js';
import { DataError } from './data-error.js';

const HEADER_BYTES = 12;
const FOOTER_BYTES = 4;

/** Of a record and its frame. @param length bytes of what it holds */
export const frameBytes = (length: number): number => HEADER_BYTES + length + FOOTER_BYTES;

/** Where a record lies. */
export interface RecordPlace {
  /** Of its frame in the file. */
  readonly offset: number;
  /** Bytes of what it holds. */
  readonly length: number;
}

/** A frame is damaged. */
export class RecordError extends DataError {
  /** @param what is wrong with it */
  constructor(file: string, offset: number, what: string) {
    super(
      `${file}: the record at offset ${offset} ${what}.\n` +
        'help: the file is damaged or no TFRecord file; copy or make it again.',
    );
  }
}

/**
 * Places of all records of a file, in order. Reads their headers alone, and checks these.
 * @throws RecordError naming the file and the offset: cut off, or a length with a wrong checksum
 */
export function* recordPlaces(file: string): Generator<RecordPlace> {
  const descriptor = naming(file, () => openSync(file, 'r'));
  try {
    const { size } = naming(file, () => fstatSync(descriptor));
    const header = new Uint8Array(HEADER_BYTES);
    for (let offset = 0; offset < size; ) {
      const read = naming(file, () => readSync(descriptor, header, 0, HEADER_BYTES, offset));
      if (read < HEADER_BYTES) {
        throw new RecordError(file, offset, `is cut off: there are ${read} of its header's ${HEADER_BYTES} bytes`);
      }
      const length = lengthOf(header, file, offset);
      const end = offset + frameBytes(length);
      if (end > size) throw new RecordError(file, offset, cutOff(length, size - offset));
      yield { offset, length };
      offset = end;
    }
  } finally {
    closeSync(descriptor);
  }
}

/**
 * What a record holds.
 * @throws RecordError naming the file and the offset: cut off, another length than at its place, or a wrong checksum
 */
export async function readRecord(file: string, { offset, length }: RecordPlace): Promise<Uint8Array> {
  const frame = new Uint8Array(frameBytes(length));
  let read = 0;
  try {
    const handle = await open(file, 'r');
    try {
      while (read < frame.length) {
        const { bytesRead } = await handle.read(frame, read, frame.length - read, offset + read);
        if (bytesRead === 0) break;
        read += bytesRead;
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw cannotRead(file, error);
  }
  return recordIn(frame.subarray(0, read), file, { offset, length });
}

/**
 * What a frame holds: a view of it.
 * @param frame what could be read of it
 * @throws RecordError as {@link readRecord}
 */
export function recordIn(frame: Uint8Array, file: string, { offset, length }: RecordPlace): Uint8Array {
  if (frame.length < frameBytes(length)) throw new RecordError(file, offset, cutOff(length, frame.length));
  const found = lengthOf(frame, file, offset);
  if (found !== length) throw new RecordError(file, offset, `has ${found} bytes, and had ${length} before`);
  const bytes = frame.subarray(HEADER_BYTES, HEADER_BYTES + length);
  const stored = new DataView(frame.buffer, frame.byteOffset).getUint32(HEADER_BYTES + length, true);
  if (maskedCrc32c(bytes) !== stored) throw new RecordError(file, offset, `of ${length} bytes has a wrong CRC`);
  return bytes;
}

/** All records of a file, one after another. @throws RecordError as {@link recordPlaces} and {@link readRecord} */
export async function* readRecords(file: string): AsyncGenerator<Uint8Array> {
  for (const place of recordPlaces(file)) yield await readRecord(file, place);
}

/** A record with its frame. */
export function frameRecord(bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(frameBytes(bytes.length));
  const view = new DataView(frame.buffer);
  view.setBigUint64(0, BigInt(bytes.length), true);
  view.setUint32(8, maskedCrc32c(frame.subarray(0, 8)), true);
  frame.set(bytes, HEADER_BYTES);
  view.setUint32(HEADER_BYTES + bytes.length, maskedCrc32c(bytes), true);
  return frame;
}

/** Writes a file, record by record. The caller gives it its final name when it is whole. */
export class RecordWriter {
  readonly #descriptor: number;

  /** @throws DataError where the file cannot be made, or is there */
  constructor(private readonly file: string) {
    this.#descriptor = naming(file, () => openSync(file, 'wx'), 'written');
  }

  write(bytes: Uint8Array): void {
    const frame = frameRecord(bytes);
    naming(this.file, () => writeAll(this.#descriptor, frame), 'written');
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

function lengthOf(header: Uint8Array, file: string, offset: number): number {
  const view = new DataView(header.buffer, header.byteOffset);
  if (maskedCrc32c(header.subarray(0, 8)) !== view.getUint32(8, true)) {
    throw new RecordError(file, offset, 'has a length with a wrong CRC');
  }
  return Number(view.getBigUint64(0, true));
}

function cutOff(length: number, there: number): string {
  return `is cut off: there are ${there} of its ${frameBytes(length)} bytes`;
}

function naming<T>(file: string, action: () => T, verb = 'read'): T {
  try {
    return action();
  } catch (error) {
    throw cannotRead(file, error, verb);
  }
}

function cannotRead(file: string, error: unknown, verb = 'read'): DataError {
  const help = verb === 'read' ? 'see what it is with `ls -l`' : 'choose a folder that you may write to';
  return new DataError(`${file} cannot be ${verb}: ${reasonOf(error)}.\nhelp: ${help}.`, { cause: error });
}
