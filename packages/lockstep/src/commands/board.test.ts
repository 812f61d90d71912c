/** `lockstep board`, and the board beside a run: its address, and its end with the run, however that ends. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { RunsAnswer } from '../board/protocol.js';
import { makeRun } from '../board/testing/made-runs.js';
import { BIN, lockstep, type RunningProcess, start } from '../testing/process.js';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-board-command-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const begin = (...args: string[]) => start(process.execPath, [BIN, ...args], { cwd: folder });

async function addressOf(running: RunningProcess, pattern: RegExp): Promise<string> {
  await running.until(pattern);
  return pattern.exec(running.output())?.[1] as string;
}

const isThere = (url: string) =>
  fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );

/** Until nobody answers there. */
async function ends(url: string): Promise<void> {
  const limit = performance.now() + 15_000;
  while (await isThere(url)) {
    assert.ok(performance.now() < limit, `${url} is still there`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

describe('lockstep board', () => {
  it('prints its address, shows the folder, and ends with Ctrl-C', async () => {
    makeRun(join(folder, 'runs', 'a'), { points: 3 });
    const board = begin('board', 'runs', '--port=0');
    const url = await addressOf(board, /^The board of runs: (http:\/\/127\.0\.0\.1:\d+\/)$/m);
    const answer = (await (await fetch(`${url}api/runs`)).json()) as RunsAnswer;
    assert.deepEqual(
      answer.runs.map(({ name }) => name),
      ['a'],
    );
    board.child.kill('SIGINT');
    const { status, describe } = await board.result;
    assert.equal(status, 0, describe());
  });

  it('says what it wants', async () => {
    for (const args of [[], ['a', 'b'], ['a', '--port=70000']]) {
      const { status, output, describe } = await lockstep(['board', ...args]);
      assert.equal(status, 2, describe());
      assert.match(output, /Write `lockstep board|Choose a value/);
    }
  });
});

describe('--board', () => {
  const flags = [
    '--use_synthetic_data',
    '--resnet_size=8',
    '--batch_size=16',
    '--hooks=',
    '--seed=1',
    '--backend=onednn',
  ];
  const BOARD = /^Board: (http:\/\/127\.0\.0\.1:\d+\/)$/m;

  it('shows the run while it goes on, and is waited for by nobody', async () => {
    const run = begin(
      'cifar10',
      ...flags,
      '--model_dir=short',
      '--max_train_steps=200',
      '--save_summary_steps=1',
      '--board',
    );
    const url = await addressOf(run, BOARD);
    assert.ok(await isThere(url));
    const { status, output, describe } = await run.result;
    assert.equal(status, 0, describe());
    assert.match(output, /to look at them: lockstep board short/);
    await ends(url);
  });

  it('stays while Ctrl-C ends the run in order, and goes with it', async () => {
    const run = begin(
      'cifar10',
      ...flags,
      '--model_dir=stopped',
      '--train_epochs=100',
      '--save_summary_steps=1',
      '--board',
    );
    const url = await addressOf(run, BOARD);
    await run.until(/step \d+/);
    // To the whole group, as a terminal does.
    process.kill(-(run.child.pid as number), 'SIGINT');
    const { status, output, describe } = await run.result;
    assert.equal(status, 130, describe());
    assert.match(output, /Saved checkpoint/);
    assert.match(output, /^Throughput: /m);
    await ends(url);
  });

  it('ends when the run is killed', async () => {
    const run = begin('cifar10', ...flags, '--model_dir=killed', '--train_epochs=100', '--board');
    const url = await addressOf(run, BOARD);
    await run.until(/step \d+/);
    assert.ok(await isThere(url));
    run.child.kill('SIGKILL');
    await run.result;
    await ends(url);
  });
});
