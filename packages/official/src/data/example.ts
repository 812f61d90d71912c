/**
 * tf.Example (TensorFlow, core/example/{example,feature}.proto), the map of named lists that TFRecord files of data sets hold:
 *
 *     Example   1: Features                     Feature   one of   1: BytesList   2: FloatList   3: Int64List
 *     Features  1: map of name (1) to Feature (2)         each a repeated field 1; numbers may be packed
 *
 * `@bufbuild/protobuf` reads and writes the wire format; these messages are all there is to declare. Bytes are views of the record.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

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
  const entry = (field: BinaryReader) => {
    let name = '';
    let value: Uint8Array = new Uint8Array();
    for (const [number, reader] of messageIn(field)) {
      if (number === 1) name = reader.string();
      else value = reader.bytes();
    }
    if (wanted && !wanted.has(name)) return;
    const feature = decodeFeature(value);
    if (feature) example.set(name, feature);
  };
  for (const [, features] of fields(new BinaryReader(bytes), [1])) {
    for (const [, field] of messageIn(features, [1])) entry(field);
  }
  return example;
}

/** @returns null where none of the lists is set */
function decodeFeature(bytes: Uint8Array): Feature | null {
  let feature: Feature | null = null;
  for (const [number, list] of fields(new BinaryReader(bytes), [1, 2, 3])) {
    if (number === 1) {
      const values: Uint8Array[] = [];
      for (const [, reader] of messageIn(list, [1])) values.push(reader.bytes());
      feature = { kind: 'bytes', values };
    } else if (number === 2) {
      feature = { kind: 'float', values: numbersIn(list, WireType.Bit32, (reader) => reader.float()) };
    } else {
      feature = { kind: 'int64', values: numbersIn(list, WireType.Varint, (reader) => BigInt(reader.int64())) };
    }
  }
  return feature;
}

/** A repeated field 1 of numbers, packed or not. */
function numbersIn<T>(list: BinaryReader, single: WireType, read: (reader: BinaryReader) => T): T[] {
  const values: T[] = [];
  for (const [, reader, wire] of messageIn(list, [1])) {
    if (wire === single) values.push(read(reader));
    else for (const end = reader.uint32() + reader.pos; reader.pos < end; ) values.push(read(reader));
  }
  return values;
}

/** The fields of a message that stands with its length before it. */
function messageIn(reader: BinaryReader, numbers?: readonly number[]): Generator<[number, BinaryReader, WireType]> {
  return fields(new BinaryReader(reader.bytes()), numbers);
}

/** Fields of a message that have one of these numbers; whoever iterates reads each. */
function* fields(
  reader: BinaryReader,
  numbers: readonly number[] = [1, 2],
): Generator<[number, BinaryReader, WireType]> {
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    if (numbers.includes(number)) yield [number, reader, wire];
    else reader.skip(wire, number);
  }
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
