/**
 * TensorFlow's bundles against bytes that are put together from the published formats (testing/assemble.ts) and, for one whole index, against
 * a constant whose checksums were computed elsewhere. What is damaged is refused with the place and the value.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { TensorFileError } from '../safetensors.js';
import { TensorBundle } from './bundle-reader.js';
import { encodeBundle, type NewTensor } from './bundle-writer.js';
import { uncompressSnappy } from './snappy.js';
import { readTable, writeTable } from './table.js';
import {
  block,
  crc,
  entry,
  field,
  fixed32,
  header,
  index,
  masked,
  snappyLiterals,
  table,
  varint,
} from './testing/assemble.js';

const folder = mkdtempSync(join(tmpdir(), 'bundle-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let prefix = '';
let count = 0;
beforeEach(() => {
  prefix = join(folder, `model.ckpt-${++count}`);
});

function write(bytes: Uint8Array, ...data: Uint8Array[]): string {
  writeFileSync(`${prefix}.index`, bytes);
  for (const [i, one] of data.entries()) {
    writeFileSync(`${prefix}.data-0000${i}-of-0000${data.length}`, one);
  }
  return prefix;
}

const bytesOf = (values: ArrayBufferView) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
const refused = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof TensorFileError, String(error));
  assert.match(error.message, pattern);
  return true;
};

/** Scalars x = 1.5 and y = -2: the index file that TensorFlow writes for them; its five checksums are from another program. */
const INDEX_OF_XY = Buffer.from(
  '00000608011a02080100010b78080112002804355e2fe1a700010d79080112002004280435ac028a7c000000000100000000917c85d4000000000100000000c0f2a1b00001027a0031000000000100000000e135d4de3608430e00000000000000000000000000000000000000000000000000000000000000000000000057fb808b247547db',
  'hex',
);

