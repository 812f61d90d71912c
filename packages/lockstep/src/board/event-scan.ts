/**
 * Goes through the bytes of one tensorflow.Event and tells what is in it: numbers, texts and pictures, as TensorFlow 1 wrote them (fields of
 * their own) and as TensorFlow 2, Keras and PyTorch do (tensors with the plugin's name beside them). Numbers are met in millions, so their
 * path makes no objects; what is rare is left to the reader of fields that everything else uses. Messages: TensorFlow's
 * core/util/event.proto, core/framework/{summary,tensor}.proto.
 */
import { readFields } from '@lockstep/official/utils/files/protobuf-fields';

/** Who is told. */
export interface ValueVisitor {
  scalar(tag: string, step: number, time: number, value: number): void;
  text(tag: string, step: number, time: number, text: string): void;
  /** @param bytes a PNG, JPEG or GIF; a view of the event's */
  image(tag: string, step: number, time: number, bytes: Uint8Array): void;
}

/** By tag: the plugin that a writer names with a tag's first value, and not always again. */
export type Plugins = Map<string, string>;

/** tensorflow.DataType. */
const DT = { float: 1, double: 2, int32: 3, string: 7, int64: 9 } as const;
const TWO_32 = 2 ** 32;

/** Where a varint was read, and what it was: one for all, so that reading makes no object. */
let cursor = 0;
function varint(bytes: Uint8Array, at: number): number {
  let value = 0;
  let factor = 1;
  for (let i = at; i < at + 10; i++) {
    const byte = bytes[i];
    if (byte === undefined) break;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) {
      cursor = i + 1;
      return value;
    }
    factor *= 128;
  }
  throw new Error('a number without an end');
}

/** Behind a field whose tag was read. */
function skip(bytes: Uint8Array, at: number, wire: number): number {
  if (wire === 0) {
    varint(bytes, at);
    return cursor;
  }
  if (wire === 1) return at + 8;
  if (wire === 5) return at + 4;
  if (wire !== 2) throw new Error(`a field of the unknown kind ${wire}`);
  const length = varint(bytes, at);
  return cursor + length;
}

/** @throws Error where the bytes are no Event */
export function scanEvent(event: Buffer, visitor: ValueVisitor, plugins: Plugins): void {
  let [time, step, summary, summaryEnd] = [0, 0, -1, -1];
  for (let at = 0; at < event.length; ) {
    const key = varint(event, at);
    const wire = key & 7;
    at = cursor;
    if (key === 0x09) time = event.readDoubleLE(at);
    // Negative steps are numbers beyond 2⁶³; nobody counts so far.
    else if (key === 0x10) step = signed(varint(event, at));
    const end = skip(event, at, wire);
    if (end > event.length) throw new Error('a field beyond the end');
    if (key === 0x2a) {
      varint(event, at);
      summary = cursor;
      summaryEnd = end;
    }
    at = end;
  }
  if (summary < 0) return;
  for (let at = summary; at < summaryEnd; ) {
    const key = varint(event, at);
    at = cursor;
    const end = skip(event, at, key & 7);
    if (end > summaryEnd) throw new Error('a value beyond the end');
    if (key === 0x0a) {
      varint(event, at);
      scanValue(event, cursor, end, step, time, visitor, plugins);
    }
    at = end;
  }
}

function scanValue(
  bytes: Buffer,
  begin: number,
  end: number,
  step: number,
  time: number,
  visitor: ValueVisitor,
  plugins: Plugins,
): void {
  let tag = '';
  let number = Number.NaN;
  let [isNumber, isRare] = [false, false];
  for (let at = begin; at < end; ) {
    const key = varint(bytes, at);
    at = cursor;
    const next = skip(bytes, at, key & 7);
    if (next > end) throw new Error('a field beyond the end');
    if (key === 0x0a) {
      varint(bytes, at);
      tag = bytes.toString('utf8', cursor, next);
    } else if (key === 0x15) {
      isNumber = true;
      number = bytes.readFloatLE(at);
    } else if (key === 0x22 || key === 0x42) isRare = true;
    at = next;
  }
  if (isNumber) visitor.scalar(tag, step, time, number);
  else if (isRare) scanRare(bytes.subarray(begin, end), tag, step, time, visitor, plugins);
}

