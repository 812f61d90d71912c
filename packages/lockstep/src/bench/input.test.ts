/** `bench input`: the command itself, on a few made pictures, and on records that are there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lockstep } from '../testing/process.js';
import type { InputBenchReport } from './input.js';

test('the command measures every side, and refuses what is no folder of records', { timeout: 120_000 }, async () => {
  const small = ['bench', 'input', '--images=12', '--image_size=64', '--batch_size=4', '--rounds=1', '--json'];
  const { status, output } = await lockstep([...small, '--python=/nowhere']);
  assert.equal(status, 0, output);
  const line = output.split('\n').find((one) => one.startsWith('{')) as string;
  const report = JSON.parse(line) as InputBenchReport;
  assert.equal(report.pillow, null);
  assert.ok(report.images >= 10 && report.images <= 12);
  assert.ok(report.bytes > 30_000 && report.bytes < 200_000, `${report.bytes} bytes are not ImageNet's`);
  for (const side of [report.training, report.evaluation, report.sharp])
    assert.ok(side.images_per_second > 0 && side.cpu_ms > 0);
  assert.ok(Math.abs(report.ratio - report.training.images_per_second / report.sharp.images_per_second) < 1e-9);
  const none = await lockstep([...small, '--data_dir=/nowhere']);
  assert.equal(none.status, 1);
  assert.match(none.output, /There is no folder \/nowhere/);
});
