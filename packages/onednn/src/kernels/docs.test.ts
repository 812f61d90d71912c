/** docs/kernels.md names every kernel that stands in the place of TensorFlow.js'. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { kernelNames } from '../register.js';

test('every kernel is in the table', () => {
  const page = readFileSync(new URL('../../../../docs/kernels.md', import.meta.url), 'utf8');
  const words = new Set(page.match(/\w+/g));
  assert.deepEqual(
    kernelNames.filter((name) => !words.has(name)),
    [],
  );
  assert.ok(kernelNames.length > 100);
});
