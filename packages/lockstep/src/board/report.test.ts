/** A report: whole, inert, and what it holds. In a browser: page.test.ts. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { lockstep } from '../testing/process.js';
import { makeReport } from './report.js';
import { makeRun, makeTimeline } from './testing/made-runs.js';

const base = mkdtempSync(join(tmpdir(), 'lockstep-report-'));
after(() => rmSync(base, { recursive: true, force: true }));

describe('a report', () => {
  it('holds runs, their facts, series and timelines, and no way out of its data', async () => {
    const folder = join(base, 'runs');
    const hostile = '</script><script>alert(1)<\u2028!--';
    makeRun(join(folder, 'a'), { points: 3000 });
    makeTimeline(join(folder, 'a'), 10, 2);
    writeFileSync(join(folder, 'a', 'timeline-20.json'), '{"traceEv');
    makeRun(join(folder, 'b'), { points: 10, parameters: { note: hostile } });
    const { html, runs } = await makeReport(folder, null, 5);
    assert.equal(runs, 2);
    const [, text] = /<script type="application\/json" id="report">(.*)<\/script>\n/.exec(html) as unknown as [
      string,
      string,
    ];
    assert.doesNotMatch(text, /[<\u2028]/);
    const data = JSON.parse(text);
    assert.equal(data.made, 5);
    const a = data.runs.runs.find((run: { name: string }) => run.name === 'a');
    const loss = data.series.find((one: { run: number; tag: string }) => one.run === a.id && one.tag === 'loss');
    assert.deepEqual([loss.count, loss.steps.length, loss.steps.at(-1)], [3000, 400, 30_000]);
    assert.deepEqual(a.timelines, ['10'], 'the half one is left out');
    assert.equal(data.details.find((one: { id: number }) => one.id !== a.id).parameters.note, hostile);
    // Every script and style is named in the policy, and nothing else may run or load.
    const [, policy] = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(html) as unknown as [
      string,
      string,
    ];
    const hash = (content: string) => `'sha256-${createHash('sha256').update(content).digest('base64')}'`;
    const script = /<script>(.*?)<\/script>/s.exec(html)?.[1] as string;
    assert.ok(policy.includes(`script-src ${hash(script)};`), policy);
    assert.match(policy, /^default-src 'none';/);
    assert.equal((html.match(/<script/g) ?? []).length, 2);
    assert.doesNotMatch(html.replace(script, ''), /https?:\/\//);
  });

  it('holds chosen runs, or says that there are none', async () => {
    const folder = join(base, 'runs');
    assert.equal((await makeReport(folder, /^b$/)).runs, 1);
    await assert.rejects(makeReport(folder, /c/), /no run is called like \/c\/\.\nhelp: /);
    await assert.rejects(makeReport(join(base, 'missing'), null), /missing: it is not there \(ENOENT\)\.\nhelp: /);
  });

  it('is written whole, over another report, and over nothing else', async () => {
    const folder = join(base, 'one');
    makeRun(folder, { points: 3 });
    const run = (...args: string[]) => lockstep(['report', ...args], { cwd: base });
    const first = await run('one');
    assert.equal(first.status, 0, first.describe());
    assert.match(first.output, /^one-report\.html: 1 run, 0\.\d MB$/m);
    assert.equal((await run('one')).status, 0);
    writeFileSync(join(base, 'mine.html'), '<p>mine');
    const refused = await run('one', '--out=mine.html');
    assert.equal(refused.status, 1);
    assert.match(refused.output, /mine\.html is there, and is no report of lockstep's\.\nhelp: /);
    assert.equal(readFileSync(join(base, 'mine.html'), 'utf8'), '<p>mine');
    const nowhere = await run('one', '--out=no/where.html');
    assert.match(nowhere.output, /no\/where\.html cannot be written: it is not there \(ENOENT\)\.\nhelp: /);
    assert.ok(!existsSync(join(base, 'no')));
    assert.equal((await run('one', '--runs=(')).status, 2);
    assert.equal((await run()).status, 2);
    assert.deepEqual(
      readdirSync(base).filter((name) => name.endsWith('.tmp')),
      [],
    );
  });
});