describe('a bundle of TensorFlow', () => {
  it('is read from bytes whose checksums come from elsewhere, and written as the same bytes', () => {
    const data = bytesOf(Float32Array.of(1.5, -2));
    const bundle = new TensorBundle(write(INDEX_OF_XY, data));
    assert.deepEqual([...bundle.tensors.keys()], ['x', 'y']);
    assert.deepEqual(bundle.read('x'), Float32Array.of(1.5));
    assert.deepEqual(bundle.read('y'), Float32Array.of(-2));
    const scalar = (name: string, value: number): NewTensor => {
      return { name, dtype: 'float', shape: [], values: Float32Array.of(value) };
    };
    const encoded = encodeBundle([scalar('x', 1.5), scalar('y', -2)]);
    assert.equal(Buffer.from(encoded.index).toString('hex'), INDEX_OF_XY.toString('hex'));
    assert.deepEqual(Buffer.concat([...encoded.data]), data);
  });

  it('has tensors of every type that a variable may have, in any of several data files', () => {
    const half = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000, 0x7e00);
    const cases: [number, string, ArrayBufferView, unknown][] = [
      [1, 'float', Float32Array.of(1, -0.1), Float32Array.of(1, -0.1)],
      [2, 'double', Float64Array.of(0.1, 1e300), Float64Array.of(0.1, 1e300)],
      [3, 'int32', Int32Array.of(-5, 6), Int32Array.of(-5, 6)],
      [4, 'uint8', Uint8Array.of(255, 0), Uint8Array.of(255, 0)],
      [5, 'int16', Int16Array.of(-300, 7), Int16Array.of(-300, 7)],
      [6, 'int8', Int8Array.of(-3, 7), Int8Array.of(-3, 7)],
      [9, 'int64', BigInt64Array.of(-(2n ** 60n), 3n), BigInt64Array.of(-(2n ** 60n), 3n)],
      [10, 'bool', Uint8Array.of(1, 0), Uint8Array.of(1, 0)],
      // The upper halves of 1, -2 and 3.140625.
      [14, 'bfloat16', Uint16Array.of(0x3f80, 0xc000, 0x4049), Float32Array.of(1, -2, 3.140625)],
      [17, 'uint16', Uint16Array.of(65535), Uint16Array.of(65535)],
      [19, 'half', half, Float32Array.of(1, -2, 2 ** -24, 65504, Number.POSITIVE_INFINITY, -0, Number.NaN)],
      [22, 'uint32', Uint32Array.of(2 ** 32 - 1), Uint32Array.of(2 ** 32 - 1)],
      [23, 'uint64', BigUint64Array.of(2n ** 64n - 1n), BigUint64Array.of(2n ** 64n - 1n)],
    ];
    const shards: Buffer[] = [Buffer.alloc(3), Buffer.alloc(0), Buffer.alloc(5)];
    const entries = cases.map(([dtype, name, values], i) => {
      const data = bytesOf(values);
      const shard = i % 3;
      const offset = (shards[shard] as Buffer).length;
      shards[shard] = Buffer.concat([shards[shard] as Buffer, data]);
      const length = (values as Uint8Array).length;
      return [name, entry({ dtype, shape: [1, length], shard, offset, data })] as const;
    });
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    const bundle = new TensorBundle(write(index([['', header(3)], ...entries]), ...shards));
    for (const [, name, , expected] of cases) {
      assert.deepEqual(bundle.read(name), expected, name);
      assert.equal(bundle.tensors.get(name)?.dtype.name, name);
      assert.deepEqual(bundle.tensors.get(name)?.shape, [1, (expected as Float32Array).length]);
    }
  });

  it('lists what it does not read, by name and type, and says so when it is asked for', () => {
    const data = Buffer.alloc(16);
    const entries = [[8, 'a'] as const, [18, 'b'] as const, [13, 'c'] as const, [21, 'd'] as const, [99, 'e'] as const];
    const pairs = entries.map(([dtype, name]) => [name, entry({ dtype, data })] as const);
    const bundle = new TensorBundle(write(index([['', header()], ...pairs]), data));
    assert.deepEqual(
      [...bundle.tensors.values()].map(({ dtype }) => dtype.name),
      ['complex64', 'complex128', 'qint32', 'variant', 'type 99'],
    );
    assert.throws(() => bundle.read('d'), refused(/has tensor 'd' of type variant, which is not read here/));
    assert.throws(() => bundle.read('f'), /there is no tensor 'f'/);
  });

  it('has texts, with a checksum of their lengths and one of everything', () => {
    const texts = ['', 'hello', 'ä'.repeat(100)].map((one) => Buffer.from(one));
    const lengths = Buffer.concat(texts.map(({ length }) => varint(length)));
    const asNumbers = Buffer.concat(texts.map(({ length }) => fixed32(length)));
    const ofLengths = fixed32(masked(asNumbers));
    const data = Buffer.concat([lengths, ofLengths, ...texts]);
    const checksum = masked(Buffer.concat([asNumbers, ofLengths, ...texts]));
    const bytes = index([
      ['', header()],
      ['s', entry({ dtype: 7, shape: [3], data, checksum })],
    ]);
    const read = new TensorBundle(write(bytes, data)).read('s') as Uint8Array[];
    assert.deepEqual(
      read.map((one) => Buffer.from(one)),
      texts,
    );
    const written = encodeBundle([{ name: 's', dtype: 'string', shape: [3], values: texts }]);
    assert.deepEqual(Buffer.concat([...written.data]), data);
    for (const [at, pattern] of [
      [lengths.length, /the lengths of tensor 's', \d+ bytes at byte 0, has the CRC-32C/],
      [
        data.length - 1,
        /names the data file .*data-00000-of-00001, which is damaged: tensor 's', 2\d\d bytes at byte 0, has/,
      ],
      [1, /has texts of \d+ bytes and room for \d+/],
    ] as const) {
      const spoilt = Buffer.from(data);
      spoilt[at]! ^= 1;
      const bundle = new TensorBundle(write(bytes, spoilt));
      assert.throws(() => bundle.read('s'), refused(pattern));
    }
  });

  it('is refused by the name of a variable that is partitioned', () => {
    const slice = field(7, field(1, Buffer.concat([field(1, 0), field(2, 2)])));
    const data = Buffer.alloc(8);
    const pairs = [
      ['', header()],
      // A piece's own key begins with a zero byte.
      [Buffer.from('\0\u0001part\0\u0001\u0001\u0001\u0080\u0082', 'latin1'), entry({ dtype: 1, shape: [2], data })],
    ] as const;
    assert.equal(new TensorBundle(write(index(pairs), data)).tensors.size, 0);
    const parted = entry({ dtype: 1, shape: [4], data: Buffer.alloc(0), more: Buffer.concat([slice, slice]) });
    assert.throws(
      () => new TensorBundle(write(index([...pairs, ['part', parted]]), data)),
      refused(
        /has variable 'part' in 2 pieces: partitioned variables are not read here; save it without a partitioner/,
      ),
    );
  });

  it('names the data file, the tensor and the place of what is damaged, cut off or gone', () => {
    const data = bytesOf(Float32Array.of(1, 2, 3));
    const bytes = index([
      ['', header()],
      ['w', entry({ dtype: 1, shape: [3], offset: 4, data })],
    ]);
    const whole = Buffer.concat([Buffer.alloc(4), data]);
    const spoilt = Buffer.from(whole);
    spoilt[9]! ^= 64;
    const file = () => `${prefix}.data-00000-of-00001`;
    const reading = (...files: Uint8Array[]) => {
      const bundle = new TensorBundle(write(bytes, ...files));
      return () => bundle.read('w');
    };
    assert.deepEqual(reading(whole)(), Float32Array.of(1, 2, 3));
    assert.throws(reading(spoilt), (error: Error) => {
      assert.ok(
        error.message.startsWith(
          `names the data file ${file()}, which is damaged: tensor 'w', 12 bytes at byte 4, has`,
        ),
      );
      return refused(/CRC-32C 0x[0-9a-f]{8}, not 0x[0-9a-f]{8}$/)(error);
    });
    assert.throws(
      reading(whole.subarray(0, 15)),
      refused(/is cut off: tensor 'w', 12 bytes at byte 4, and it has 15 in all/),
    );
    rmSync(file());
    assert.throws(() => new TensorBundle(prefix).read('w'), refused(/which cannot be read: .*ENOENT/));
    mkdirSync(file());
    assert.throws(() => new TensorBundle(prefix).read('w'), refused(/which is a folder/));
  });

  it('refuses an index that is none, is cut off, or says what cannot be', () => {
    const data = Buffer.alloc(8);
    const good = entry({ dtype: 1, shape: [2], data });
    const opening = (bytes: Uint8Array) => () => new TensorBundle(write(bytes, data));
    const cases: [Uint8Array, RegExp][] = [
      [Buffer.alloc(0), /is 0 bytes long, too short/],
      [
        Buffer.alloc(100, 1),
        /is no index file of TensorFlow's, or is cut off: it ends with 0x101010101010101, not 0xdb4775248b80fb57/,
      ],
      [index([['', header()]]).subarray(0, -1), /or is cut off/],
      [index([['w', good]]), /is an index without a header/],
      [index([]), /is an index without a header/],
      [index([['', header(0)]]), /names 0 data files/],
      [index([['', header(1, field(2, 1))]]), /was written on a big-endian machine/],
      [index([['', field(3, field(2, 2))]]), /is of version 2 of the format, and version 1 is read here/],
      [
        index([
          ['', header()],
          ['w', entry({ dtype: 1, shape: [3], data })],
        ]),
        /tensor 'w' of float \[3\] has 8 bytes, not 12/,
      ],
      [
        index([
          ['', header(2)],
          ['w', entry({ dtype: 1, shape: [2], shard: 2, data })],
        ]),
        /tensor 'w' is in data file 2 of 2/,
      ],
      [
        index([
          ['', header()],
          ['w', Buffer.from([0x12, 0x50])],
        ]),
        /its entry for tensor 'w' cannot be read/,
      ],
      [
        index([
          ['', header()],
          ['w', Buffer.concat([field(1, 1), field(2, field(3, 1))])],
        ]),
        /tensor 'w' has no shape/,
      ],
      [
        index([
          ['', header()],
          ['w', Buffer.concat([field(1, 1), Buffer.from('20ffffffffffffffffff01', 'hex')])],
        ]),
        /-1 is no size or place/,
      ],
      [
        index([
          ['', header()],
          ['w', good],
          ['v', good],
        ]),
        /keys of the block at byte 0 are not in order/,
      ],
      [
        index([
          ['', header()],
          ['w', good],
          ['w', good],
        ]),
        /keys of the block at byte 0 are not in order/,
      ],
      [table([{ last: 'z', bytes: block([['', header()]]), kind: 2 }]), /block at byte 0 of unknown compression 2/],
      [table([{ last: 'z', bytes: Buffer.from([1, 0, 0, 0, 0, 1, 0, 0, 0]) }]), /a block at byte 0 cannot be read: /],
      [table([{ last: 'z', bytes: Buffer.from('ffffffff', 'hex') }]), /4294967295 restarts do not fit into it/],
    ];
    for (const [bytes, pattern] of cases) assert.throws(opening(bytes), refused(pattern), String(pattern));
  });

  it('notices every flipped bit of an index', () => {
    const data = bytesOf(Float32Array.of(1.5, -2));
    for (let i = 0; i < INDEX_OF_XY.length; i++) {
      const spoilt = Buffer.from(INDEX_OF_XY);
      spoilt[i]! ^= 1 << (i % 8);
      // What is between the handles and the magic number is padding, and the metaindex is nobody's.
      try {
        const bundle = new TensorBundle(write(spoilt, data));
        assert.deepEqual(
          [bundle.read('x'), bundle.read('y')],
          [Float32Array.of(1.5), Float32Array.of(-2)],
          `byte ${i}`,
        );
      } catch (error) {
        assert.ok(error instanceof TensorFileError, `byte ${i}: ${error}`);
      }
    }
  });

  it('is no pipe, folder or link to nothing', () => {
    mkdirSync(`${prefix}.index`);
    assert.throws(() => new TensorBundle(prefix), refused(/is a folder/));
    symlinkSync('/nowhere', join(folder, 'link.index'));
    assert.throws(() => new TensorBundle(join(folder, 'link')), refused(/ENOENT/));
  });

  it('refuses to write what could not be read', () => {
    const one = { name: 'w', dtype: 'float', shape: [1], values: Float32Array.of(1) };
    for (const wrong of [
      { ...one, name: '' },
      { ...one, name: '\0w' },
      { ...one, dtype: 'float32' },
      { ...one, shape: [2] },
      { ...one, dtype: 'string' },
    ]) {
      assert.throws(() => encodeBundle([wrong]), RangeError);
    }
    assert.throws(() => encodeBundle([one, one]), /keys of a table must ascend/);
  });
});

