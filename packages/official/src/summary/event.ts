/**
 * tensorflow.Event (TensorFlow, core/util/event.proto and core/framework/summary.proto), what TensorBoard's files hold; as much of it as
 * is written here:
 *
 *     Event    1: wall_time double   2: step int64   3: file_version string   5: Summary
 *     Summary  1: Value, repeated    Value  1: tag string   2: simple_value float   8: TensorProto   9: SummaryMetadata
 *
 * A text is a tensor of strings whose metadata name the plugin 'text'. `@bufbuild/protobuf` reads and writes the wire format; what is not
 * known here is passed over.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

export interface Event {
  /** Seconds since 1970, with fractions. */
  readonly wallTime: number;
  /** Default 0. */
  readonly step?: number;
  /** In the first event of a file alone. */
  readonly fileVersion?: string;
  /** Numbers by tag; f32 in the file. */
  readonly scalars?: Readonly<Record<string, number>>;
  /** Markdown by tag. */
  readonly texts?: Readonly<Record<string, string>>;
}

export const FILE_VERSION = 'brain.Event:2';
/** tensorflow.DataType of strings. */
const DT_STRING = 7;

export function encodeEvent({ wallTime, step = 0, fileVersion, scalars = {}, texts = {} }: Event): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.Bit64).double(wallTime);
  if (step !== 0) writer.tag(2, WireType.Varint).int64(step);
  if (fileVersion !== undefined) writer.tag(3, WireType.LengthDelimited).string(fileVersion);
  const values = [...Object.entries(scalars), ...Object.entries(texts)];
  if (values.length === 0) return writer.finish();
  writer.tag(5, WireType.LengthDelimited).fork();
  for (const [tag, value] of values) {
    writer.tag(1, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(tag);
    if (typeof value === 'number') writer.tag(2, WireType.Bit32).float(Math.fround(value));
    else encodeText(writer, value);
    writer.join();
  }
  return writer.join().finish();
}

/** TensorProto: 1: dtype, 8: string_val. SummaryMetadata: 1: plugin_data, which has 1: plugin_name. */
function encodeText(writer: BinaryWriter, text: string): void {
  writer.tag(8, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.Varint).int32(DT_STRING);
  writer.tag(8, WireType.LengthDelimited).string(text);
  writer.join();
  writer.tag(9, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).string('text');
  writer.join().join();
}

/** @throws Error where the bytes are no Event */
export function decodeEvent(bytes: Uint8Array): Event {
  const scalars: Record<string, number> = {};
  const texts: Record<string, string> = {};
  let [wallTime, step, fileVersion] = [0, 0, undefined as string | undefined];
  for (const [number, reader, wire] of fields(new BinaryReader(bytes))) {
    if (number === 1) wallTime = reader.double();
    else if (number === 2) step = Number(reader.int64());
    else if (number === 3) fileVersion = reader.string();
    else if (number === 5) {
      for (const [inner, value] of fields(message(reader))) {
        if (inner === 1) decodeValue(message(value), scalars, texts);
        else value.skip(WireType.LengthDelimited, inner);
      }
    } else reader.skip(wire, number);
  }
  return { wallTime, step, ...(fileVersion !== undefined && { fileVersion }), scalars, texts };
}

function decodeValue(value: BinaryReader, scalars: Record<string, number>, texts: Record<string, string>): void {
  let tag = '';
  for (const [number, reader, wire] of fields(value)) {
    if (number === 1) tag = reader.string();
    else if (number === 2) scalars[tag] = reader.float();
    else if (number === 8) {
      for (const [inner, tensor, innerWire] of fields(message(reader))) {
        if (inner === 8) texts[tag] = tensor.string();
        else tensor.skip(innerWire, inner);
      }
    } else reader.skip(wire, number);
  }
}

const message = (reader: BinaryReader) => new BinaryReader(reader.bytes());

/** Whoever iterates reads or skips each. */
function* fields(reader: BinaryReader): Generator<[number, BinaryReader, WireType]> {
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    yield [number, reader, wire];
  }
}
