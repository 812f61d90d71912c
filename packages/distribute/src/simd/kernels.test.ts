/** The kernels, WebAssembly and plain: against f64 loops written here, against each other bit by bit, and their refusals. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { FlatMemory } from './flat-memory.js';
import type { FlatKernels } from './kernels.js';
import { plainKernels } from './plain-kernels.js';
import { type UpdateName, updates } from './updates/index.js';

const memory = FlatMemory.create(1);
const simd = memory.kernels;
/** Around the vector loops' 4, 8 and 16 elements, and primes. */
const LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 101, 1021];
const LONGEST = 1024;
const REPLICAS = 9;
const arrays = memory.allocateEach(REPLICAS + 3, LONGEST + 8);

/** Array `index` of the memory, `offset` elements into it, with values that round when they are summed. */
function array(index: number, length: number, offset = 0): Float32Array {
  const values = (arrays[index] as Float32Array).subarray(offset, offset + length);
  for (let i = 0; i < length; i++) values[i] = (((i * 37 + index * 11) % 101) - 50) / 7;
  return values;
}

/** The same numbers outside the memory. */
const copy = (values: Float32Array) => Float32Array.from(values);

function assertNear(actual: Float32Array, expected: readonly number[], what: string, relative = 8 * 2 ** -24): void {
  assert.equal(actual.length, expected.length);
  for (const [i, want] of expected.entries()) {
    const got = actual[i] as number;
    assert.ok(Math.abs(got - want) <= relative * Math.max(8, Math.abs(want)), `${what}[${i}]: ${got}, not ${want}`);
  }
}

const update = { learningRate: 0.1, gradientScale: 1 / 3, weightDecay: 1e-2, momentum: 0.9 };
const numbers = [update.gradientScale, update.weightDecay, update.learningRate, update.momentum];
/** For every loop, in the order of its file. */
const NUMBERS: Readonly<Record<UpdateName, readonly number[]>> = {
  sgd: numbers.slice(0, 3),
  momentum: numbers,
  nesterov: numbers,
  adam: [1 / 3, 1e-2, 0.1, 0.9, 0.1, 0.99, 0.01, 1 / (1 - 0.9 ** 3), 1 / (1 - 0.99 ** 3), 1e-7],
  adamw: [1 / 3, 0.999, 0.1, 0.9, 0.1, 0.99, 0.01, 1 / (1 - 0.9 ** 3), 1 / (1 - 0.99 ** 3), 1e-7],
  rmsprop: [1 / 3, 1e-2, 0.1, 0.9, 0.1, 0.5, 1e-7],
  rmspropCentered: [1 / 3, 1e-2, 0.1, 0.9, 0.1, 0.5, 1e-7],
};
const NAMES = Object.keys(updates) as UpdateName[];

/** What the update is by definition, in f64. */
function momentumByHand(w: Float32Array, m: Float32Array, gradients: Float32Array[], nesterov: boolean) {
  const slot: number[] = [];
  const weights = Array.from(w, (value, i) => {
    const sum = gradients.reduce((total, gradient) => total + (gradient[i] as number), 0);
    const g = sum * update.gradientScale + update.weightDecay * value;
    const next = update.momentum * (m[i] as number) + g;
    slot.push(next);
    return value - update.learningRate * (nesterov ? g + update.momentum * next : next);
  });
  return { weights, slot };
}

it('the package was built with its WebAssembly kernels, so both kinds are tested', () => {
  assert.equal(simd.name, 'simd');
  assert.equal(plainKernels.name, 'plain');
});

