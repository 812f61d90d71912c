/** What the board answers, and what it does not, whoever asks. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { EventFileWriter } from '@lockstep/official/summary/event-file';
import { encodePng } from '@lockstep/official/summary/png';
import type { RunDetails, RunsAnswer, SeriesAnswer } from './protocol.js';
import { type Board, startBoard } from './server.js';
import { makeRun, makeTimeline } from './testing/made-runs.js';

const base = mkdtempSync(join(tmpdir(), 'lockstep-board-'));
const root = join(base, 'runs');
const HOSTILE = '<img src=x onerror=alert(1)>';
let board: Board;

before(async () => {
  makeRun(join(root, 'a'), { points: 2000 });
  makeTimeline(join(root, 'a'), 50, 2);
  makeRun(join(root, HOSTILE), { points: 3 });
  const writer = new EventFileWriter(join(root, 'a'), { warn: assert.fail });
  const picture = encodePng(new Uint8Array(12), [2, 2, 3]);
  writer.add({ step: 5, images: { good: picture, bad: { ...picture, bytes: Buffer.from('<svg onload=alert(1)>') } } });
  writer.close();
  writeFileSync(join(base, 'secret.txt'), 'secret');
  board = await startBoard({ folder: root, port: 0 });
  await ask('api/runs');
});
after(async () => {
  await board.close();
  rmSync(base, { recursive: true, force: true });
});

const ask = (path: string, at = board.url) => fetch(new URL(path, at));
const json = async <T>(path: string) => (await (await ask(path)).json()) as T;
const idOf = async (name: string) =>
  (await json<RunsAnswer>('api/runs')).runs.find((run) => run.name === name)?.id as number;

describe('the board', () => {
  it('lists runs, and gives series thinned out, of several runs and tags at once', async () => {
    const { runs, folder, tags } = await json<RunsAnswer>('api/runs');
    assert.equal(folder, root);
    assert.deepEqual(runs.map(({ name }) => name).sort(), [HOSTILE, 'a']);
    assert.ok(tags.includes('images_per_second'));
    const [a, b] = [await idOf('a'), await idOf(HOSTILE)];
    const series = await json<SeriesAnswer[]>(`api/series?run=${a},${b}&tag=loss&tag=step_ms%2Fforward&points=100`);
    assert.deepEqual(
      series.map(({ run, tag, steps, count }) => [run, tag, steps.length, count]),
      [
        [a, 'loss', 100, 2000],
        [a, 'step_ms/forward', 100, 2000],
        [b, 'loss', 3, 3],
        [b, 'step_ms/forward', 3, 3],
      ],
    );
    const part = await json<SeriesAnswer[]>(`api/series?run=${a}&tag=loss&from=100&to=140`);
    assert.deepEqual(part[0]?.steps, [90, 100, 110, 120, 130, 140, 150]);
    const details = await json<RunDetails>(`api/run?run=${a}`);
    assert.deepEqual([details.parameters.replicas, Object.keys(details.images)], ['1', ['good', 'bad']]);
  });

  it('says what is not there, whatever was asked', async () => {
    const a = await idOf('a');
    const cases: [string, number][] = [
      ['api/run', 404],
      ['api/run?run=99', 404],
      ['api/run?run=__proto__', 404],
      [`api/timeline?run=${a}&steps=51`, 404],
      [`api/timeline?run=${a}&steps=../../secret.txt`, 404],
      [`api/image?run=${a}&tag=constructor`, 404],
      [`api/image?run=${a}&tag=bad`, 404],
      ['api/nothing', 404],
      ['.stamp', 404],
      ['runs/a/timeline-50.json', 404],
      ['%2e%2e/server.js', 404],
    ];
    for (const [path, status] of cases) assert.equal((await ask(path)).status, status, path);
    for (const path of ['api/series', 'api/series?run=1e9&tag=loss', `api/series?run=${a}&tag=x&points=NaN&from=zzz`]) {
      assert.deepEqual(await json(path), [], path);
    }
    const [all] = await json<SeriesAnswer[]>(`api/series?run=${a}&tag=loss&points=99999999`);
    assert.equal(all?.steps.length, 2000);
  });

  it('gives out pictures that browsers draw, told by their bytes, and timelines', async () => {
    const a = await idOf('a');
    const good = await ask(`api/image?run=${a}&tag=good`);
    assert.deepEqual([good.status, good.headers.get('content-type')], [200, 'image/png']);
    const timeline = (await json(`api/timeline?run=${a}&steps=50`)) as { traceEvents: unknown[] };
    assert.ok(timeline.traceEvents.length > 10);
    // Where the file has become a link meanwhile.
    const file = join(root, 'a', 'timeline-50.json');
    unlinkSync(file);
    symlinkSync(join(base, 'secret.txt'), file);
    const answer = await ask(`api/timeline?run=${a}&steps=50`);
    assert.ok(answer.status >= 400);
    assert.doesNotMatch(await answer.text(), /^secret/);
    unlinkSync(file);
    makeTimeline(join(root, 'a'), 50, 2);
  });

  it('is read-only, answers to its own names, and says what its page may do', async () => {
    assert.equal((await fetch(new URL('api/runs', board.url), { method: 'POST' })).status, 405);
    const status = await new Promise((resolve, reject) => {
      get(`${board.url}api/runs`, { headers: { host: 'evil.example' } }, ({ statusCode }) => resolve(statusCode)).once(
        'error',
        reject,
      );
    });
    assert.equal(status, 421);
    for (const path of ['', 'page.js', 'api/runs', 'api/nothing']) {
      const { headers } = await ask(path);
      assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'; script-src 'self'/, path);
      assert.doesNotMatch(headers.get('content-security-policy') ?? '', /unsafe/);
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
    }
    assert.match(await (await ask('')).text(), /<script src="\/page\.js" defer><\/script>/);
  });

  it('pushes what has changed, to whoever listens', async () => {
    const controller = new AbortController();
    const stream = await fetch(new URL('api/changes', board.url), { signal: controller.signal });
    assert.equal(stream.headers.get('content-type'), 'text/event-stream');
    makeRun(join(root, 'new'), { points: 2 });
    let text = '';
    for await (const bytes of stream.body as unknown as AsyncIterable<Uint8Array>) {
      text += Buffer.from(bytes).toString();
      if (/data: .*\n\n/.test(text)) break;
    }
    controller.abort();
    assert.match(text, new RegExp(`data: \\{"runs":\\[${await idOf('new')}\\]\\}`));
  });

  it('wants its token at another address', async () => {
    const open = await startBoard({ folder: root, host: '127.0.0.2', port: 0 });
    try {
      const url = new URL(open.url);
      const token = url.searchParams.get('token') as string;
      assert.match(token, /^[0-9a-f]{32}$/);
      for (const path of ['', 'page.js', 'api/runs', '?token=', `?token=${'0'.repeat(32)}`, 'api/runs?token=abc']) {
        const answer = await fetch(new URL(path, url.origin), { redirect: 'manual' });
        assert.equal(answer.status, 401, path);
        assert.doesNotMatch(await answer.text(), /loss|<script/);
      }
      const first = await fetch(open.url, { redirect: 'manual' });
      const cookie = first.headers.get('set-cookie') as string;
      assert.deepEqual([first.status, first.headers.get('location')], [303, '/']);
      assert.match(cookie, /; HttpOnly; SameSite=Strict; Path=\/$/);
      const [pair] = cookie.split(';') as [string];
      assert.equal((await fetch(new URL('api/runs', url.origin), { headers: { cookie: `a=b; ${pair}` } })).status, 200);
      assert.equal((await fetch(new URL('api/runs', url.origin), { headers: { cookie: `${pair}0` } })).status, 401);
    } finally {
      await open.close();
    }
  });

  it('takes another port where the usual one is taken, unless it was asked for', async () => {
    const port = Number(new URL(board.url).port);
    await assert.rejects(
      startBoard({ folder: root, port }),
      /port \d+ of 127\.0\.0\.1 cannot be used: another program has it\.\nhelp: /,
    );
    const boards = [await startBoard({ folder: root }), await startBoard({ folder: root })];
    assert.notEqual(boards[0]?.url, boards[1]?.url);
    for (const one of boards) await one.close();
    await assert.rejects(
      startBoard({ folder: root, host: '203.0.113.1', port: 0 }),
      /cannot be used: .*\nhelp: --host takes an address of this machine/,
    );
  });

  it('reads nothing while nobody looks', async () => {
    const quiet = join(base, 'quiet');
    mkdirSync(quiet);
    const idle = await startBoard({ folder: quiet, port: 0 });
    try {
      makeRun(join(quiet, 'a'), { points: 1 });
      await new Promise((resolve) => setTimeout(resolve, 1500));
      assert.equal(idle.runs.all.length, 0);
      await ask('api/runs', idle.url);
      assert.equal(idle.runs.all.length, 1);
    } finally {
      await idle.close();
    }
  });
});
