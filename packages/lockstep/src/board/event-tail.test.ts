/** Event files as they grow, break off and come from other tools: bytes by the published messages, put together field by field. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { frameRecord } from '@lockstep/official/data/tfrecord';
import { EventFileWriter } from '@lockstep/official/summary/event-file';
import type { ValueVisitor } from './event-scan.js';
import { EventTail } from './event-tail.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-tail-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let made = 0;
const fresh = () => join(folder, `file-${made++}`);

class Seen implements ValueVisitor {
  readonly scalars: [string, number, number, number][] = [];
  readonly texts: [string, number, string][] = [];
  readonly images: [string, number, string][] = [];
  scalar(tag: string, step: number, time: number, value: number): void {
    this.scalars.push([tag, step, time, value]);
  }
  text(tag: string, step: number, _time: number, text: string): void {
    this.texts.push([tag, step, text]);
  }
  image(tag: string, step: number, _time: number, bytes: Uint8Array): void {
    this.images.push([tag, step, Buffer.from(bytes).toString('latin1')]);
  }
}

function readAll(tail: EventTail, seen = new Seen()): Seen {
  while (tail.read(seen));
  return seen;
}

type Write = (writer: BinaryWriter) => void;
const message = (write: Write) => {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
};
const field = (writer: BinaryWriter, number: number, bytes: Uint8Array | string) =>
  typeof bytes === 'string'
    ? writer.tag(number, WireType.LengthDelimited).string(bytes)
    : writer.tag(number, WireType.LengthDelimited).bytes(bytes);

/** tensorflow.Event with one Value. */
function event(step: number, value: Write): Uint8Array {
  return frameRecord(
    message((writer) => {
      writer.tag(1, WireType.Bit64).double(5);
      writer.tag(2, WireType.Varint).int64(step);
      field(
        writer,
        5,
        message((summary) => field(summary, 1, message(value))),
      );
    }),
  );
}

/** SummaryMetadata that names a plugin. */
const plugin = (name: string) =>
  message((writer) =>
    field(
      writer,
      1,
      message((data) => field(data, 1, name)),
    ),
  );

/** A Value whose number is a tensor, as TensorFlow 2 writes it. */
function tensorValue(tag: string, tensor: Write, name: string | null): Write {
  return (writer) => {
    field(writer, 1, tag);
    field(writer, 8, message(tensor));
    if (name !== null) field(writer, 9, plugin(name));
  };
}

describe('an event file that is followed', () => {
  it('is read on as it grows, a record at a time, whatever part of one is there', () => {
    const source = join(folder, 'source');
    const writer = (() => {
      rmSync(source, { recursive: true, force: true });
      return mkdtempSync(`${source}-`);
    })();
    const events = new EventFileWriter(writer, { warn: assert.fail, now: () => 9 });
    for (let step = 1; step <= 30; step++) events.add({ step, scalars: { loss: 1 / step, 'a/b': step } });
    events.close();
    const bytes = readFileSync(join(writer, readdirSync(writer)[0] as string));
    const path = fresh();
    writeFileSync(path, '');
    const tail = new EventTail(path);
    const seen = new Seen();
    for (let at = 0; at < bytes.length; at += 17) {
      appendFileSync(path, bytes.subarray(at, at + 17));
      readAll(tail, seen);
      assert.equal(tail.problem, null);
      assert.equal(tail.offset + tail.waiting, Math.min(bytes.length, at + 17));
    }
    assert.equal(tail.waiting, 0);
    assert.deepEqual(
      seen.scalars,
      Array.from({ length: 30 }, (_, i) => [
        ['loss', i + 1, 9, Math.fround(1 / (i + 1))],
        ['a/b', i + 1, 9, i + 1],
      ]).flat(),
    );
  });

  it('says where it is damaged, and shows what is before', () => {
    const records = [1, 2, 3].map((step) =>
      event(step, (writer) => {
        field(writer, 1, 'loss');
        writer.tag(2, WireType.Bit32).float(step);
      }),
    );
    const bytes = Buffer.concat(records);
    const second = (records[0] as Uint8Array).length;
    // In its length, in its bytes.
    for (const place of [second, second + 20]) {
      const path = fresh();
      const damaged = Buffer.from(bytes);
      damaged[place] = (damaged[place] as number) ^ 0x10;
      writeFileSync(path, damaged);
      const tail = new EventTail(path);
      assert.deepEqual(
        readAll(tail).scalars.map(([, step]) => step),
        [1],
      );
      assert.match(tail.problem ?? '', new RegExp(`^is damaged at byte ${second}; what is before it is shown$`));
      assert.equal(tail.read(new Seen()), false);
    }
    const path = fresh();
    writeFileSync(path, Buffer.concat([bytes, frameRecord(Uint8Array.of(0x2a, 0xff, 0x01, 0))]));
    const tail = new EventTail(path);
    assert.equal(readAll(tail).scalars.length, 3);
    assert.match(tail.problem ?? '', /^holds no event at byte \d+ \(.*\); what is before it is shown$/);
  });

  it('reads records that are larger than what is read at once', () => {
    const path = fresh();
    const large = 'x'.repeat(5_000_000);
    const text = (tag: string, content: string) =>
      tensorValue(
        tag,
        (tensor) => {
          tensor.tag(1, WireType.Varint).int32(7);
          field(tensor, 8, content);
        },
        'text',
      );
    writeFileSync(
      path,
      Buffer.concat([event(1, text('a', 'small')), event(2, text('b', large)), event(3, text('c', 'last'))]),
    );
    const tail = new EventTail(path);
    assert.deepEqual(readAll(tail).texts, [
      ['a', 1, 'small'],
      ['b', 2, large],
      ['c', 3, 'last'],
    ]);
    assert.equal(tail.problem, null);
  });

  it('follows no link', () => {
    const target = fresh();
    writeFileSync(target, 'secret');
    const link = fresh();
    symlinkSync(target, link);
    const tail = new EventTail(link);
    assert.equal(tail.read(new Seen()), false);
    assert.match(tail.problem ?? '', /^cannot be read: its links form a circle \(ELOOP\)$/);
  });
});