describe('a table', () => {
  it('of many blocks gives back every key and value, in order', () => {
    const entries = Array.from({ length: 3000 }, (_, i) => ({
      key: Buffer.from(`resnet_model/layer_${String(i).padStart(5, '0')}/kernel`),
      value: Buffer.alloc(300, i),
    }));
    const bytes = writeTable(entries);
    assert.ok(bytes.length > 3 * 262_144);
    const read = readTable(bytes);
    assert.equal(read.length, entries.length);
    for (const [i, { key, value }] of read.entries()) {
      assert.deepEqual(Buffer.from(key), entries[i]?.key);
      assert.deepEqual(Buffer.from(value), entries[i]?.value);
    }
  });

  it('of several blocks, compressed and not, by other hands', () => {
    const value = Buffer.from('value');
    const first = block(
      [
        ['', value],
        ['abc', value],
        ['abd', value],
      ],
      true,
    );
    const second = block([
      ['b', value],
      ['bb', Buffer.alloc(200, 7)],
    ]);
    const read = readTable(
      table([
        { last: 'abe', bytes: snappyLiterals(first), kind: 1 },
        { last: 'c', bytes: second },
      ]),
    );
    assert.deepEqual(
      read.map(({ key }) => Buffer.from(key).toString()),
      ['', 'abc', 'abd', 'b', 'bb'],
    );
    assert.deepEqual(Buffer.from(read[4]!.value), Buffer.alloc(200, 7));
  });

  it('has blocks with good checksums: one byte elsewhere is named with both', () => {
    const bytes = index([['', header()]]);
    bytes[0]! ^= 255;
    assert.throws(
      () => readTable(bytes),
      refused(/the block at byte 0 has the CRC-32C 0x[0-9a-f]{8}, not 0x[0-9a-f]{8}/),
    );
    assert.equal(crc(Buffer.from('123456789')), 0xe3069283);
  });
});

