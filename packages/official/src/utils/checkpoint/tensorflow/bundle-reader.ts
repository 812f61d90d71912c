/**
 * TensorFlow's checkpoint bundles, version 2 (tensorflow/core/util/tensor_bundle): `PREFIX.index`, a table from names to where a tensor is,
 * and `PREFIX.data-0000k-of-0000n` with nothing but the tensors' bytes. A tensor is read when it is asked for, and its CRC-32C is checked.
 * Keys are variables' names; that of the header is empty, and one that begins with a zero byte is a piece of a partitioned variable.
 */
import { BinaryReader } from '@bufbuild/protobuf/wire';
import { crc32c, maskCrc } from '../../files/crc32c.js';
import { quoted } from '../../files/quoted.js';
import { pieces, withFile } from '../positioned-file.js';
import { TensorFileError } from '../safetensors.js';
import { type Dtype, dtypeOf, type TensorValues } from './dtypes.js';
import { type BundleEntry, type BundleHeader, decodeEntry, decodeHeader } from './messages.js';
import { hex, readTable } from './table.js';

export const INDEX_ENDING = '.index';
/** The version of the format that is read here. */
export const BUNDLE_VERSION = 1;
/** Names alone do not fill so much: a longer index is an attack or garbage. */
const MAX_INDEX_BYTES = 100_000_000;

/** What a bundle says of a tensor. */
export interface BundleTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** The path of a data file. */
export function dataPath(prefix: string, shard: number, shards: number): string {
  const digits = (value: number) => String(value).padStart(5, '0');
  return `${prefix}.data-${digits(shard)}-of-${digits(shards)}`;
}

/** A bundle that is open for reading; nothing of it stays open between calls. */
export class TensorBundle {
  /** By name, in the order of the names' bytes. */
  readonly tensors: ReadonlyMap<string, BundleTensor>;
  readonly #entries: ReadonlyMap<string, BundleEntry>;
  readonly #header: BundleHeader;

