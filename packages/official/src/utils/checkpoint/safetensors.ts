/**
 * The safetensors format (https://github.com/huggingface/safetensors): eight bytes of header length, a JSON header with
 * name, dtype, shape and place of every tensor, then the bytes. Any tool of the field reads it, and reading runs no code.
 */

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

/** A file is not what it says, or is cut off. */
export class TensorFileError extends Error {
  override readonly name = 'TensorFileError';
}

const ALIGNMENT = 8;
/** As the reference implementation: a longer header is an attack or garbage. */
const MAX_HEADER = 100_000_000;

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: number[];
  readonly data_offsets: [number, number];
}

/** The whole file's bytes. Tensors lie in the order of their names' insertion. */
export function encodeTensorFile({ tensors, metadata }: TensorFile): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    const end = offset + values.byteLength;
    header[name] = { dtype: values instanceof Int32Array ? 'I32' : 'F32', shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const headerLength = Math.ceil(json.length / ALIGNMENT) * ALIGNMENT;
  const bytes = new Uint8Array(8 + headerLength + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength), true);
  bytes.fill(0x20, 8, 8 + headerLength);
  bytes.set(json, 8);
  let at = 8 + headerLength;
  for (const { values } of Object.values(tensors)) {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return bytes;
}

/**
 * Reads a file's bytes; values are copies.
 * @throws TensorFileError if the bytes are no safetensors file, are cut off, or have what this reader does not know.
 */
export function decodeTensorFile(bytes: Uint8Array): TensorFile {
  if (bytes.length < 8) throw new TensorFileError(`is ${bytes.length} bytes long, too short for a safetensors file`);
  const headerLength = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (headerLength > MAX_HEADER || 8 + headerLength > bytes.length) {
    throw new TensorFileError(`says that its header has ${headerLength} bytes, but has ${bytes.length} in all`);
  }
  let header: Record<string, unknown>;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength))) as Record<string, unknown>;
  } catch {
    throw new TensorFileError('has a header that is not JSON');
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw new TensorFileError('has a header that is no JSON object');
  }
  const data = 8 + headerLength;
  const tensors: Record<string, StoredTensor> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name !== '__metadata__') tensors[name] = decodeTensor(name, value as HeaderEntry | null, bytes, data);
  }
  return { tensors, metadata: (header.__metadata__ ?? {}) as Record<string, string> };
}

function decodeTensor(name: string, entry: HeaderEntry | null, bytes: Uint8Array, data: number): StoredTensor {
  const { dtype, shape, data_offsets: offsets } = entry ?? ({} as Partial<HeaderEntry>);
  if (!Array.isArray(shape) || !Array.isArray(offsets))
    throw new TensorFileError(`describes tensor '${name}' incompletely`);
  const [begin, end] = offsets;
  const length = shape.reduce((a, b) => a * b, 1);
  if (dtype !== 'F32' && dtype !== 'I32') throw new TensorFileError(`has tensor '${name}' of unknown dtype ${dtype}`);
  if (end - begin !== 4 * length)
    throw new TensorFileError(`has ${end - begin} bytes for tensor '${name}' of shape [${shape}]`);
  if (begin < 0 || data + end > bytes.length)
    throw new TensorFileError(`is cut off: tensor '${name}' ends beyond its end`);
  // Uint8Array's own slice copies; that of a Buffer, which readFileSync gives, is a view of the whole file.
  const copy = Uint8Array.prototype.slice.call(bytes, data + begin, data + end).buffer as ArrayBuffer;
  return { shape, values: dtype === 'F32' ? new Float32Array(copy) : new Int32Array(copy) };
}
