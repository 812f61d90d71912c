/**
 * The safetensors format: files made by hand as its specification says, round trips, every rule of the specification broken
 * once, a thousand random files beside a plain reading of the rules, and a file that no buffer holds.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Philox } from '../random/philox.js';
import {
  decodeTensorFile,
  encodeTensorFile,
  readTensorFile,
  readTensorHeader,
  type StoredTensor,
  type TensorFile,
  TensorFileError,
} from './safetensors.js';

/** A file as the specification describes it, written without the encoder. */
function handmade(header: unknown, data: readonly number[]): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return new Uint8Array(Buffer.concat([length, json, Buffer.from(new Float32Array(data).buffer)]));
}

/** The rules read plainly: counts that are counts, bytes that fit, and every byte of the data in exactly one tensor. */
function keepsRules(entries: readonly [string, Record<string, unknown>][], dataBytes: number): boolean {
  if (new Set(entries.map(([name]) => name)).size < entries.length) return false;
  const uses = new Array<number>(dataBytes).fill(0);
  for (const [, { dtype, shape, data_offsets: offsets }] of entries) {
    if (dtype !== 'F32' && dtype !== 'I32') return false;
    if (!Array.isArray(shape) || !Array.isArray(offsets) || offsets.length !== 2) return false;
    if (![...shape, ...offsets].every((count) => Number.isInteger(count) && count >= 0 && count < 2 ** 53))
      return false;
    const [begin, end] = offsets as [number, number];
    if (end > dataBytes || begin > dataBytes) return false;
    if (end - begin !== 4 * shape.reduce((a: number, b: number) => a * b, 1)) return false;
    for (let i = begin; i < end; i++) uses[i]!++;
  }
  // A tensor without bytes lies where another begins, or at the end.
  const places = entries.map(([, entry]) => entry.data_offsets as [number, number]);
  const starts = new Set([0, dataBytes, ...places.filter(([begin, end]) => begin < end).map(([begin]) => begin)]);
  return uses.every((count) => count === 1) && places.every(([begin]) => starts.has(begin));
}

