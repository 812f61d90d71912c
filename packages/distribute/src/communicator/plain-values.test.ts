/** Values arrive as they were sent: compared by node:assert's own strict equality, which tells NaN, −0 and undefined apart. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseValues, stringifyValues } from './plain-values.js';

const roundTrip = (value: unknown) => parseValues(stringifyValues(value));

describe('plain values', () => {
  it('keep what JSON loses', () => {
    const values = [
      [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 0, 2 ** 53, 5e-324],
      undefined,
      { missing: undefined, deep: { loss: Number.NaN, list: [undefined, null, -0] } },
      123n,
      new Date(86_400_000),
      new Map<unknown, unknown>([
        ['loss', Number.NaN],
        [Number.NaN, new Set([-0, 'a'])],
      ]),
      new Float32Array([1.5, Number.NaN, -0]),
      new Float64Array([Math.PI]),
      new Uint8Array([1, 2, 255]).subarray(1),
      new BigInt64Array([-1n]),
      new Float32Array(new SharedArrayBuffer(8), 4, 1),
    ];
    for (const value of values) assert.deepEqual(roundTrip(value), value);
  });

  it('are what was sent, whatever it is: objects with a member $ or __proto__, too', () => {
    fc.assert(
      fc.property(fc.anything({ withBigInt: true, withTypedArray: true, withNullPrototype: false }), (value) => {
        assert.deepEqual(roundTrip(value), value);
      }),
    );
    for (const text of ['{"$":"number","v":1}', '{"$":{"$":1}}', '{"__proto__":{"a":1}}']) {
      assert.deepEqual(roundTrip(JSON.parse(text)), JSON.parse(text));
    }
  });

  it('refuse what cannot arrive, and say where it is', () => {
    const cycle: { self?: unknown } = {};
    cycle.self = [cycle];
    const tensor = { dataId: {}, shape: [2, 3], dtype: 'float32' };
    const refused: [unknown, RegExp][] = [
      [{ logs: [1, () => 2] }, /^The value\.logs\[1\] is a function, which cannot be sent to other replicas\.\nhelp: /],
      [Symbol('s'), /^The value is a symbol/],
      [cycle, /^The value\.self\[0\] contains itself/],
      [[Promise.resolve(1)], /^The value\[0\] is a promise.*\nhelp: await it first\./],
      [{ loss: tensor }, /^The value\.loss is a tensor of shape \[2,3\].*\nhelp: send its values/],
    ];
    for (const [value, message] of refused) assert.throws(() => stringifyValues(value), { name: 'TypeError', message });
    const shared = { a: 1 };
    assert.deepEqual(roundTrip([shared, shared]), [shared, shared], 'twice is no cycle');
  });
});
