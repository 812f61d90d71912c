/** What a benchmark says of a busy machine: ticks of /proc by hand, real busy loops, and the command itself. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { availableParallelism, platform } from 'node:os';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { BusyRow } from './busy.js';
import { Neighbours, noteOf, ticksOf } from './neighbours.js';

const run = promisify(execFile);
const BIN = fileURLToPath(new URL('../bin.js', import.meta.url));
const skip = platform() === 'linux' ? false : '/proc is only on Linux';

test('ticks are read by the kernel’s documentation: idle and waiting for disks do not count, children that ended do', () => {
  const machine = 'cpu  100 20 30 4000 500 6 7 8 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n';
  const self = '77 (a name) with) S 1 77 77 0 -1 4194560 11 12 13 14 150 160 170 180 20 0 11 0 999';
  assert.deepEqual(ticksOf(machine, self), { all: 100 + 20 + 30 + 6 + 7 + 8, own: 150 + 160 + 170 + 180 });
});

test('a line is for a machine that is busy', () => {
  assert.equal(noteOf(null, 2), null);
  assert.equal(noteOf(0.1, 2), null);
  assert.match(noteOf(1.26, 2) as string, /^The machine was busy: other programs took 1\.3 of its 2 cores meanwhile\./);
});

test('a busy loop of somebody else counts, this process does not', { skip }, async () => {
  // In a session of its own, and asked for by a process that is gone: nobody's child here.
  const loop = 'const end = Date.now() + 8000; while (Date.now() < end);';
  const launch = `require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(loop)}], { detached: true, stdio: 'ignore' }).unref()`;
  await new Promise((resolve) => spawn(process.execPath, ['-e', launch], { stdio: 'ignore' }).once('close', resolve));
  const neighbours = new Neighbours();
  const end = performance.now() + 2000;
  while (performance.now() < end);
  const cores = neighbours.cores as number;
  // On two cores beside other tests it may get a part of one; this process's own whole core is not in it.
  assert.ok(cores > 0.15, `${cores}`);
  assert.ok(cores <= availableParallelism() + 0.1, `${cores}`);
});

test('the command measures all four cases, and refuses networks that there are not', { timeout: 240_000 }, async () => {
  const small = ['bench', 'busy', '--networks=mlp', '--neighbours=1', '--steps=2', '--rounds=1', '--json'];
  const { stdout } = await run(process.execPath, [BIN, ...small]);
  const { rows } = JSON.parse(stdout.trim().split('\n').at(-1) as string) as { rows: BusyRow[] };
  assert.deepEqual(
    rows.map(({ network }) => network),
    ['mlp'],
  );
  const [row] = rows as [BusyRow];
  for (const ms of [row.alone_default_ms, row.alone_ms, row.busy_default_ms, row.busy_ms])
    assert.ok(ms > 0, JSON.stringify(row));
  const failure = await run(process.execPath, [BIN, 'bench', 'busy', '--networks=vgg']).catch((error) => error);
  assert.equal(failure.code, 2);
  assert.match(failure.stderr, /flag --networks: there is no 'vgg'/);
});
