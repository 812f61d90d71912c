/**
 * The safetensors format (https://github.com/huggingface/safetensors): eight bytes of header length, a JSON header with
 * name, dtype, shape and place of every tensor, then the bytes. Any tool of the field reads it, and reading runs no code.
 *
 * Files are read and written piece by piece, at positions: one of many gigabytes needs no buffer of its size. What a header
 * may say is checked before any data is read (safetensors-header.ts).
 */
import { joined } from '../files/bytes.js';
import { quoted } from '../files/quoted.js';
import { pieces, type Read, withFile } from './positioned-file.js';
import {
  headerLength,
  parseHeader,
  TensorFileError,
  type TensorHeader,
  type TensorPlace,
} from './safetensors-header.js';

export { pieces } from './positioned-file.js';
export { TensorFileError } from './safetensors-header.js';

/** Tensors that a file holds: f32, or int32. */
export interface StoredTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array;
}

export interface TensorFile {
  readonly tensors: Readonly<Record<string, StoredTensor>>;
  /** Text by name, in the header's `__metadata__`. */
  readonly metadata: Readonly<Record<string, string>>;
}

const ALIGNMENT = 8;

/**
 * A file's bytes, piece by piece. Tensors lie in the order of their names' insertion.
 * @throws RangeError for what could not be read again: a tensor named `__metadata__`, a shape of another size than its values,
 *   metadata that is no text.
 */
export function* tensorFilePieces({ tensors, metadata }: TensorFile): Generator<Uint8Array, void> {
  for (const [name, text] of Object.entries(metadata)) {
    if (typeof text !== 'string') throw new RangeError(`metadata ${quoted(name)} of a safetensors file must be text.`);
  }
  const header: [string, unknown][] = [['__metadata__', metadata]];
  let offset = 0;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    if (name === '__metadata__') throw new RangeError("a tensor of a safetensors file cannot be named '__metadata__'.");
    if (shape.reduce((a, b) => a * b, 1) !== values.length) {
      throw new RangeError(`tensor ${quoted(name)} of shape [${shape}] has ${values.length} values.`);
    }
    const end = offset + values.byteLength;
    header.push([name, { dtype: values instanceof Int32Array ? 'I32' : 'F32', shape, data_offsets: [offset, end] }]);
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const length = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  const first = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(first.buffer).setBigUint64(0, BigInt(length), true);
  first.set(json, 8);
  yield first;
  for (const { values } of Object.values(tensors)) yield* pieces(values);
}

/** The whole file's bytes, of one that is small enough for that. @throws as {@link tensorFilePieces}. */
export function encodeTensorFile(file: TensorFile): Uint8Array {
  return joined([...tensorFilePieces(file)]);
}

/**
 * Reads a file's bytes; values are copies.
 * @throws TensorFileError if the bytes are no safetensors file, are cut off, or have what this reader does not know.
 */
export function decodeTensorFile(bytes: Uint8Array): TensorFile {
  const read = (target: Uint8Array, position: number) => target.set(bytes.subarray(position, position + target.length));
  return readTensors(read, bytes.length);
}

/**
 * Reads a file, at positions and no more than it needs: what is no safetensors file costs its first bytes only.
 * @throws TensorFileError as {@link decodeTensorFile}, and for what is no regular file or cannot be read; `cause` is the
 *   system's error then.
 */
export function readTensorFile(path: string): TensorFile {
  return withFile(path, readTensors);
}

/** A file's header alone: names, shapes, metadata. @throws as {@link readTensorFile}. */
export function readTensorHeader(path: string): TensorHeader {
  return withFile(path, (read, size) => readHeader(read, size).header);
}

function readHeader(read: Read, size: number): { header: TensorHeader; data: number } {
  const first = new Uint8Array(8);
  if (size >= 8) read(first, 0);
  const length = headerLength(first, size);
  const bytes = new Uint8Array(length);
  read(bytes, 8);
  const data = 8 + length;
  return { header: parseHeader(bytes, size - data), data };
}

function readTensors(read: Read, size: number): TensorFile {
  const { header, data } = readHeader(read, size);
  for (const { name, dtype } of header.places) {
    if (dtype !== 'F32' && dtype !== 'I32') {
      throw new TensorFileError(`has tensor ${quoted(name)} of unknown dtype ${dtype}: only F32 and I32 are read here`);
    }
  }
  const tensors = header.places.map((place) => [place.name, readTensor(place, read, data)] as const);
  return { tensors: Object.fromEntries(tensors), metadata: header.metadata };
}

function readTensor({ name, dtype, shape, begin, end }: TensorPlace, read: Read, data: number): StoredTensor {
  let values: Float32Array | Int32Array;
  try {
    values = dtype === 'F32' ? new Float32Array((end - begin) / 4) : new Int32Array((end - begin) / 4);
  } catch (error) {
    throw new TensorFileError(`has ${end - begin} bytes for tensor ${quoted(name)}, more than fit into memory`, {
      cause: error,
    });
  }
  read(new Uint8Array(values.buffer), data + begin);
  return { shape, values };
}