const kinds: [string, FlatKernels][] = [
  ['simd', simd],
  ['plain', plainKernels],
];
for (const [name, kernels] of kinds) {
  describe(`kernels ${name} against f64 loops`, () => {
    it('sum, into one of the sources as well', () => {
      for (const length of LENGTHS) {
        for (let replicas = 1; replicas <= REPLICAS; replicas++) {
          const sources = Array.from({ length: replicas }, (_, i) => array(i, length));
          const expected = Array.from({ length }, (_, i) => sources.reduce((sum, s) => sum + (s[i] as number), 0));
          const target = array(REPLICAS, length);
          kernels.sum(target, sources);
          assertNear(target, expected, `${replicas} sources`);
          kernels.sum(sources.at(-1) as Float32Array, sources);
          assert.deepEqual(copy(sources.at(-1) as Float32Array), copy(target));
        }
      }
    });

    it('sumToAll: every buffer is the sum, and nothing behind it is touched', () => {
      for (const length of LENGTHS) {
        for (let replicas = 1; replicas <= REPLICAS; replicas++) {
          const buffers = Array.from({ length: replicas }, (_, i) => {
            array(i, length + 4);
            return array(i, length);
          });
          const behind = buffers.map((_, i) => copy((arrays[i] as Float32Array).subarray(length, length + 4)));
          const expected = Array.from({ length }, (_, i) => buffers.reduce((sum, s) => sum + (s[i] as number), 0));
          kernels.sumToAll(buffers);
          for (const buffer of buffers) assertNear(buffer, expected, 'sum');
          for (const [i, rest] of behind.entries()) {
            assert.deepEqual(copy((arrays[i] as Float32Array).subarray(length, length + 4)), rest);
          }
        }
      }
    });

    it('copy, scale, sumSquares, allFinite', () => {
      for (const length of LENGTHS) {
        const source = array(0, length);
        const target = array(1, length);
        kernels.copy(target, source);
        assert.deepEqual(copy(target), copy(source));
        kernels.scale(target, source, 0.37);
        assertNear(
          target,
          Array.from(source, (value) => value * 0.37),
          'scaled',
        );
        const squares = source.reduce((sum, value) => sum + value * value, 0);
        assert.ok(Math.abs(kernels.sumSquares(source) - squares) <= 1e-12 * (1 + squares));
        assert.equal(kernels.allFinite(source), true);
        for (let at = 0; at < length; at += 3) {
          for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
            const kept = source[at] as number;
            source[at] = bad;
            assert.equal(kernels.allFinite(source), false, `${bad} at ${at} of ${length}`);
            source[at] = kept;
          }
        }
      }
    });

    it('momentum (with and without Nesterov) and SGD by their definition', () => {
      for (const length of LENGTHS) {
        for (const replicas of [1, 2, 3, 8]) {
          const gradients = Array.from({ length: replicas }, (_, i) => array(i, length));
          for (const nesterov of [false, true]) {
            const [weights, slot] = [array(REPLICAS, length), array(REPLICAS + 1, length)];
            const expected = momentumByHand(weights, slot, gradients, nesterov);
            assert.equal(kernels.update(nesterov ? 'nesterov' : 'momentum', weights, [slot], gradients, numbers), true);
            assertNear(weights, expected.weights, 'weights');
            assertNear(slot, expected.slot, 'slot');
          }
          const weights = array(REPLICAS, length);
          const zero = new Float32Array(length);
          const expected = momentumByHand(weights, zero, gradients, false).weights;
          assert.equal(kernels.update('sgd', weights, [], gradients, numbers.slice(0, 3)), true);
          assertNear(weights, expected, 'weights');
        }
      }
    });

    it('updates say whether every summed gradient was finite, wherever the one is that was not', () => {
      const length = 23;
      for (let at = 0; at < length; at++) {
        for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
          const gradients = [array(0, length), array(1, length)];
          (gradients[1] as Float32Array)[at] = bad;
          const [weights, slot] = [array(REPLICAS, length), array(REPLICAS + 1, length)];
          assert.equal(kernels.update('momentum', weights, [slot], gradients, numbers), false);
          for (const name of NAMES) {
            const slots = [1, 2, 3].map((i) => array(REPLICAS - i, length).map(Math.abs));
            const inside = slots.map((values, i) => {
              const slot = array(REPLICAS - 1 - i, length);
              slot.set(values);
              return slot;
            });
            assert.equal(kernels.update(name, array(REPLICAS, length), inside, gradients, NUMBERS[name]), false, name);
          }
        }
      }
      // Two finite numbers whose sum is not.
      const large = [array(0, length).fill(3e38), array(1, length).fill(3e38)];
      assert.equal(kernels.update('sgd', array(REPLICAS, length), [], large, numbers), false);
    });
  });
}

