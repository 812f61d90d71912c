/** When a run says that it waited for input. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inputRemark } from './input-remark.js';

test('a run that waited long, and for much of its time, says so', () => {
  assert.match(
    inputRemark({ trainMs: 40_000, waitMs: 2_500 })!,
    /^Training waited for input for 2\.5 s of 40\.0 s: more /,
  );
  assert.equal(inputRemark({ trainMs: 3_000, waitMs: 1_900 }), null, 'it begins with a batch that nobody prepared');
  assert.equal(inputRemark({ trainMs: 100_000, waitMs: 4_900 }), null);
  assert.equal(inputRemark({ trainMs: 0, waitMs: 0 }), null);
});