/** A picture (TensorFlow 1), or a tensor. */
function scanRare(
  value: Buffer,
  tag: string,
  step: number,
  time: number,
  visitor: ValueVisitor,
  plugins: Plugins,
): void {
  let tensor: Uint8Array | null = null;
  readFields(value, {
    // Image: 1: height, 2: width, 3: colours, 4: the encoded picture.
    4: (reader) => readFields(reader.bytes(), { 4: (picture) => visitor.image(tag, step, time, picture.bytes()) }),
    8: (reader) => {
      tensor = reader.bytes();
    },
    // SummaryMetadata, 1: plugin_data, 1: plugin_name.
    9: (reader) =>
      readFields(reader.bytes(), {
        1: (data) => readFields(data.bytes(), { 1: (name) => plugins.set(tag, name.string()) }),
      }),
  });
  if (tensor === null) return;
  const { strings, numbers } = readTensor(tensor);
  const plugin = plugins.get(tag);
  if (strings.length > 0) {
    // Width, height, then pictures.
    if (plugin === 'images') for (const picture of strings.slice(2, 3)) visitor.image(tag, step, time, picture);
    else if (plugin === undefined || plugin === 'text')
      visitor.text(tag, step, time, strings.map((one) => Buffer.from(one).toString('utf8')).join('\n\n'));
  } else if (numbers.length === 1 && (plugin === undefined || plugin === 'scalars')) {
    visitor.scalar(tag, step, time, numbers[0] as number);
  }
}

/** TensorProto: 1: dtype, 4: tensor_content, 5: float_val, 6: double_val, 7: int_val, 8: string_val, 10: int64_val. */
function readTensor(tensor: Uint8Array): { strings: Uint8Array[]; numbers: number[] } {
  let type = 0;
  const strings: Uint8Array[] = [];
  const numbers: number[] = [];
  let content: Uint8Array | null = null;
  /** Repeated numbers are packed, or stand alone. */
  const each =
    (one: (reader: Parameters<NonNullable<Parameters<typeof readFields>[1][number]>>[0]) => number) =>
    (...[reader, wire]: Parameters<NonNullable<Parameters<typeof readFields>[1][number]>>) => {
      if (wire !== 2) numbers.push(one(reader));
      else for (const end = reader.uint32() + reader.pos; reader.pos < end; ) numbers.push(one(reader));
    };
  readFields(tensor, {
    1: (reader) => {
      type = reader.int32();
    },
    4: (reader) => {
      content = reader.bytes();
    },
    5: each((reader) => reader.float()),
    6: each((reader) => reader.double()),
    7: each((reader) => reader.int32()),
    8: (reader) => {
      strings.push(reader.bytes());
    },
    10: each((reader) => Number(reader.int64())),
  });
  if (content !== null) numbers.push(...numbersIn(content, type));
  return { strings, numbers };
}

/** Of a scalar's content; more than one is no scalar, and not read. */
function numbersIn(content: Uint8Array, type: number): number[] {
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  if (type === DT.float && content.length === 4) return [view.getFloat32(0, true)];
  if (type === DT.double && content.length === 8) return [view.getFloat64(0, true)];
  if (type === DT.int32 && content.length === 4) return [view.getInt32(0, true)];
  if (type === DT.int64 && content.length === 8) return [Number(view.getBigInt64(0, true))];
  return [];
}

function signed(value: number): number {
  return value >= TWO_32 * (TWO_32 / 2) ? value - TWO_32 * TWO_32 : value;
}
