/** tf.Example against bytes put together from the description of protobuf's wire format. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeExample, encodeExample } from './example.js';

/** A field with its length before it: tag = number·8 + 2. All lengths here are below 128, so each is one byte. */
const field = (number: number, bytes: Uint8Array) =>
  Buffer.concat([Buffer.of(number * 8 + 2, bytes.length), Buffer.from(bytes)]);
const entry = (name: string, feature: Uint8Array) =>
  field(1, Buffer.concat([field(1, Buffer.from(name)), field(2, feature)]));
const example = (...entries: Uint8Array[]) => field(1, Buffer.concat(entries));

const BYTES = field(1, Buffer.concat([field(1, Buffer.from('ab')), field(1, Buffer.of())]));
const FLOATS = field(2, field(1, Buffer.from('0000803f000000c0', 'hex')));
/** 1, 300 and −1 as varints of 1, 2 and 10 bytes. */
const INTEGERS = field(3, field(1, Buffer.from('01ac02ffffffffffffffffff01', 'hex')));
const WHOLE = example(entry('b', BYTES), entry('f', FLOATS), entry('i', INTEGERS));
const VALUES = {
  b: { kind: 'bytes', values: [Uint8Array.of(97, 98), Uint8Array.of()] },
  f: { kind: 'float', values: [1, -2] },
  i: { kind: 'int64', values: [1n, 300n, -1n] },
} as const;

describe('tf.Example', () => {
  it('is written and read as the wire format says', () => {
    assert.equal(Buffer.from(encodeExample(VALUES)).toString('hex'), WHOLE.toString('hex'));
    const read = Object.fromEntries(decodeExample(WHOLE));
    assert.deepEqual(
      { ...read, b: { kind: 'bytes', values: read.b!.values.map((value) => Uint8Array.from(value as Uint8Array)) } },
      VALUES,
    );
    assert.deepEqual([...decodeExample(WHOLE, new Set(['i'])).keys()], ['i']);
  });

  it('numbers may stand one by one, fields in any order, and unknown ones are passed over', () => {
    const floats = field(2, Buffer.concat([Buffer.from('0d0000803f', 'hex'), Buffer.from('0d000000c0', 'hex')]));
    const integers = field(3, Buffer.from('080108ac02', 'hex'));
    const turned = field(1, Buffer.concat([field(2, floats), field(1, Buffer.from('f'))]));
    const bytes = Buffer.concat([
      field(9, Buffer.from('?')),
      example(turned, entry('i', integers), entry('none', Buffer.of())),
    ]);
    assert.deepEqual(Object.fromEntries(decodeExample(bytes)), {
      f: VALUES.f,
      i: { kind: 'int64', values: [1n, 300n] },
    });
  });

  it('what is no Example is an error', () => {
    for (const length of [1, 5, WHOLE.length - 1]) assert.throws(() => decodeExample(WHOLE.subarray(0, length)), Error);
    assert.throws(() => decodeExample(Buffer.from('not a message')), Error);
    assert.equal(decodeExample(new Uint8Array()).size, 0);
  });
});