/** The bfloat16 nearest to an f32, by its definition: eight bits of significand, ties to even. In f64, which is exact here. */
function nearestBf16(value: number): number {
  if (!Number.isFinite(value) || value === 0) return value;
  const exponent = Math.max(-126, Math.floor(Math.log2(Math.abs(value))));
  const unit = 2 ** (exponent - 7);
  const quotient = value / unit;
  const below = Math.floor(quotient);
  const rest = quotient - below;
  const whole = rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
  // The largest finite bfloat16 is (2 − 2⁻⁷) · 2¹²⁷; what rounds beyond it overflows.
  if (Math.abs(whole * unit) >= 2 ** 128) return Math.sign(value) * Number.POSITIVE_INFINITY;
  // A small negative number becomes a negative zero.
  return whole === 0 ? Math.sign(value) * 0 : whole * unit;
}

for (const [name, kernels] of kinds) {
  describe(`bfloat16, ${name}`, () => {
    const halves = new Uint16Array((arrays[0] as Float32Array).buffer, (arrays[0] as Float32Array).byteOffset, LONGEST);
    const [source, target] = [arrays[1] as Float32Array, arrays[2] as Float32Array];

    it('rounds to nearest, ties to even, and comes back exactly', () => {
      const bits = fc.integer({ min: 0, max: 0xffffffff });
      const edge = fc.constantFrom(0, 0x80000000, 0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 1, 0x8000, 0x18000, 0x3f808000);
      fc.assert(
        fc.property(fc.array(fc.oneof(bits, edge), { maxLength: 40 }), (words) => {
          const length = words.length;
          new Uint32Array(source.buffer, source.byteOffset, length).set(words);
          const values = source.subarray(0, length);
          kernels.toBf16(halves.subarray(0, length), values);
          kernels.fromBf16(target.subarray(0, length), halves.subarray(0, length));
          for (const [i, value] of values.entries()) assert.ok(Object.is(target[i], nearestBf16(value)), `${value}`);
        }),
        { numRuns: 500 },
      );
    });

    it('keeps NaN, whatever its bits, and infinities', () => {
      const words = [0x7fffffff, 0x7f800001, 0xffffffff, 0xff800001, 0x7fc00000, 0x7f800000, 0xff800000, 0, 1];
      new Uint32Array(source.buffer, source.byteOffset, words.length).set(words);
      kernels.toBf16(halves.subarray(0, words.length), source.subarray(0, words.length));
      kernels.fromBf16(target.subarray(0, words.length), halves.subarray(0, words.length));
      const { NaN: nan, POSITIVE_INFINITY: infinite } = Number;
      assert.deepEqual([...target.subarray(0, 7)], [nan, nan, nan, nan, nan, infinite, -infinite]);
    });

    it('adds, rounding once, and touches nothing behind', () => {
      for (const length of LENGTHS) {
        const values = array(1, length);
        kernels.toBf16(halves.subarray(0, length), values);
        const sum = array(2, length + 8, 0);
        const before = copy(sum);
        kernels.addBf16(sum.subarray(0, length), halves.subarray(0, length));
        for (const [i, value] of sum.entries()) {
          const added = i < length ? Math.fround((before[i] as number) + nearestBf16(values[i] as number)) : before[i];
          assert.equal(value, added, `element ${i} of ${length}`);
        }
      }
    });
  });
}

