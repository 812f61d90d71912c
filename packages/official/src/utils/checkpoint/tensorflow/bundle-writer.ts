/**
 * Writes what bundle-reader.ts reads, and TensorFlow: one data file with the tensors one behind the other, and its index. Numbers go as they
 * lie in memory (every machine that Node runs on is little-endian), texts with their lengths in front.
 */
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { crc32c, maskCrc } from '../../files/crc32c.js';
import { pieces } from '../positioned-file.js';
import { BUNDLE_VERSION, lengthBytes } from './bundle-reader.js';
import { dtypeNamed } from './dtypes.js';
import { encodeEntry, encodeHeader } from './messages.js';
import { compareBytes, type TableEntry, writeTable } from './table.js';

/** A tensor to be written. */
export interface NewTensor {
  readonly name: string;
  /** TensorFlow's name of it. Of 16-bit floating point the values are the bits, in a Uint16Array. */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly values: ArrayBufferView | readonly Uint8Array[];
}

/** The bytes of the data file, piece by piece, and those of the index. */
export interface EncodedBundle {
  readonly data: Iterable<Uint8Array>;
  readonly index: Uint8Array;
}

/**
 * @param tensors in the order in which their bytes are to lie
 * @throws RangeError for an empty name or one that is there twice, an unknown type, or values that do not fit the shape.
 */
export function encodeBundle(tensors: Iterable<NewTensor>): EncodedBundle {
  const data: Uint8Array[] = [];
  const entries: TableEntry[] = [
    {
      key: new Uint8Array(0),
      value: encodeHeader({ shards: 1, isBigEndian: false, producer: BUNDLE_VERSION, minConsumer: 0 }),
    },
  ];
  let offset = 0;
  for (const tensor of tensors) {
    const { name, shape } = tensor;
    if (name === '' || name.startsWith('\0')) throw new RangeError('a tensor of a bundle needs a name.');
    const { number, bytes } = dtypeNamed(tensor.dtype);
    const { parts, checksum } = isTexts(tensor.values) ? textParts(tensor.values) : numberParts(tensor.values);
    const size = parts.reduce((sum, { length }) => sum + length, 0);
    const count = shape.reduce((a, b) => a * b, 1);
    const fits = isTexts(tensor.values)
      ? tensor.dtype === 'string' && tensor.values.length === count
      : size === count * (bytes ?? -1);
    if (!fits) throw new RangeError(`tensor '${name}' of ${tensor.dtype} [${shape}] has other values than that.`);
    const value = encodeEntry({ dtype: number, shape, shard: 0, offset, size, checksum: maskCrc(checksum) });
    entries.push({ key: Buffer.from(name, 'utf8'), value });
    data.push(...parts);
    offset += size;
  }
  return { data, index: writeTable(entries.sort((a, b) => compareBytes(a.key, b.key))) };
}

interface Parts {
  readonly parts: readonly Uint8Array[];
  /** Not masked. */
  readonly checksum: number;
}

function isTexts(values: NewTensor['values']): values is readonly Uint8Array[] {
  return Array.isArray(values);
}

function numberParts(values: ArrayBufferView): Parts {
  const parts = [...pieces(values)];
  return { parts, checksum: parts.reduce((before, part) => crc32c(part, before), 0) };
}

function textParts(texts: readonly Uint8Array[]): Parts {
  const lengths = new BinaryWriter();
  let checksum = 0;
  for (const { length } of texts) {
    lengths.uint64(length);
    checksum = crc32c(lengthBytes(length), checksum);
  }
  const ofLengths = new Uint8Array(4);
  new DataView(ofLengths.buffer).setUint32(0, maskCrc(checksum), true);
  for (const part of [ofLengths, ...texts]) checksum = crc32c(part, checksum);
  return { parts: [lengths.finish(), ofLengths, ...texts], checksum };
}
