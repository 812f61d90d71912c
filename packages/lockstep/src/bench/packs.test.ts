/** `bench packs`: its figures by hand, and the command itself. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type PacksRow, summarizePacks } from './packs.js';

const run = promisify(execFile);
const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));

test('the slowest replica counts in each round, and each round is compared with its own first', () => {
  const replica = (one: number[], two: number[]) => [
    { numPacks: 1, stepMs: one, reduceMs: [1, 1, 1] },
    { numPacks: 2, stepMs: two, reduceMs: [2, 5, 3] },
  ];
  const rows = summarizePacks([replica([10, 20, 40], [10, 10, 10]), replica([10, 10, 10], [11, 20, 36])]);
  assert.deepEqual(rows, [
    { num_packs: 1, step_ms: 20, step_ms_min: 10, reduce_ms: 1, relative: 1 },
    // 11/10, 20/20, 36/40
    { num_packs: 2, step_ms: 20, step_ms_min: 11, reduce_ms: 3, relative: 1 },
  ]);
});

test('the command measures what it was asked for, and refuses the rest', { timeout: 120_000 }, async () => {
  const small = ['bench', 'packs', '--resnet_size=8', '--batch_size=2', '--steps=2', '--warmup=1', '--json'];
  const { stdout } = await run(process.execPath, [
    BIN,
    ...small,
    '--num_packs=1,3',
    '--all_reduce_alg=hierarchical_copy',
  ]);
  const { rows } = JSON.parse(stdout.trim().split('\n').at(-1) as string) as { rows: PacksRow[] };
  assert.deepEqual(
    rows.map(({ num_packs }) => num_packs),
    [1, 3],
  );
  for (const { step_ms, step_ms_min, reduce_ms } of rows) {
    assert.ok(step_ms >= step_ms_min && step_ms_min > 0 && reduce_ms >= 0);
  }
  const refused = run(process.execPath, [BIN, ...small, '--num_packs=0']);
  await assert.rejects(refused, { code: 2, stderr: /--num_packs: '0' is not a positive whole number/ });
});
