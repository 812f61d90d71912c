/** Weights in fewer bits: halves by their definition, bytes by the error that their levels allow. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { storedWeight, toHalves } from './quantize.js';

/** By IEEE 754's definition. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

describe('half precision', () => {
  it('leaves alone what is a half already, all of them', () => {
    const finite = Array.from({ length: 0x8000 }, (_, bits) => bits).filter((bits) => bits >> 10 < 31);
    const all = [...finite, ...finite.map((bits) => bits | 0x8000)];
    assert.deepEqual([...toHalves(Float32Array.from(all, halfValue))], all);
  });

  it('takes the nearest, and of two the even one', () => {
    fc.assert(
      fc.property(
        fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-65503), max: Math.fround(65503) }),
        (value) => {
          const [bits = 0] = toHalves(Float32Array.of(value));
          const gap = Math.abs(halfValue(bits) - value);
          const size = bits & 0x7fff;
          for (const other of [size - 1, size + 1].filter((one) => one >= 0 && one < 0x7c00)) {
            const its = Math.abs(halfValue(other | (bits & 0x8000)) - value);
            assert.ok(gap < its || (gap === its && size % 2 === 0), `${value}: ${halfValue(bits)}`);
          }
        },
      ),
      { numRuns: 2000 },
    );
    // Between 1 and its neighbour, between that and the next, and what is too large.
    const cases = Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11, 70_000, -70_000, -0);
    assert.deepEqual([...toHalves(cases)].map(halfValue), [1, 1 + 2 ** -9, 65_504, -65_504, -0]);
  });
});

describe('bytes', () => {
  const decode = (values: Float32Array) => {
    const { bytes, quantization } = storedWeight(values, [values.length, 1], 'uint8');
    const { scale = 0, min = 0 } = quantization ?? {};
    return { decoded: Array.from(bytes, (byte) => scale * byte + min), scale };
  };

  it('are wrong by half a level at most at every weight, and by nothing at zero', () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ noNaN: true, min: Math.fround(-100), max: Math.fround(100) }), {
          minLength: 1,
          maxLength: 50,
        }),
        (list) => {
          const values = Float32Array.from([0, ...list]);
          const { decoded, scale } = decode(values);
          const range = Math.max(...values) - Math.min(...values);
          assert.ok(Math.abs(scale - range / 255) <= 1e-12 || range === 0);
          // The level that is zero moves the others by up to half a level, which cuts off one end.
          for (const [i, value] of values.entries()) {
            assert.ok(Math.abs((decoded[i] as number) - value) <= 1.01 * scale, `${value}: ${decoded[i]}`);
          }
          assert.ok(Math.abs(decoded[0] as number) <= 1e-12);
        },
      ),
    );
  });

  it('are not what offsets and scales are stored as', () => {
    for (const how of ['uint8', 'float16'] as const) {
      const stored = storedWeight(Float32Array.of(1, 2, 3), [3], how);
      assert.deepEqual([stored.quantization, stored.bytes.length], [undefined, 12]);
    }
    assert.deepEqual(decode(new Float32Array(4)).decoded, [0, 0, 0, 0]);
  });
});
