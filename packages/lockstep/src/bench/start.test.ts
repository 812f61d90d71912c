/** bench start: every row is there, and later things come later. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { lockstep } from '../testing/process.js';
import type { StartRow } from './start.js';

it('bench start says when what has happened', async () => {
  const { status, output } = await lockstep(['bench', 'start', '--rounds=1', '--json']);
  assert.equal(status, 0, output);
  const line = output.split('\n').find((one) => one.startsWith('{"rows"')) as string;
  const { rows } = JSON.parse(line) as { rows: StartRow[] };
  const ms = (part: string) => rows.find(({ what }) => what.includes(part))?.ms as number;
  assert.equal(rows.length, 12);
  assert.ok(rows.every((row) => row.ms > 0));
  const steps = ['made and compiled', 'first step', 'second step', 'third step'].map(ms);
  assert.deepEqual(
    steps,
    steps.toSorted((a, b) => a - b),
  );
  assert.ok(ms('begun and ended') > ms("'@lockstep/distribute'"));
  assert.ok(ms('first matrix product') > ms("import '@lockstep/onednn'"));
});
