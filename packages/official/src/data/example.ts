/**
 * tf.Example (TensorFlow, core/example/{example,feature}.proto), the map of named lists that TFRecord files of data sets hold:
 *
 *     Example   1: Features                     Feature   one of   1: BytesList   2: FloatList   3: Int64List
 *     Features  1: map of name (1) to Feature (2)         each a repeated field 1; numbers may be packed
 *
 * `@bufbuild/protobuf` reads and writes the wire format; these messages are all there is to declare. Bytes are views of the record.
 */
import { type BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { readFields } from '../utils/files/protobuf-fields.js';

/** A named list. */
export type Feature =
  | { readonly kind: 'bytes'; readonly values: readonly Uint8Array[] }
  | { readonly kind: 'float'; readonly values: readonly number[] }
  | { readonly kind: 'int64'; readonly values: readonly bigint[] };

/** By name. */
export type Example = ReadonlyMap<string, Feature>;

/** @param wanted leaves out features with other names @throws Error where the bytes are no Example */
export function decodeExample(bytes: Uint8Array, wanted?: ReadonlySet<string>): Example {
  const example = new Map<string, Feature>();
  const readEntry = (entry: Uint8Array) => {
    let name = '';
    let value: Uint8Array = new Uint8Array();
    readFields(entry, {
      1: (reader) => {
        name = reader.string();
      },
      2: (reader) => {
        value = reader.bytes();
      },
    });
    if (wanted && !wanted.has(name)) return;
    const feature = decodeFeature(value);
    if (feature) example.set(name, feature);
  };
  readFields(bytes, {
    1: (features) => readFields(features.bytes(), { 1: (entry) => readEntry(entry.bytes()) }),
  });
  return example;
}

/** @returns null where none of the lists is set */
function decodeFeature(bytes: Uint8Array): Feature | null {
  let feature = null as Feature | null;
  readFields(bytes, {
    1: (list) => {
      const values: Uint8Array[] = [];
      readFields(list.bytes(), { 1: (reader) => values.push(reader.bytes()) });
      feature = { kind: 'bytes', values };
    },
    2: (list) => {
      feature = { kind: 'float', values: numbersIn(list.bytes(), WireType.Bit32, (reader) => reader.float()) };
    },
    3: (list) => {
      feature = { kind: 'int64', values: numbersIn(list.bytes(), WireType.Varint, (reader) => BigInt(reader.int64())) };
    },
  });
  return feature;
}

/** A repeated field 1 of numbers, packed or not. */
function numbersIn<T>(list: Uint8Array, single: WireType, read: (reader: BinaryReader) => T): T[] {
  const values: T[] = [];
  readFields(list, {
    1: (reader, wire) => {
      if (wire === single) values.push(read(reader));
      else for (const end = reader.uint32() + reader.pos; reader.pos < end; ) values.push(read(reader));
    },
  });
  return values;
}

/** As TensorFlow writes it: numbers packed, names in the order given. */
export function encodeExample(features: Readonly<Record<string, Feature>>): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).fork();
  for (const [name, feature] of Object.entries(features)) {
    writer.tag(1, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(name);
    writer.tag(2, WireType.LengthDelimited).fork();
    encodeFeature(writer, feature);
    writer.join().join();
  }
  return writer.join().finish();
}

function encodeFeature(writer: BinaryWriter, feature: Feature): void {
  const list = (number: number) => writer.tag(number, WireType.LengthDelimited).fork();
  switch (feature.kind) {
    case 'bytes':
      list(1);
      for (const value of feature.values) writer.tag(1, WireType.LengthDelimited).bytes(value);
      break;
    case 'float':
      list(2).tag(1, WireType.LengthDelimited).fork();
      for (const value of feature.values) writer.float(value);
      writer.join();
      break;
    case 'int64':
      list(3).tag(1, WireType.LengthDelimited).fork();
      for (const value of feature.values) writer.int64(value);
      writer.join();
      break;
    default:
      feature satisfies never;
  }
  writer.join();
}
