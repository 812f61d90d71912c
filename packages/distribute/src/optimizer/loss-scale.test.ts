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

test('nonsense is an error with the value', () => {
  assert.throws(() => new LossScale(0), /lossScale must be positive, got 0/);
  assert.throws(() => new LossScale(Number.NaN), /got NaN/);
  assert.throws(() => new LossScale({ growthSteps: 1.5 }), /positive integer, got 1.5/);
});
