/**
 * Sorted tables of keys and values, as LevelDB and TensorFlow's `.index` files are (github.com/google/leveldb, doc/table_format.md): blocks
 * of entries, of which each names how much of the key before it it shares; behind each block a byte for its compression and its masked
 * CRC-32C; an index block with the place of every block; a footer with the place of that, and the magic number. Every block is checked.
 */
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { joined } from '../../files/bytes.js';
import { crc32c, maskCrc } from '../../files/crc32c.js';
import { TensorFileError } from '../safetensors.js';
import { uncompressSnappy } from './snappy.js';

export interface TableEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** The place of a block, its trailer left out. */
interface Handle {
  readonly offset: number;
  readonly size: number;
}

const FOOTER_BYTES = 48;
const MAGIC = 0xdb4775248b80fb57n;
/** The byte for the compression, and the checksum. */
const TRAILER_BYTES = 5;
const STORED = 0;
const SNAPPY = 1;
/** As TensorFlow writes them: bytes after which a block is full, and entries after which a key is whole again. */
const BLOCK_BYTES = 262_144;
const RESTART_INTERVAL = 16;

/**
 * @param file all bytes of it
 * @returns the entries in the order of their keys
 * @throws TensorFileError naming the byte where the file is none, is damaged or cut off
 */
export function readTable(file: Uint8Array): TableEntry[] {
  if (file.length < FOOTER_BYTES) {
    throw new TensorFileError(`is ${file.length} bytes long, too short for an index file of TensorFlow's`);
  }
  const footer = file.length - FOOTER_BYTES;
  const magic = viewOf(file).getBigUint64(file.length - 8, true);
  if (magic !== MAGIC) {
    throw new TensorFileError(
      `is no index file of TensorFlow's, or is cut off: it ends with 0x${magic.toString(16)}, not 0x${MAGIC.toString(16)}`,
    );
  }
  const index = parsing(footer, 'its footer', () => {
    const reader = new BinaryReader(file.subarray(footer, file.length - 8));
    readHandle(reader);
    return readHandle(reader);
  });
  const entries: TableEntry[] = [];
  for (const { value } of readBlock(file, index)) {
    const handle = parsing(index.offset, 'its index block', () => readHandle(new BinaryReader(value)));
    for (const entry of readBlock(file, handle)) {
      const before = entries.at(-1)?.key;
      if (before && compareBytes(before, entry.key) >= 0) {
        throw new TensorFileError(`is damaged: keys of the block at byte ${handle.offset} are not in order`);
      }
      entries.push(entry);
    }
  }
  return entries;
}

/** A table's bytes. @param entries their keys ascending, none twice @throws RangeError if they are not */
export function writeTable(entries: Iterable<TableEntry>): Uint8Array {
  const parts: Uint8Array[] = [];
  let offset = 0;
  const write = (block: Uint8Array): Uint8Array => {
    const trailer = new Uint8Array(TRAILER_BYTES);
    trailer[0] = STORED;
    const checksum = crc32c(trailer.subarray(0, 1), crc32c(block));
    viewOf(trailer).setUint32(1, maskCrc(checksum), true);
    const handle = new BinaryWriter().uint64(offset).uint64(block.length).finish();
    parts.push(block, trailer);
    offset += block.length + TRAILER_BYTES;
    return handle;
  };
  const index = new BlockWriter(1);
  let block = new BlockWriter(RESTART_INTERVAL);
  let last: Uint8Array | null = null;
  const flush = (next: Uint8Array | null) => {
    if (last) index.add({ key: next ? separator(last, next) : successor(last), value: write(block.finish()) });
    block = new BlockWriter(RESTART_INTERVAL);
  };
  for (const entry of entries) {
    if (last && compareBytes(last, entry.key) >= 0) throw new RangeError('keys of a table must ascend.');
    if (block.size >= BLOCK_BYTES) flush(entry.key);
    block.add(entry);
    last = entry.key;
  }
  flush(null);
  const meta = write(new BlockWriter(1).finish());
  const indexHandle = write(index.finish());
  const footer = new Uint8Array(FOOTER_BYTES);
  footer.set(meta);
  footer.set(indexHandle, meta.length);
  viewOf(footer).setBigUint64(FOOTER_BYTES - 8, MAGIC, true);
  return joined([...parts, footer]);
}

/** The order of keys: by bytes, and a beginning before what it begins. */
export function compareBytes(left: Uint8Array, right: Uint8Array): number {
  return Buffer.compare(left, right);
}

