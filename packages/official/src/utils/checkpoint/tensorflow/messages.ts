/**
 * The protocol buffers of a bundle's index (tensorflow/core/protobuf/tensor_bundle.proto and tensor_shape.proto), field by field: a header
 * for the whole, and an entry for each tensor. Fields that are zero are left out, as every writer of proto3 does.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { readFields } from '../../files/protobuf-fields.js';

/** BundleHeaderProto: num_shards = 1, endianness = 2, version = 3 { producer = 1, min_consumer = 2 }. */
export interface BundleHeader {
  /** Data files. */
  readonly shards: number;
  readonly isBigEndian: boolean;
  readonly producer: number;
  /** The oldest reader that can read it. */
  readonly minConsumer: number;
}

/** BundleEntryProto: dtype = 1, shape = 2, shard_id = 3, offset = 4, size = 5, crc32c = 6, slices = 7. */
export interface BundleEntry {
  /** A number of TensorFlow's DataType. */
  readonly dtype: number;
  /** Null: of unknown rank, which no stored tensor has. */
  readonly shape: readonly number[] | null;
  readonly shard: number;
  /** Bytes, in the shard's file. */
  readonly offset: number;
  readonly size: number;
  /** Masked. */
  readonly checksum: number;
  /** Pieces that a partitioned variable was saved in; 0: it is whole. */
  readonly slices: number;
}

export function decodeHeader(bytes: Uint8Array): BundleHeader {
  const header = { shards: 0, isBigEndian: false, producer: 0, minConsumer: 0 };
  readFields(bytes, {
    1: (reader) => {
      header.shards = reader.int32();
    },
    2: (reader) => {
      header.isBigEndian = reader.int32() === 1;
    },
    3: (reader) =>
      readFields(reader.bytes(), {
        1: (inner) => {
          header.producer = inner.int32();
        },
        2: (inner) => {
          header.minConsumer = inner.int32();
        },
      }),
  });
  return header;
}

export function encodeHeader({ shards, isBigEndian, producer, minConsumer }: BundleHeader): Uint8Array {
  const writer = new BinaryWriter();
  writeInt(writer, 1, shards);
  writeInt(writer, 2, isBigEndian ? 1 : 0);
  const version = new BinaryWriter();
  writeInt(version, 1, producer);
  writeInt(version, 2, minConsumer);
  return writer.tag(3, WireType.LengthDelimited).bytes(version.finish()).finish();
}

export function decodeEntry(bytes: Uint8Array): BundleEntry {
  const entry = { dtype: 0, shape: [] as number[] | null, shard: 0, offset: 0, size: 0, checksum: 0, slices: 0 };
  readFields(bytes, {
    1: (reader) => {
      entry.dtype = reader.int32();
    },
    2: (reader) => {
      entry.shape = decodeShape(reader.bytes());
    },
    3: (reader) => {
      entry.shard = reader.int32();
    },
    4: (reader) => {
      entry.offset = count(reader.int64());
    },
    5: (reader) => {
      entry.size = count(reader.int64());
    },
    6: (reader) => {
      entry.checksum = reader.fixed32();
    },
    7: (reader) => {
      reader.bytes();
      entry.slices++;
    },
  });
  return entry;
}

/** Of a whole tensor: nothing here writes partitioned ones. */
export function encodeEntry({ dtype, shape, shard, offset, size, checksum }: Omit<BundleEntry, 'slices'>): Uint8Array {
  const writer = new BinaryWriter();
  writeInt(writer, 1, dtype);
  const dims = new BinaryWriter();
  for (const size of shape ?? []) {
    const dim = new BinaryWriter();
    writeInt(dim, 1, size);
    dims.tag(2, WireType.LengthDelimited).bytes(dim.finish());
  }
  // Also of a scalar, for which it is empty.
  writer.tag(2, WireType.LengthDelimited).bytes(dims.finish());
  writeInt(writer, 3, shard);
  writeInt(writer, 4, offset);
  writeInt(writer, 5, size);
  if (checksum !== 0) writer.tag(6, WireType.Bit32).fixed32(checksum);
  return writer.finish();
}

/** TensorShapeProto: dim = 2 { size = 1 }, unknown_rank = 3. */
function decodeShape(bytes: Uint8Array): number[] | null {
  const shape: number[] = [];
  let isKnown = true;
  readFields(bytes, {
    2: (reader) => {
      let size = 0;
      readFields(reader.bytes(), {
        1: (inner) => {
          size = count(inner.int64());
        },
      });
      shape.push(size);
    },
    3: (reader) => {
      isKnown = !reader.bool();
    },
  });
  return isKnown ? shape : null;
}

function writeInt(writer: BinaryWriter, field: number, value: number): void {
  if (value !== 0) writer.tag(field, WireType.Varint).int64(value);
}

function count(value: bigint | string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 0) throw new RangeError(`${value} is no size or place`);
  return number;
}