describe('safetensors', () => {
  it('reads a file that was made by hand', () => {
    const { tensors, metadata } = decodeTensorFile(
      handmade(
        {
          __metadata__: { step: '7' },
          b: { dtype: 'F32', shape: [2], data_offsets: [4, 12] },
          a: { dtype: 'F32', shape: [], data_offsets: [0, 4] },
        },
        [1.5, -2, 3],
      ),
    );
    assert.deepEqual(metadata, { step: '7' });
    assert.deepEqual(tensors, {
      b: { shape: [2], values: Float32Array.of(-2, 3) },
      a: { shape: [], values: Float32Array.of(1.5) },
    });
  });

  it('writes what the specification says: little-endian length, JSON padded with blanks to 8 bytes, then the data', () => {
    const bytes = Buffer.from(
      encodeTensorFile({ tensors: { w: { shape: [2, 1], values: Float32Array.of(1, 2) } }, metadata: { k: 'v' } }),
    );
    const length = Number(bytes.readBigUInt64LE());
    assert.equal(length % 8, 0);
    const text = bytes.toString('utf8', 8, 8 + length);
    assert.deepEqual(JSON.parse(text), {
      __metadata__: { k: 'v' },
      w: { dtype: 'F32', shape: [2, 1], data_offsets: [0, 8] },
    });
    assert.match(text, /\} *$/);
    assert.deepEqual(
      [bytes.readFloatLE(8 + length), bytes.readFloatLE(12 + length), bytes.length],
      [1, 2, 16 + length],
    );
  });

  it('gives back what was written, bit by bit, also through a file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
    try {
      const values = fc.float32Array({ maxLength: 40 });
      const integers = fc.int32Array({ maxLength: 40 });
      const tensor = fc
        .oneof(values, integers)
        .map((array) => ({ shape: [array.length], values: array as Float32Array | Int32Array }));
      fc.assert(
        fc.property(
          fc.dictionary(
            fc.string({ minLength: 1 }).filter((name) => name !== '__metadata__'),
            tensor,
          ),
          fc.dictionary(fc.string({ minLength: 1 }), fc.string()),
          (tensors, metadata) => {
            const path = join(folder, 'x.safetensors');
            writeFileSync(path, encodeTensorFile({ tensors, metadata }));
            const read = readTensorFile(path);
            // A Buffer's slice does not copy: every tensor was the whole file once.
            assert.deepEqual(decodeTensorFile(readFileSync(path)), read);
            assert.deepEqual(Object.entries(read.metadata), Object.entries(metadata));
            assert.deepEqual(Object.keys(read.tensors).sort(), Object.keys(tensors).sort());
            for (const [name, { shape, values: expected }] of Object.entries(tensors)) {
              const actual = read.tensors[name]!;
              assert.deepEqual(actual.shape, shape);
              assert.equal(actual.values.constructor, expected.constructor);
              const bits = (array: Float32Array | Int32Array) =>
                Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('hex');
              assert.equal(bits(actual.values), bits(expected));
            }
          },
        ),
        { numRuns: 50 },
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('says why bytes are no safetensors file', () => {
    const one = (entry: object) => handmade({ w: entry }, [1, 2]);
    for (const [bytes, reason] of [
      [new Uint8Array(3), /is 3 bytes long, too short/],
      [new Uint8Array(64).fill(255), /says that its header has/],
      [handmade('{"w": ', []), /header that is not JSON/],
      [handmade('null', []), /header that is no JSON object/],
      [handmade('[1]', []), /header that is no JSON object/],
      [handmade({ w: null }, []), /describes tensor 'w' incompletely/],
      [one({}), /describes tensor 'w' incompletely/],
      [one({ dtype: 'F64', shape: [1], data_offsets: [0, 8] }), /tensor 'w' of unknown dtype F64/],
      [one({ dtype: 'F32', shape: [3], data_offsets: [0, 8] }), /has 8 bytes for tensor 'w' of shape \[3\]/],
      [one({ dtype: 'F32', shape: [2], data_offsets: [4, 12] }), /is cut off: tensor 'w'/],
    ] as const) {
      assert.throws(
        () => decodeTensorFile(bytes),
        (error: Error) => error instanceof TensorFileError && reason.test(error.message),
      );
    }
  });

  it('keeps every rule of the published format', () => {
    const w = (entry: object) => handmade({ w: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...entry } }, [1, 2]);
    const text = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}';
    const deep = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
    for (const [what, bytes, reason] of [
      ['begins with {', handmade(` {"w":${text}}`, [1, 2]), /does not begin with \{/],
      ['is UTF-8', handmade({ w: 1 }, []).with(9, 0xff), /not UTF-8/],
      ['no name twice', handmade(`{"w":${text},"w":${text}}`, [1, 2]), /has 'w' twice/],
      ['no name twice, written otherwise', handmade(`{"w":${text},"\\u0077":${text}}`, [1, 2]), /has 'w' twice/],
      ['no field twice', handmade(`{"w":${text.replace('{', '{"shape":[1],')}}`, [1, 2]), /has 'shape' twice/],
      ['one value', handmade(`{"w":${text}}{}`, [1, 2]), /more than one value/],
      ['no comma too many', handmade(`{"w":${text},}`, [1, 2]), /no text/],
      ['no NaN', handmade('{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', [1, 2]), /no value/],
      ['no raw control characters', handmade(`{"w\n":${text}}`, [1, 2]), /control character/],
      ['not deep', handmade(`{"w":${deep(33)}}`, []), /more than 32 brackets/],
      ['not deep: brackets only', handmade(`{"w":${'['.repeat(5e6)}`, []), /more than 32 brackets/],
      ['metadata is an object', handmade({ __metadata__: 5 }, []), /__metadata__ that is no JSON object/],
      ['metadata is texts', handmade({ __metadata__: { a: 'x', b: 1 } }, []), /metadata 'b' that is no text/],
      ['a shape has no negative sizes', w({ shape: [-2, -1] }), /a shape that is no list of counts/],
      ['a shape has whole sizes', w({ shape: [0.5, 4] }), /a shape that is no list of counts/],
      ['a shape has numbers', w({ shape: ['2'] }), /a shape that is no list of counts/],
      ['a shape does not overflow', w({ shape: Array(1100).fill(2) }), /has 8 bytes for tensor 'w' of shape/],
      ['a shape fits its bytes', w({ shape: [] }), /has 8 bytes for tensor 'w' of shape \[\]/],
      ['offsets are two', w({ data_offsets: [8] }), /incompletely/],
      ['offsets are whole', w({ data_offsets: [0.5, 8.5] }), /offsets that are no counts/],
      ['offsets are not negative', w({ data_offsets: [-8, 0] }), /offsets that are no counts/],
      ['offsets are numbers', w({ data_offsets: ['0', '8'] }), /offsets that are no counts/],
      ['offsets are in order', w({ data_offsets: [8, 0] }), /has -8 bytes/],
      [
        'offsets are finite',
        handmade('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,1e400]}}', [1, 2]),
        /no counts/,
      ],
      ['a dtype is a text', w({ dtype: 4 }), /incompletely/],
      ['a dtype of the format', w({ dtype: 'toString' }), /unknown dtype 'toString'/],
      ['no overlap', handmade(`{"a":${text},"w":${text}}`, [1, 2]), /has tensor 'w' overlapping with another/],
      [
        'no hole',
        handmade({ w: { dtype: 'F32', shape: [1], data_offsets: [4, 8] } }, [1, 2]),
        /hole of 4 bytes before/,
      ],
      ['nothing behind', handmade({ w: { dtype: 'F32', shape: [1], data_offsets: [0, 4] } }, [1, 2]), /4 bytes behind/],
      ['nothing but data', handmade({}, [1]), /4 bytes behind/],
    ] as [string, Uint8Array, RegExp][]) {
      assert.throws(
        () => decodeTensorFile(bytes),
        (error: Error) => error instanceof TensorFileError && reason.test(error.message),
        what,
      );
    }
    // What the format allows: blanks behind the header, scalars, empty tensors at any place, NaN and infinity, any order.
    const allowed = decodeTensorFile(
      handmade(
        `{"b":{"dtype":"F32","shape":[],"data_offsets":[4,8]},"n":{"dtype":"I32","shape":[3,0],"data_offsets":[4,4]},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}  `,
        [Number.NaN, Number.NEGATIVE_INFINITY],
      ),
    );
    assert.deepEqual(allowed.tensors, {
      b: { shape: [], values: Float32Array.of(Number.NEGATIVE_INFINITY) },
      n: { shape: [3, 0], values: new Int32Array(0) },
      a: { shape: [1, 1], values: Float32Array.of(Number.NaN) },
    });
    assert.deepEqual(decodeTensorFile(handmade('{}', [])), { tensors: {}, metadata: {} });
  });

  it('names mean nothing to JavaScript, nor to a terminal', () => {
    const { tensors, metadata } = decodeTensorFile(
      handmade(
        '{"__metadata__":{"__proto__":"m"},"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"constructor":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        [1, 2],
      ),
    );
    assert.deepEqual(Object.keys(tensors), ['__proto__', 'constructor']);
    assert.deepEqual(Object.entries(metadata), [['__proto__', 'm']]);
    assert.equal(Object.getPrototypeOf(tensors), Object.prototype);
    assert.equal(({} as Record<string, unknown>).shape, undefined);
    const odd = '\u001b[2J\u001b]0;owned\u0007\u202e\u2028';
    assert.throws(
      () => decodeTensorFile(handmade({ [odd]: null }, [])),
      /tensor '\\u\{1b\}\[2J\\u\{1b\}\]0;owned\\u\{7\}\\u\{202e\}\\u\{2028\}' incompletely/,
    );
    assert.throws(
      () => decodeTensorFile(handmade({ ['n'.repeat(5e6)]: null }, [])),
      ({ message }: Error) => message.length < 200,
    );
  });

  it('writes nothing that it would not read', () => {
    const values = new Float32Array(2);
    assert.throws(() => encodeTensorFile({ tensors: { w: { shape: [3], values } }, metadata: {} }), /has 2 values/);
    assert.throws(
      () => encodeTensorFile({ tensors: { __metadata__: { shape: [2], values } }, metadata: {} }),
      RangeError,
    );
    assert.throws(() => encodeTensorFile({ tensors: {}, metadata: { a: 1 as unknown as string } }), /must be text/);
  });

  it('a thousand random files are read exactly if they keep the rules, and otherwise refused in words', () => {
    const random = new Philox(11);
    const pick = <T>(...values: T[]): T => values[random.integer(values.length)] as T;
    let accepted = 0;
    for (let i = 0; i < 1000; i++) {
      const entries: [string, Record<string, unknown>][] = [];
      let at = 0;
      for (let t = random.integer(5); t > 0; t--) {
        const shape = Array.from({ length: random.integer(3) }, () => random.integer(4));
        const end = at + 4 * shape.reduce((a, b) => a * b, 1);
        entries.push([`t${t}`, { dtype: pick('F32', 'I32'), shape, data_offsets: [at, end] }]);
        at = end;
      }
      if (random.integer(2) === 0) entries.reverse();
      // Half of the files have a fault in their header, an eighth one anywhere.
      const fault = random.integer(16);
      const victim = entries[random.integer(entries.length || 1)];
      if (victim && fault < 8) {
        const [, entry] = victim;
        const numbers = pick(entry.shape, entry.data_offsets) as unknown[];
        if (fault < 4)
          numbers[random.integer(numbers.length || 1)] = pick<unknown>(-1, 0, 4, 8, 0.5, null, '4', 2 ** 53);
        else if (fault === 4)
          entry[pick('dtype', 'shape', 'data_offsets')] = pick<unknown>('F64', [], {}, null, undefined, 4);
        else if (fault === 5) entries.push(pick(victim, [`u${i}`, entry]));
        else if (fault === 6) entries.splice(entries.indexOf(victim), 1);
        else at += pick(-4, -1, 1, 4);
      }
      const data = Buffer.from(Array.from({ length: Math.max(0, at) }, () => random.integer(256)));
      const json = Buffer.from(`{${entries.map(([name, entry]) => `"${name}":${JSON.stringify(entry)}`).join(',')}}`);
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(json.length));
      const bytes = Buffer.concat([length, json, data]);
      let isKnown = true;
      if (fault > 13) {
        // One byte changes, or some come or go: only that it ends in words can be asked for.
        isKnown = false;
        bytes[random.integer(bytes.length)] = random.integer(256);
      }
      const part = fault === 15 ? bytes.subarray(0, random.integer(bytes.length)) : bytes;
      let read: TensorFile | null = null;
      try {
        read = decodeTensorFile(part);
      } catch (error) {
        assert.ok(error instanceof TensorFileError, `file ${i}: ${error}`);
      }
      if (!isKnown) continue;
      assert.equal(read !== null, keepsRules(entries, data.length), `file ${i}: ${json}, ${data.length} bytes`);
      if (read === null) continue;
      accepted++;
      for (const [name, entry] of entries) {
        const { shape, values }: StoredTensor = read.tensors[name]!;
        assert.deepEqual(shape, entry.shape);
        const [begin, end] = entry.data_offsets as [number, number];
        assert.deepEqual(Buffer.from(values.buffer), data.subarray(begin, end));
      }
    }
    assert.ok(accepted > 300 && accepted < 700, `${accepted} files keep the rules`);
  });

  it('what is no regular file is refused at once', () => {
    const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
    try {
      const at = (name: string) => join(folder, name);
      mkdirSync(at('folder'));
      symlinkSync('/nowhere', at('link'));
      symlinkSync('loop', at('loop'));
      assert.equal(spawnSync('mkfifo', [at('fifo')]).status, 0);
      for (const [name, reason] of [
        ['folder', /^is a folder$/],
        ['link', /^cannot be read: a link to nothing, or gone \(ENOENT\)$/],
        ['loop', /^cannot be read: ELOOP$/],
        ['fifo', /^is no regular file$/],
      ] as const) {
        for (const read of [readTensorFile, readTensorHeader]) {
          assert.throws(
            () => read(at(name)),
            (error: Error) => error instanceof TensorFileError && reason.test(error.message),
            name,
          );
        }
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('a file of more than 2 GiB is read at positions', (context) => {
    const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
    try {
      const [big, small] = [2 ** 31 + 2 ** 20, 8];
      const { bavail, bsize } = statfsSync(folder);
      if (freemem() < 2 * big || bavail * bsize < 2 ** 20) {
        context.skip('there is not enough free memory here');
        return;
      }
      const path = join(folder, 'big.safetensors');
      const json = JSON.stringify({
        big: { dtype: 'I32', shape: [big / 4], data_offsets: [0, big] },
        small: { dtype: 'F32', shape: [2], data_offsets: [big, big + small] },
      });
      const first = handmade(json, []);
      const file = openSync(path, 'w');
      writeSync(file, first);
      // All but the ends is a hole, which takes no room.
      ftruncateSync(file, first.length + big + small);
      writeSync(file, Int32Array.of(7), 0, 4, first.length + big - 4);
      writeSync(file, Float32Array.of(1.5, -2), 0, 8, first.length + big);
      closeSync(file);
      assert.deepEqual(
        readTensorHeader(path).places.map(({ end }) => end),
        [big, big + small],
      );
      const { tensors } = readTensorFile(path);
      assert.deepEqual(tensors.small!.values, Float32Array.of(1.5, -2));
      assert.equal(tensors.big!.values.at(-1), 7);
      assert.equal(tensors.big!.values.length, big / 4);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('a file cut off anywhere is noticed', () => {
    const whole = encodeTensorFile({
      tensors: { w: { shape: [4], values: Float32Array.of(1, 2, 3, 4) } },
      metadata: {},
    });
    for (let length = 0; length < whole.length; length++) {
      assert.throws(() => decodeTensorFile(whole.subarray(0, length)), TensorFileError, `${length} bytes`);
    }
  });
});