/** A short key from `last` up to, and not with, `next`: as LevelDB shortens them. */
function separator(last: Uint8Array, next: Uint8Array): Uint8Array {
  let shared = 0;
  while (shared < last.length && last[shared] === next[shared]) shared++;
  const byte = last[shared];
  if (byte === undefined || byte === 0xff || byte + 1 >= (next[shared] as number)) return last;
  return Uint8Array.of(...last.subarray(0, shared), byte + 1);
}

/** A short key behind `last`, with nothing to come. */
function successor(last: Uint8Array): Uint8Array {
  const at = last.findIndex((byte) => byte !== 0xff);
  return at < 0 ? last : Uint8Array.of(...last.subarray(0, at), (last[at] as number) + 1);
}

function readBlock(file: Uint8Array, { offset, size }: Handle): TableEntry[] {
  const end = offset + size;
  if (end + TRAILER_BYTES > file.length) {
    throw new TensorFileError(
      `is damaged or cut off: it names a block of ${size} bytes at byte ${offset}, and has ${file.length}`,
    );
  }
  const kind = file[end] as number;
  const found = maskCrc(crc32c(file.subarray(offset, end + 1)));
  const expected = viewOf(file).getUint32(end + 1, true);
  if (found !== expected) {
    throw new TensorFileError(
      `is damaged: the block at byte ${offset} has the CRC-32C ${hex(found)}, not ${hex(expected)}`,
    );
  }
  if (kind !== STORED && kind !== SNAPPY) {
    throw new TensorFileError(
      `has a block at byte ${offset} of unknown compression ${kind}: none and Snappy are read here`,
    );
  }
  const stored = file.subarray(offset, end);
  return parsing(offset, 'a block', () => parseBlock(kind === SNAPPY ? uncompressSnappy(stored) : stored));
}

/** Entries one after the other; the list of those with whole keys, which is for searching, is only stepped over. */
function parseBlock(block: Uint8Array): TableEntry[] {
  if (block.length < 4) throw new RangeError('it has no list of restarts');
  const restarts = viewOf(block).getUint32(block.length - 4, true);
  const end = block.length - 4 - 4 * restarts;
  if (end < 0) throw new RangeError(`${restarts} restarts do not fit into it`);
  const reader = new BinaryReader(block.subarray(0, end));
  const entries: TableEntry[] = [];
  let key = new Uint8Array(0);
  while (reader.pos < end) {
    const [shared, own, length] = [reader.uint32(), reader.uint32(), reader.uint32()];
    const { pos } = reader;
    if (shared > key.length || pos + own + length > end)
      throw new RangeError(`its entry ${entries.length} does not fit into it`);
    const whole = new Uint8Array(shared + own);
    whole.set(key.subarray(0, shared));
    whole.set(block.subarray(pos, pos + own), shared);
    key = whole;
    entries.push({ key, value: block.subarray(pos + own, pos + own + length) });
    reader.pos = pos + own + length;
  }
  return entries;
}

/** Puts one block together. */
class BlockWriter {
  readonly #parts: Uint8Array[] = [];
  readonly #restarts: number[] = [0];
  #count = 0;
  #last = new Uint8Array(0);
  size = 0;

  constructor(private readonly restartInterval: number) {}

  add({ key, value }: TableEntry): void {
    const isWhole = this.#count % this.restartInterval === 0;
    if (isWhole && this.#count > 0) this.#restarts.push(this.size);
    let shared = 0;
    if (!isWhole) while (shared < key.length && key[shared] === this.#last[shared]) shared++;
    const own = key.subarray(shared);
    const head = new BinaryWriter().uint32(shared).uint32(own.length).uint32(value.length).finish();
    for (const part of [head, own, value]) {
      this.#parts.push(part);
      this.size += part.length;
    }
    this.#last = key.slice();
    this.#count++;
  }

  finish(): Uint8Array {
    const restarts = Uint32Array.of(...this.#restarts, this.#restarts.length);
    return joined([...this.#parts, new Uint8Array(restarts.buffer)]);
  }
}

function readHandle(reader: BinaryReader): Handle {
  const [offset, size] = [Number(reader.uint64()), Number(reader.uint64())];
  if (!Number.isSafeInteger(offset + size)) throw new RangeError(`it names a block of ${size} bytes at byte ${offset}`);
  return { offset, size };
}

/** What is wrong within bytes becomes what is wrong with the file. */
function parsing<T>(offset: number, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new TensorFileError(`is damaged: ${what} at byte ${offset} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

/** A checksum as people write it. */
export function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
