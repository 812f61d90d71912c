// The order of a test run's jobs: each is done once, no more at once than asked for, never two that are about limits of time.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { inOrder, KEEPS_TIME, LONG, runJobs } from './job-queue.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

it('every file that has a place in the order is there', () => {
  for (const name of [...LONG, ...KEEPS_TIME].filter((each) => each.includes('.test.'))) {
    const path = name.startsWith('scripts/') ? name : `packages/${name.replace('/', '/src/').replace(/\.js$/, '.ts')}`;
    assert.ok(existsSync(join(root, path)), `${path} is not there. help: scripts/job-queue.mjs names it`);
  }
});

it('the longest first, the others as they were, each known by its name’s end', () => {
  const names = ['packages/a/x.test.js', 'packages/a/y.test.js', 'packages/b/x.test.js', 'check'];
  const order = inOrder(
    names.map((name) => ({ name })),
    { long: ['check', 'b/x.test.js'], keepsTime: ['a/y.test.js', 'x.test'] },
  );
  assert.deepEqual(
    order.map(({ name, keepsTime }) => [name, keepsTime]),
    [
      ['check', false],
      ['packages/b/x.test.js', false],
      ['packages/a/x.test.js', false],
      ['packages/a/y.test.js', true],
    ],
  );
});

/** What ran at once at any time, by name; a job lasts as many turns as it says. */
async function watch(jobs, width) {
  const [running, seen, done] = [new Set(), [], []];
  const run = async (name, turns) => {
    running.add(name);
    seen.push([...running].sort().join('+'));
    for (let i = 0; i < turns; i++) await turn();
    running.delete(name);
    done.push(name);
  };
  await runJobs(
    jobs.map(([name, turns, keepsTime = false]) => ({ keepsTime, run: () => run(name, turns) })),
    width,
  );
  return { seen, done: done.sort().join('') };
}

it('one that keeps time waits for another, and what comes after it does not', async () => {
  const { seen, done } = await watch(
    [
      ['a', 9, true],
      ['b', 3, true],
      ['c', 2],
      ['d', 2],
    ],
    2,
  );
  assert.equal(done, 'abcd');
  assert.deepEqual(seen, ['a', 'a+c', 'a+d', 'b']);
});

it('as many at once as asked for, and one after another with one', async () => {
  const jobs = [
    ['a', 5],
    ['b', 5],
    ['c', 5],
    ['d', 1],
  ];
  assert.deepEqual((await watch(jobs, 3)).seen.slice(0, 3), ['a', 'a+b', 'a+b+c']);
  assert.deepEqual((await watch(jobs, 1)).seen, ['a', 'b', 'c', 'd']);
  assert.deepEqual(await watch([], 2), { seen: [], done: '' });
});

it('a job that throws is not lost', async () => {
  await assert.rejects(runJobs([{ run: () => Promise.reject(new Error('no verdict')) }, { run: () => turn() }], 2), {
    message: 'no verdict',
  });
});