  /**
   * @param prefix the path without `.index`
   * @throws TensorFileError (about the index file, its name left out) for what is none, is damaged, or has what is not read here.
   */
  constructor(readonly prefix: string) {
    const [head, ...rest] = readTable(readIndex(`${prefix}${INDEX_ENDING}`));
    if (head?.key.length !== 0) throw new TensorFileError('is an index without a header, so not that of a checkpoint');
    this.#header = message('', head.value, decodeHeader);
    checkHeader(this.#header);
    const entries = new Map<string, BundleEntry>();
    const tensors = new Map<string, BundleTensor>();
    for (const { key, value } of rest) {
      // Pieces of partitioned variables; the variable itself stands under its name.
      if (key[0] === 0) continue;
      const name = Buffer.from(key).toString('utf8');
      const entry = message(name, value, decodeEntry);
      const dtype = dtypeOf(entry.dtype);
      const shape = checkEntry(name, entry, dtype, this.#header.shards);
      entries.set(name, entry);
      tensors.set(name, { name, dtype, shape });
    }
    this.#entries = entries;
    this.tensors = tensors;
  }

  /**
   * A tensor's values, copied.
   * @throws TensorFileError naming the data file, the tensor and its place, if they are not what they should be; RangeError for a name
   *   that is not there.
   */
  read(name: string): TensorValues {
    const entry = this.#entries.get(name);
    const dtype = this.tensors.get(name)?.dtype;
    if (!entry || !dtype) throw new RangeError(`there is no tensor ${quoted(name)} in ${this.prefix}.`);
    if (dtype.decode === undefined && dtype.name !== 'string') {
      throw new TensorFileError(`has tensor ${quoted(name)} of type ${dtype.name}, which is not read here`);
    }
    const path = dataPath(this.prefix, entry.shard, this.#header.shards);
    const where = `tensor ${quoted(name)}, ${entry.size} bytes at byte ${entry.offset}`;
    try {
      const bytes = withFile(path, (read, size) => {
        if (entry.offset + entry.size > size)
          throw new TensorFileError(`is cut off: ${where}, and it has ${size} in all`);
        const target = reserve(entry.size, where);
        read(target, entry.offset);
        return target;
      });
      if (dtype.decode === undefined) return decodeStrings(bytes, entry, where);
      let checksum = 0;
      for (const piece of pieces(bytes)) checksum = crc32c(piece, checksum);
      verify(maskCrc(checksum), entry.checksum, where);
      return dtype.decode(bytes.buffer);
    } catch (error) {
      if (!(error instanceof TensorFileError)) throw error;
      throw new TensorFileError(`names the data file ${path}, which ${error.message}`, { cause: error.cause });
    }
  }
}

function readIndex(path: string): Uint8Array {
  return withFile(path, (read, size) => {
    if (size > MAX_INDEX_BYTES) throw new TensorFileError(`is ${size} bytes long, too long for an index file`);
    const bytes = new Uint8Array(size);
    read(bytes, 0);
    return bytes;
  });
}

function message<T>(name: string, value: Uint8Array, decode: (bytes: Uint8Array) => T): T {
  try {
    return decode(value);
  } catch (error) {
    const whose = name === '' ? 'its header' : `its entry for tensor ${quoted(name)}`;
    throw new TensorFileError(`is damaged: ${whose} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

function checkHeader({ shards, isBigEndian, minConsumer }: BundleHeader): void {
  if (isBigEndian) {
    throw new TensorFileError('was written on a big-endian machine, which is not read here: save it on another');
  }
  if (minConsumer > BUNDLE_VERSION) {
    throw new TensorFileError(`is of version ${minConsumer} of the format, and version ${BUNDLE_VERSION} is read here`);
  }
  if (shards < 1) throw new TensorFileError(`is damaged: it names ${shards} data files`);
}

/** @returns the shape */
function checkEntry(name: string, entry: BundleEntry, { name: type, bytes }: Dtype, shards: number): readonly number[] {
  const { shape, shard, size, slices } = entry;
  if (slices > 0) {
    throw new TensorFileError(
      `has variable ${quoted(name)} in ${slices} pieces: partitioned variables are not read here; save it without a partitioner`,
    );
  }
  if (shape === null) throw new TensorFileError(`is damaged: tensor ${quoted(name)} has no shape`);
  if (shard < 0 || shard >= shards) {
    throw new TensorFileError(`is damaged: tensor ${quoted(name)} is in data file ${shard} of ${shards}`);
  }
  const count = shape.reduce((a, b) => a * b, 1);
  if (bytes !== null && count * bytes !== size) {
    throw new TensorFileError(
      `is damaged: tensor ${quoted(name)} of ${type} [${shape}] has ${size} bytes, not ${count * bytes}`,
    );
  }
  return shape;
}

function reserve(size: number, where: string): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(size);
  } catch (error) {
    throw new TensorFileError(`has more than fits into memory: ${where}`, { cause: error });
  }
}

/**
 * Lengths as varints, a checksum of the lengths, and the texts. The checksums are over the lengths as 32-bit numbers (64-bit ones from 4 GiB
 * on), and the tensor's over the first checksum's bytes and the texts as well.
 */
function decodeStrings(bytes: Uint8Array, entry: BundleEntry, where: string): Uint8Array[] {
  const count = (entry.shape ?? []).reduce((a, b) => a * b, 1);
  // A length is a byte at least: no count that the bytes cannot hold takes memory.
  if (count > bytes.length) throw new TensorFileError(`is damaged: ${where}, cannot hold ${count} texts`);
  const reader = new BinaryReader(bytes);
  const lengths: number[] = [];
  try {
    for (let i = 0; i < count; i++) lengths.push(Number(reader.uint64()));
  } catch (error) {
    throw new TensorFileError(`is damaged: ${where}, ends within the lengths of its texts`, { cause: error });
  }
  const begin = reader.pos + 4;
  const total = lengths.reduce((a, b) => a + b, begin);
  if (total !== bytes.length) {
    throw new TensorFileError(
      `is damaged: ${where}, has texts of ${total - begin} bytes and room for ${bytes.length - begin}`,
    );
  }
  let checksum = lengths.reduce((before, length) => crc32c(lengthBytes(length), before), 0);
  const stored = new DataView(bytes.buffer, bytes.byteOffset).getUint32(reader.pos, true);
  verify(maskCrc(checksum), stored, `the lengths of ${where}`);
  for (const piece of pieces(bytes.subarray(reader.pos))) checksum = crc32c(piece, checksum);
  verify(maskCrc(checksum), entry.checksum, where);
  let at = begin;
  return lengths.map((length) => {
    at += length;
    return bytes.subarray(at - length, at);
  });
}

/** A text's length as its checksum takes it. */
export function lengthBytes(length: number): Uint8Array {
  const isLong = length > 0xffffffff;
  const bytes = new Uint8Array(isLong ? 8 : 4);
  const view = new DataView(bytes.buffer);
  if (isLong) view.setBigUint64(0, BigInt(length), true);
  else view.setUint32(0, length, true);
  return bytes;
}

function verify(found: number, expected: number, where: string): void {
  if (found === expected) return;
  throw new TensorFileError(`is damaged: ${where}, has the CRC-32C ${hex(found)}, not ${hex(expected)}`);
}
