/**
 * The fields of protocol buffers' messages, one after another. `@bufbuild/protobuf` reads the wire format; what a field means is the
 * business of whoever knows the message.
 */
import { BinaryReader, type WireType } from '@bufbuild/protobuf/wire';

/** What to do with a field, by its number. Each reads its field to the end. */
export type FieldReaders = Readonly<Record<number, (reader: BinaryReader, wire: WireType) => void>>;

/** Hands each known field of a message to who knows it, in their order, and steps over the others. @throws Error for what is no message */
export function readFields(message: Uint8Array, fields: FieldReaders): void {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    const read = fields[number];
    if (read) read(reader, wire);
    else reader.skip(wire, number);
  }
}