describe('events of other tools', () => {
  const read = (...events: Uint8Array[]) => {
    const path = fresh();
    writeFileSync(path, Buffer.concat(events));
    const tail = new EventTail(path);
    const seen = readAll(tail);
    assert.equal(tail.problem, null);
    return seen;
  };
  const bytesOf = (size: number, set: (view: DataView) => void) => {
    const view = new DataView(new ArrayBuffer(size));
    set(view);
    return new Uint8Array(view.buffer);
  };

  it('have scalars as tensors of every kind, and name the plugin with the first one alone', () => {
    const content =
      (type: number, bytes: Uint8Array): Write =>
      (tensor) => {
        tensor.tag(1, WireType.Varint).int32(type);
        field(tensor, 4, bytes);
      };
    const seen = read(
      event(
        1,
        tensorValue(
          'f32',
          content(
            1,
            bytesOf(4, (view) => view.setFloat32(0, 0.5, true)),
          ),
          'scalars',
        ),
      ),
      event(
        2,
        tensorValue(
          'f32',
          content(
            1,
            bytesOf(4, (view) => view.setFloat32(0, 0.25, true)),
          ),
          null,
        ),
      ),
      event(
        3,
        tensorValue(
          'f64',
          content(
            2,
            bytesOf(8, (view) => view.setFloat64(0, 0.1, true)),
          ),
          'scalars',
        ),
      ),
      event(
        4,
        tensorValue(
          'i64',
          content(
            9,
            bytesOf(8, (view) => view.setBigInt64(0, -7n, true)),
          ),
          'scalars',
        ),
      ),
      event(
        5,
        tensorValue(
          'i32',
          content(
            3,
            bytesOf(4, (view) => view.setInt32(0, 12, true)),
          ),
          'scalars',
        ),
      ),
      event(
        6,
        tensorValue(
          'packed',
          (tensor) => {
            tensor.tag(1, WireType.Varint).int32(1);
            field(
              tensor,
              5,
              bytesOf(4, (view) => view.setFloat32(0, 1.5, true)),
            );
          },
          'scalars',
        ),
      ),
      event(
        7,
        tensorValue(
          'single',
          (tensor) => {
            tensor.tag(1, WireType.Varint).int32(1).tag(5, WireType.Bit32).float(2.5);
          },
          'scalars',
        ),
      ),
    );
    assert.deepEqual(
      seen.scalars.map(([tag, step, , value]) => [tag, step, value]),
      [
        ['f32', 1, 0.5],
        ['f32', 2, 0.25],
        ['f64', 3, 0.1],
        ['i64', 4, -7],
        ['i32', 5, 12],
        ['packed', 6, 1.5],
        ['single', 7, 2.5],
      ],
    );
  });

  it('have pictures and texts, in the old way and the new, and histograms, which are passed over', () => {
    const strings =
      (...list: string[]): Write =>
      (tensor) => {
        tensor.tag(1, WireType.Varint).int32(7);
        for (const one of list) field(tensor, 8, one);
      };
    const seen = read(
      event(1, (writer) => {
        field(writer, 1, 'old');
        field(
          writer,
          4,
          message((image) => {
            image.tag(1, WireType.Varint).int32(2).tag(2, WireType.Varint).int32(3);
            field(image, 4, 'PNG bytes');
          }),
        );
      }),
      event(2, tensorValue('new', strings('3', '2', 'other bytes', 'second of a batch'), 'images')),
      event(3, tensorValue('note', strings('# hello'), 'text')),
      event(4, tensorValue('hparams', strings('not for people'), 'hparams')),
      event(
        5,
        tensorValue(
          'weights',
          (tensor) => {
            tensor.tag(1, WireType.Varint).int32(2);
            field(tensor, 4, new Uint8Array(3 * 8 * 10));
          },
          'histograms',
        ),
      ),
      event(6, (writer) => {
        field(writer, 1, 'histogram');
        field(writer, 5, new Uint8Array(0));
      }),
    );
    assert.deepEqual(seen.images, [
      ['old', 1, 'PNG bytes'],
      ['new', 2, 'other bytes'],
    ]);
    assert.deepEqual(seen.texts, [['note', 3, '# hello']]);
    assert.deepEqual(seen.scalars, []);
  });
});
