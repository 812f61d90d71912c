/** Loss scaling by itself and in a trainer: doubles after good steps, halves and skips where gradients are not finite. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LossScale } from './loss-scale.js';

test('a fixed scale stays what it is', () => {
  const scale = new LossScale(128);
  assert.equal(scale.settle(true), true);
  assert.equal(scale.settle(false), false);
  assert.equal(scale.value, 128);
  assert.equal(new LossScale().value, 1);
});

test('a dynamic scale doubles after growthSteps good steps in a row', () => {
  const scale = new LossScale({ initial: 8, growthSteps: 3 });
  const values = [true, true, true, true, true, false, true, true, true].map((finite) => {
    scale.settle(finite);
    return scale.value;
  });
  assert.deepEqual(values, [8, 8, 16, 16, 16, 8, 8, 8, 16]);
});

test('it halves down to 1 and then says that it cannot help', () => {
  const scale = new LossScale({ initial: 3 });
  assert.deepEqual([scale.settle(false), scale.value], [true, 1.5]);
  assert.deepEqual([scale.settle(false), scale.value], [true, 1]);
  assert.deepEqual([scale.settle(false), scale.value], [false, 1]);
});

test("'dynamic' has TensorFlow's defaults", () => {
  const scale = new LossScale('dynamic');
  assert.equal(scale.value, 32768);
  for (let step = 0; step < 1999; step++) scale.settle(true);
  assert.equal(scale.value, 32768);
  scale.settle(true);
  assert.equal(scale.value, 65536);
});

test('what it knows can be saved: one that is restored goes on as the one that was not interrupted', () => {
  const option = { initial: 8, growthSteps: 3 };
  const steps = [true, true, false, true, true, true, true, false, true, true, true, true];
  for (let stop = 0; stop <= steps.length; stop++) {
    const whole = new LossScale(option);
    let parts = new LossScale(option);
    for (const [step, finite] of steps.entries()) {
      if (step === stop) {
        const { state } = parts;
        parts = new LossScale(option);
        parts.restore(JSON.parse(JSON.stringify(state)));
      }
      whole.settle(finite);
      parts.settle(finite);
      assert.deepEqual(parts.state, whole.state, `step ${step}, stopped before ${stop}`);
    }
  }
});

test('a fixed scale has no state, and takes none', () => {
  const scale = new LossScale(128);
  assert.equal(scale.state, null);
  scale.restore({ value: 4, goodSteps: 0 });
  assert.equal(scale.value, 128);
});

test('nonsense is an error with the value', () => {
  assert.throws(() => new LossScale(0), /lossScale must be positive and finite, got 0/);
  assert.throws(() => new LossScale(Number.NaN), /got NaN/);
  assert.throws(() => new LossScale({ growthSteps: 1.5 }), /positive integer, got 1.5/);
  for (const value of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.throws(
      () => new LossScale('dynamic').restore({ value, goodSteps: 0 }),
      new RegExp(`positive and finite, got ${value}`),
    );
  }
  assert.throws(() => new LossScale('dynamic').restore({ value: 1, goodSteps: -1 }), /whole number, got -1/);
  assert.throws(() => new LossScale('dynamic').restore({ value: 1, goodSteps: Number.NaN }), /whole number, got NaN/);
});