describe("Snappy's blocks", () => {
  const uncompress = (hex: string) =>
    Buffer.from(uncompressSnappy(Buffer.from(hex.replaceAll(' ', ''), 'hex'))).toString();

  it('are literals and copies, overlapping ones too', () => {
    // The format's text: a literal's tag is (length − 1) · 4; 01, 10 and 11 are copies with offsets of one, two and four bytes.
    assert.equal(uncompress('05 10 68656c6c6f'), 'hello');
    assert.equal(uncompress('0a 04 6162 1d 02'.replace('1d', '11')), 'ab'.repeat(5));
    assert.equal(uncompress('0c 00 61 2a 0100'), 'a'.repeat(12));
    assert.equal(uncompress('0d 04 6162 2b 02000000'), `${'ab'.repeat(6)}a`);
    const long = 'x'.repeat(300);
    assert.equal(uncompress(`ac02 f4 2b01 ${Buffer.from(long).toString('hex')}`), long);
    assert.equal(uncompress('00'), '');
  });

  it('that cannot be are refused', () => {
    for (const [hex, pattern] of [
      ['', /end at byte 0/],
      ['05 10 6865', /end within a literal/],
      ['05 10 68656c6c6f 10 68656c6c6f', /more than their 5 bytes/],
      ['06 10 68656c6c6f', /hold 5 bytes, not 6/],
      ['06 00 61 01 02', /copy from before their beginning/],
      ['06 00 61 01 00', /copy from before their beginning/],
      ['06 00 61 12 01', /end at byte 5, within an element/],
      ['ffffffff0f 00 61', /cannot be those of 4294967295 bytes/],
      ['ffffffffff0f', /begin with no length/],
    ] as const) {
      assert.throws(
        () => uncompress(hex),
        (error: Error) => error instanceof RangeError && pattern.test(error.message),
        hex,
      );
    }
  });
});

describe('an index file beside its data', () => {
  it('is opened whatever its name', () => {
    prefix = join(folder, 'variables');
    write(INDEX_OF_XY, bytesOf(Float32Array.of(1.5, -2)));
    assert.deepEqual(new TensorBundle(prefix).read('y'), Float32Array.of(-2));
    assert.equal(readFileSync(`${prefix}.index`).length, INDEX_OF_XY.length);
  });
});