describe('both kinds of kernels', () => {
  const numbersIn = fc.array(fc.float({ noNaN: true, min: Math.fround(-1e6), max: Math.fround(1e6) }), {
    minLength: 1,
    maxLength: 70,
  });

  it('give the same bits, from any alignment, for any values', () => {
    fc.assert(
      fc.property(
        numbersIn,
        fc.integer({ min: 1, max: REPLICAS }),
        fc.nat({ max: 3 }),
        fc.boolean(),
        (values, n, offset, nesterov) => {
          const gradients = Array.from({ length: n }, (_, i) => {
            const of = array(i, values.length, offset);
            for (const [k, value] of values.entries()) of[k] = value / (i + 1);
            return of;
          });
          const [weights, slot] = [array(REPLICAS, values.length, offset), array(REPLICAS + 1, values.length, offset)];
          const plain = { gradients: gradients.map(copy), weights: copy(weights), slot: copy(slot) };
          const loop = nesterov ? 'nesterov' : 'momentum';
          simd.update(loop, weights, [slot], gradients, numbers);
          plainKernels.update(loop, plain.weights, [plain.slot], plain.gradients, numbers);
          assert.deepEqual(copy(weights), plain.weights);
          assert.deepEqual(copy(slot), plain.slot);
          simd.update('sgd', weights, [], gradients, numbers);
          plainKernels.update('sgd', plain.weights, [], plain.gradients, numbers);
          assert.deepEqual(copy(weights), plain.weights);
          simd.sumToAll(gradients);
          plainKernels.sumToAll(plain.gradients);
          assert.deepEqual(gradients.map(copy), plain.gradients);
          simd.scale(weights, gradients[0] as Float32Array, 0.1);
          plainKernels.scale(plain.weights, plain.gradients[0] as Float32Array, 0.1);
          assert.deepEqual(copy(weights), plain.weights);
        },
      ),
    );
  });

  it('and so do the loops of all optimizers, sums of squares and clipping', () => {
    fc.assert(
      fc.property(
        numbersIn,
        fc.constantFrom(...NAMES),
        fc.integer({ min: 1, max: 3 }),
        fc.nat({ max: 3 }),
        (values, name, n, offset) => {
          const fill = (index: number, of: (value: number) => number) => {
            const target = array(index, values.length, offset);
            for (const [k, value] of values.entries()) target[k] = of(value);
            return target;
          };
          const gradients = Array.from({ length: n }, (_, i) => fill(i, (value) => value / (i + 1)));
          const weights = fill(3, (value) => value * 0.7);
          // Mean squares are not negative, and at least the squares of mean gradients.
          const slots = [fill(4, (value) => value * value), fill(5, Math.abs), fill(6, (value) => value / 9)];
          const plain = { weights: copy(weights), slots: slots.map(copy), gradients: gradients.map(copy) };
          assert.equal(
            simd.update(name, weights, slots, gradients, NUMBERS[name]),
            plainKernels.update(name, plain.weights, plain.slots, plain.gradients, NUMBERS[name]),
          );
          assert.deepEqual(copy(weights), plain.weights, name);
          assert.deepEqual(slots.map(copy), plain.slots, name);
          const squares = simd.sumSquaresDecayed(gradients[0] as Float32Array, weights, 0.3, 0.01);
          const byHand = values.reduce(
            (sum, _, k) => sum + ((gradients[0]![k] as number) * 0.3 + 0.01 * (weights[k] as number)) ** 2,
            0,
          );
          assert.ok(
            Object.is(squares, byHand) || Math.abs(squares - byHand) <= 1e-5 * byHand + 1e-70 || !(byHand < 1e300),
            `${squares} ${byHand}`,
          );
          simd.clip(weights, gradients[0] as Float32Array, 2.5);
          assert.deepEqual(
            copy(weights),
            (gradients[0] as Float32Array).map((value) => Math.max(-2.5, Math.min(2.5, value))),
          );
        },
      ),
    );
  });

  it('SIMD kernels refuse arrays elsewhere, and accept() says so before', () => {
    const inside = array(0, 4);
    const outside = new Float32Array(4);
    assert.equal(simd.accepts([inside]), true);
    assert.equal(simd.accepts([inside, outside]), false);
    assert.equal(plainKernels.accepts([outside]), true);
    assert.throws(() => simd.sum(inside, [inside, outside]), /outside its FlatMemory\.\nhelp: /);
    assert.throws(() => simd.sum(inside, Array(300).fill(inside)), /at most 256 buffers, got 300/);
  });
});
