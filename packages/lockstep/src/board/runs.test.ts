/** Runs below a folder: found, followed, gone again; and nothing outside. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { parametersIn } from './run.js';
import { Runs } from './runs.js';
import { makeRun, makeTimeline } from './testing/made-runs.js';

const base = mkdtempSync(join(tmpdir(), 'lockstep-runs-'));
after(() => rmSync(base, { recursive: true, force: true }));
const fresh = (name: string) => {
  const folder = join(base, name);
  mkdirSync(folder);
  return folder;
};
const eventFile = (folder: string) =>
  join(folder, readdirSync(folder).find((name) => name.includes('tfevents')) as string);
const entry = (runs: Runs, name: string) => runs.answer().runs.find((run) => run.name === name);

/** Looked for as often as it is asked. */
const followed = (folder: string) => new Runs(folder, { restShare: 0 });

describe('runs below a folder', () => {
  it('are the folders with event files, at any depth, with what they say', async () => {
    const folder = fresh('nested');
    makeRun(folder, { points: 3 });
    makeRun(join(folder, 'sweep', 'lr 0.1'), { points: 5, replicas: 2, learningRate: 0.5 });
    mkdirSync(join(folder, 'empty'));
    makeTimeline(join(folder, 'sweep', 'lr 0.1'), '20-22', 2);
    makeTimeline(join(folder, 'sweep', 'lr 0.1'), 100, 2);
    const runs = followed(folder);
    assert.equal(runs.answer().isLoading, true);
    assert.equal((await runs.refresh()).length, 2);
    const { runs: list, tags } = runs.answer();
    assert.deepEqual(list.map(({ name }) => name).sort(), ['.', 'sweep/lr 0.1']);
    const run = entry(runs, 'sweep/lr 0.1');
    assert.deepEqual([run?.step, run?.timelines, run?.notes], [50, ['20-22', '100'], []]);
    assert.ok(tags.includes('step_ms/forward'));
    assert.equal(runs.byId(run?.id as number)?.details.parameters.replicas, '2');
    assert.equal(run?.bestAccuracy, runs.byId(run?.id as number)?.series.get('evaluation/accuracy')?.highest);
    assert.deepEqual(await runs.refresh(), [], 'nothing new');
  });

  it('grow, come and go', async () => {
    const folder = fresh('changing');
    makeRun(join(folder, 'a'), { points: 10 });
    const file = eventFile(join(folder, 'a'));
    const bytes = readFileSync(file);
    truncateSync(file, bytes.length >> 1);
    const runs = followed(folder);
    await runs.refresh();
    const a = entry(runs, 'a')?.id as number;
    const before = runs.byId(a)?.series.get('loss')?.length as number;
    assert.ok(before > 2 && before < 8, String(before));
    appendFileSync(file, bytes.subarray(bytes.length >> 1));
    assert.deepEqual(await runs.refresh(), [a]);
    assert.equal(runs.byId(a)?.series.get('loss')?.length, 10);
    makeRun(join(folder, 'b'), { points: 2 });
    assert.deepEqual(await runs.refresh(), [entry(runs, 'b')?.id]);
    rmSync(join(folder, 'a'), { recursive: true });
    assert.deepEqual(await runs.refresh(), [a]);
    assert.equal(entry(runs, 'a'), undefined);
    assert.equal(runs.byId(a), undefined);
  });

  it('that go on behind a checkpoint have each step once', async () => {
    const folder = fresh('again');
    makeRun(folder, { points: 10, begin: 1_700_000_000 });
    // Steps 10 to 60 again, by a second file.
    makeRun(folder, { points: 6, begin: 1_700_000_100 });
    const runs = followed(folder);
    await runs.refresh();
    const loss = runs.byId(0)?.series.get('loss');
    assert.deepEqual(Array.from(loss?.steps.subarray(0, loss.length) ?? []), [10, 20, 30, 40, 50, 60]);
    assert.equal(loss?.times[0], 1_700_000_101);
  });

  it('are read anew where a file was written anew', async () => {
    const folder = fresh('anew');
    makeRun(folder, { points: 6 });
    const runs = followed(folder);
    await runs.refresh();
    assert.equal(entry(runs, '.')?.step, 60);
    const file = eventFile(folder);
    rmSync(file);
    makeRun(folder, { points: 2 });
    await runs.refresh();
    assert.equal(entry(runs, '.')?.step, 20);
    assert.equal(runs.byId(0)?.series.get('loss')?.length, 2);
  });

  it('say what is cut off or damaged, and are shown up to there', async () => {
    const folder = fresh('broken');
    for (const name of ['cut', 'bad']) makeRun(join(folder, name), { points: 6 });
    const cut = eventFile(join(folder, 'cut'));
    truncateSync(cut, readFileSync(cut).length - 5);
    const bad = eventFile(join(folder, 'bad'));
    const bytes = readFileSync(bad);
    bytes[bytes.length - 10] = (bytes[bytes.length - 10] as number) ^ 1;
    writeFileSync(bad, bytes);
    const runs = followed(folder);
    await runs.refresh();
    assert.match(entry(runs, 'cut')?.notes[0] ?? '', /is cut off at byte \d+; what is before it is shown\.$/);
    assert.match(entry(runs, 'bad')?.notes[0] ?? '', /is damaged at byte \d+; what is before it is shown\.$/);
    // The last event is an evaluation of step 60; what is before it is whole.
    for (const name of ['cut', 'bad']) assert.equal(entry(runs, name)?.step, 60, name);
    // The rest arrives.
    appendFileSync(cut, bytes.subarray(bytes.length - 5));
    await runs.refresh();
    assert.deepEqual(entry(runs, 'cut')?.notes, []);
  });

  it('are live while their lock is fresh, or a foreign file grows', async () => {
    const folder = fresh('live');
    for (const name of ['locked', 'killed', 'ended', 'foreign']) makeRun(join(folder, name), { points: 2 });
    writeFileSync(join(folder, 'locked', '.lockstep-lock'), '');
    writeFileSync(join(folder, 'killed', '.lockstep-lock'), '');
    const old = Date.now() / 1000 - 120;
    utimesSync(join(folder, 'killed', '.lockstep-lock'), old, old);
    writeFileSync(join(folder, 'foreign', 'events.out.tfevents.1.host'), '');
    const runs = followed(folder);
    await runs.refresh();
    const live = ['locked', 'killed', 'ended', 'foreign'].map((name) => entry(runs, name)?.isLive);
    assert.deepEqual(live, [true, false, false, true]);
  });

  it('are not looked for behind links', async () => {
    const outside = fresh('outside');
    makeRun(outside, { points: 2 });
    makeTimeline(outside, 10, 1);
    const folder = fresh('inside');
    makeRun(join(folder, 'own'), { points: 2 });
    symlinkSync(outside, join(folder, 'link'));
    symlinkSync(eventFile(outside), join(folder, 'events.out.tfevents.1.link'));
    symlinkSync(join(outside, 'timeline-10.json'), join(folder, 'own', 'timeline-10.json'));
    symlinkSync(folder, join(folder, 'own', 'circle'));
    const runs = followed(folder);
    await runs.refresh();
    assert.deepEqual(
      runs.answer().runs.map(({ name, timelines }) => [name, timelines]),
      [['own', []]],
    );
    // What was given may be one.
    const given = followed(join(folder, 'link'));
    await given.refresh();
    assert.deepEqual(
      given.answer().runs.map(({ name }) => name),
      ['.'],
    );
  });

  it('may be a thousand', async () => {
    const folder = fresh('many');
    for (let i = 0; i < 1000; i++) makeRun(join(folder, `run-${i}`), { points: 2, seed: i });
    const runs = followed(folder);
    await runs.refresh();
    assert.equal(runs.answer().runs.length, 1000);
    assert.ok(runs.answer().runs.every(({ step }) => step === 20));
  });

  it('need not be there', async () => {
    const runs = followed(join(base, 'missing'));
    await runs.refresh();
    assert.equal(runs.problem, 'it is not there (ENOENT)');
    makeRun(join(base, 'missing'), { points: 1 });
    await runs.refresh();
    assert.equal(runs.problem, null);
    assert.equal(runs.answer().runs.length, 1);
  });
});

describe('parameters', () => {
  it('are the rows of their table, whatever their values hold', () => {
    const table =
      '| | |\n|---|---|\n| model | resnet |\n| a\\|b | c \\| d |\n| empty |  |\n| __proto__ | x |\nnot a row';
    assert.deepEqual(Object.entries(parametersIn(table)), [
      ['model', 'resnet'],
      ['a|b', 'c | d'],
      ['empty', ''],
      ['__proto__', 'x'],
    ]);
    assert.deepEqual({ ...parametersIn('') }, {});
  });
});
