/** docs/kernels.md names every kernel that stands in the place of TensorFlow.js', and has measured it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { kernelNames } from '../register.js';

const page = readFileSync(new URL('../../../../docs/kernels.md', import.meta.url), 'utf8');
const [description, measured] = page.split('\n## Measured\n') as [string, string];

function missingIn(text: string): string[] {
  const words = new Set(text.match(/\w+/g));
  return kernelNames.filter((name) => !words.has(name));
}

/** Rows of the table of measurements, cell by cell. */
function rows(): string[][] {
  return measured
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .slice(2)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

test('every kernel is described', () => {
  assert.deepEqual(missingIn(description), []);
  assert.ok(kernelNames.length > 100);
});

test('every kernel is in a row of the measurements', () => {
  assert.deepEqual(
    missingIn(
      rows()
        .map(([name]) => name)
        .join('\n'),
    ),
    [],
  );
});

test('how many times as fast is what the two times say', () => {
  for (const row of rows()) {
    assert.equal(row.length, 10, row[0]);
    for (const at of [3, 7]) {
      const [cpu, ours, times] = row.slice(at, at + 3).map(Number) as [number, number, number];
      // Each of the three is rounded to two digits, which can be 5 % of it.
      const error = Math.abs(cpu / ours / times - 1);
      assert.ok(error <= 0.16, `${row[0]}: ${cpu} / ${ours} is not ${times}`);
    }
  }
});
