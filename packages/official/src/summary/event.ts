/**
 * tensorflow.Event (TensorFlow, core/util/event.proto and core/framework/summary.proto), what TensorBoard's files hold; as much of it as
 * is written here:
 *
 *     Event    1: wall_time double   2: step int64   3: file_version string   5: Summary
 *     Summary  1: Value, repeated    Value  1: tag string   2: simple_value float   4: Image   8: TensorProto   9: SummaryMetadata
 *     Image    1: height int32   2: width int32   3: colorspace int32   4: encoded_image_string bytes
 *     Value    5: HistogramProto, of doubles  1: min   2: max   3: num   4: sum   5: sum_squares   6: bucket_limit, packed   7: bucket, packed
 *
 * A text is a tensor of strings whose metadata name the plugin 'text'. `@bufbuild/protobuf` reads and writes the wire format; what is not
 * known here is passed over.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { readFields } from '../utils/files/protobuf-fields.js';
import type { Histogram } from '../utils/logs/histogram.js';
import type { Picture } from './png.js';

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
  /** By tag; histograms and images are written, and passed over when read. */
  readonly histograms?: Readonly<Record<string, Histogram>>;
  readonly images?: Readonly<Record<string, Picture>>;
}

export const FILE_VERSION = 'brain.Event:2';
/** tensorflow.DataType of strings. */
const DT_STRING = 7;

export function encodeEvent(event: Event): Uint8Array {
  const { wallTime, step = 0, fileVersion, scalars = {}, texts = {}, histograms = {}, images = {} } = event;
  const writer = new BinaryWriter();
  writer.tag(1, WireType.Bit64).double(wallTime);
  if (step !== 0) writer.tag(2, WireType.Varint).int64(step);
  if (fileVersion !== undefined) writer.tag(3, WireType.LengthDelimited).string(fileVersion);
  const values = [scalars, texts, histograms, images].flatMap((some) =>
    Object.entries<number | string | Histogram | Picture>(some),
  );
  if (values.length === 0) return writer.finish();
  writer.tag(5, WireType.LengthDelimited).fork();
  for (const [tag, value] of values) {
    writer.tag(1, WireType.LengthDelimited).fork();
    writer.tag(1, WireType.LengthDelimited).string(tag);
    if (typeof value === 'number') writer.tag(2, WireType.Bit32).float(Math.fround(value));
    else if (typeof value === 'string') encodeText(writer, value);
    else if ('limits' in value) encodeHistogram(writer, value);
    else encodeImage(writer, value);
    writer.join();
  }
  return writer.join().finish();
}

function encodeHistogram(writer: BinaryWriter, histogram: Histogram): void {
  const { min, max, num, sum, sumSquares, limits, counts } = histogram;
  writer.tag(5, WireType.LengthDelimited).fork();
  for (const [i, value] of [min, max, num, sum, sumSquares].entries()) writer.tag(i + 1, WireType.Bit64).double(value);
  for (const [field, values] of [
    [6, limits],
    [7, counts],
  ] as const) {
    writer.tag(field, WireType.LengthDelimited).fork();
    for (const value of values) writer.double(value);
    writer.join();
  }
  writer.join();
}

function encodeImage(writer: BinaryWriter, { height, width, channels, bytes }: Picture): void {
  writer.tag(4, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.Varint).int32(height).tag(2, WireType.Varint).int32(width);
  writer.tag(3, WireType.Varint).int32(channels);
  writer.tag(4, WireType.LengthDelimited).bytes(bytes);
  writer.join();
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
  readFields(bytes, {
    1: (reader) => {
      wallTime = reader.double();
    },
    2: (reader) => {
      step = Number(reader.int64());
    },
    3: (reader) => {
      fileVersion = reader.string();
    },
    5: (summary) => readFields(summary.bytes(), { 1: (value) => decodeValue(value.bytes(), scalars, texts) }),
  });
  return { wallTime, step, ...(fileVersion !== undefined && { fileVersion }), scalars, texts };
}

function decodeValue(bytes: Uint8Array, scalars: Record<string, number>, texts: Record<string, string>): void {
  let tag = '';
  readFields(bytes, {
    1: (reader) => {
      tag = reader.string();
    },
    2: (reader) => {
      scalars[tag] = reader.float();
    },
    8: (tensor) =>
      readFields(tensor.bytes(), {
        8: (reader) => {
          texts[tag] = reader.string();
        },
      }),
  });
}
