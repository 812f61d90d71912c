/**
 * The board's page in real Chromium: what a person would see of a run that goes on, that was killed, of two beside each other, of nothing, of
 * a damaged file, of a thousand. Pictures of it are left in .lockstep/screenshots, to look at.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { evaluationSummary } from '@lockstep/official/summary/evaluation-summary';
import { EventFileWriter } from '@lockstep/official/summary/event-file';
import { type Browser, chromium, type Page } from 'playwright-core';
import { watchPage, whyNoChromium } from '../testing/browser.js';
import { makeReport } from './report.js';
import { type Board, startBoard } from './server.js';
import { type MadeRun, madeScalars, makeRun, makeTimeline } from './testing/made-runs.js';

const skip = whyNoChromium();
const base = mkdtempSync(join(tmpdir(), 'lockstep-page-'));
const SHOTS = fileURLToPath(new URL('../../../../.lockstep/screenshots/', import.meta.url));
let browser: Browser;
const boards: Board[] = [];

before(async () => {
  if (skip) return;
  mkdirSync(SHOTS, { recursive: true });
  // As people have it: what testing/browser.ts adds for WebGL makes everything else slow.
  const executablePath = process.env.LOCKSTEP_TEST_CHROMIUM ?? '/usr/bin/chromium';
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
});
after(async () => {
  await browser?.close();
  for (const board of boards) await board.close();
  rmSync(base, { recursive: true, force: true });
});

/** A page of a folder's runs, and what it did that it may not. */
async function open(
  folder: string,
  view = '',
  options: Parameters<Browser['newPage']>[0] = {},
): Promise<{ page: Page; wrong: string[]; board: Board }> {
  const board = await startBoard({ folder, port: 0 });
  boards.push(board);
  const page = await browser.newPage({ viewport: { width: 1280, height: 860 }, ...options });
  const wrong = watchPage(page, new URL(board.url).origin);
  await page.goto(`${board.url}#${view}`);
  await page.locator('main > *').first().waitFor();
  return { page, wrong, board };
}

const shot = (page: Page, name: string) => page.screenshot({ path: join(SHOTS, `${name}.png`) });
const folderOf = (name: string) => join(base, name);

/** How far a plot's line goes: the step that the box beside the cursor names at its right edge. */
async function lastStep(page: Page, tag: string): Promise<number> {
  const over = page.locator(`.chart[data-tag="${tag}"] .u-over`);
  const box = await over.boundingBox();
  if (!box) return 0;
  await page.mouse.move(box.x + box.width - 1, box.y + 40);
  const text = await over
    .locator('.tip-place')
    .first()
    .textContent({ timeout: 2000 })
    .catch(() => '');
  return Number(/[\d,]+/.exec(text ?? '')?.[0].replaceAll(',', '') ?? 0);
}

/** Zooms in and out with every picture, for a second and a half. A figure to look at: machines are what they are. */
async function zoomRate(page: Page): Promise<number> {
  const rate = await page.evaluate<number>(`(async () => {
    const over = document.querySelector('.u-over');
    const { left, top, width } = over.getBoundingClientRect();
    const at = { ctrlKey: true, clientX: left + width / 2, clientY: top + 50, bubbles: true, cancelable: true };
    const begin = performance.now();
    let pictures = 0;
    while (performance.now() - begin < 1500) {
      await new Promise(requestAnimationFrame);
      over.dispatchEvent(new WheelEvent('wheel', { ...at, deltaY: pictures++ % 40 < 20 ? -20 : 20 }));
    }
    return (1000 * pictures) / (performance.now() - begin);
  })()`);
  return Math.round(rate);
}

/** Asks again until it is so. */
async function until<T>(what: () => Promise<T>, isSo: (value: T) => boolean, message: string): Promise<T> {
  const end = performance.now() + 20_000;
  for (;;) {
    const value = await what();
    if (isSo(value)) return value;
    assert.ok(performance.now() < end, `${message}: ${value}`);
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

/** A writer that goes on for as long as a test wants. */
function liveRun(folder: string, run: MadeRun = {}) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, '.lockstep-lock'), '');
  const writer = new EventFileWriter(folder, { warn: assert.fail });
  let step = 0;
  return {
    go(points: number) {
      for (let i = 0; i < points; i++) {
        step += 10;
        writer.add({ step, scalars: madeScalars(step, run) });
      }
      writer.flush();
    },
    end: () => writer.close(),
  };
}

describe('the page', { skip }, () => {
  it('follows a run that goes on, without being asked', async () => {
    const folder = folderOf('live');
    const run = liveRun(join(folder, 'run'));
    run.go(5);
    const { page, wrong } = await open(folder);
    assert.equal(
      await until(
        () => lastStep(page, 'loss'),
        (step) => step === 50,
        'the first points',
      ),
      50,
    );
    await page.locator('.state.live').waitFor();
    run.go(20);
    assert.equal(
      await until(
        () => lastStep(page, 'loss'),
        (step) => step > 50,
        'it grows',
      ),
      250,
    );
    // Another one begins beside it.
    const second = liveRun(join(folder, 'second'), { seed: 2, learningRate: 0.3 });
    second.go(40);
    await page.locator('li[data-run="second"]').waitFor();
    await until(
      () => lastStep(page, 'loss'),
      (step) => step === 400,
      'the second',
    );
    await shot(page, 'live-light');
    for (const one of [run, second]) one.end();
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('survives a run that is killed, and says when the board itself ends', async () => {
    const folder = folderOf('killed');
    const run = liveRun(join(folder, 'run'));
    run.go(10);
    const { page, wrong, board } = await open(folder);
    await until(
      () => lastStep(page, 'loss'),
      (step) => step === 100,
      'the first points',
    );
    // The lock stays, and so does half a record.
    const file = join(
      folder,
      'run',
      readdirSync(join(folder, 'run')).find((name) => name.includes('tfevents')) as string,
    );
    appendFileSync(file, Buffer.alloc(7));
    run.end();
    await page.waitForTimeout(1500);
    assert.equal(await lastStep(page, 'loss'), 100);
    assert.deepEqual(wrong, []);
    await board.close();
    await page.locator('.state.lost').waitFor();
    assert.match((await page.locator('.state').textContent()) ?? '', /has ended/);
    assert.equal(await lastStep(page, 'loss'), 100, 'what is drawn stays');
    await page.close();
  });

  it('compares two runs: side by side, what differs, efficiency, who is slow', async () => {
    const folder = folderOf('two');
    makeRun(join(folder, 'alone'), { begin: 1_700_000_000 });
    makeRun(join(folder, 'together'), { begin: 1_700_001_000, replicas: 4, seed: 2, learningRate: 0.2 });
    makeTimeline(join(folder, 'together'), 500, 4, 2);
    const { page, wrong } = await open(folder);
    const loss = page.locator('.chart[data-tag="loss"]');
    await until(
      () => lastStep(page, 'loss'),
      (step) => step === 2000,
      'both',
    );
    assert.deepEqual((await loss.locator('.tip-row span').allTextContents()).sort(), ['alone', 'together']);
    // The cursor is in every plot.
    const others = page.locator('.chart[data-tag="train_accuracy"] .tip-row b');
    assert.equal(await others.count(), 2);
    await shot(page, 'learning-light');

    await page.keyboard.press('2');
    const efficiency = page.locator('.chart[aria-label="Scaling efficiency"]');
    await efficiency.locator('.u-over').waitFor();
    const values = async () => {
      const box = await efficiency.locator('.u-over').boundingBox();
      if (box) await page.mouse.move(box.x + box.width / 2 + Math.random(), box.y + 50);
      return await efficiency.locator('.tip-row b').allTextContents();
    };
    const percents = await until(values, (all) => all.length === 2, 'both have one');
    const [high, low] = percents.map((text) => Number.parseFloat(text)) as [number, number];
    assert.ok(high > 95 && high < 105 && low > 80 && low < 95, `${percents}`);
    assert.match(
      (await page.locator('main .section-note').first().textContent()) ?? '',
      /against .* of alone, which has one replica/,
    );
    await page.locator('.bar-row').first().waitFor();
    assert.deepEqual(await page.locator('.bar-name').allTextContents(), ['alone', 'together']);
    await shot(page, 'speed-light');

    await page.keyboard.press('3');
    await page.locator('.bar-row.marked').waitFor();
    assert.match(
      (await page.locator('.bar-row.marked').textContent()) ?? '',
      /^replica 2.*computes 3\d % longer than the median/,
    );
    await shot(page, 'timeline-light');

    await page.keyboard.press('5');
    await page.locator('.facts').waitFor();
    await until(
      () => page.locator('tr.differs th').allTextContents(),
      (all) => all.length > 0,
      'facts',
    );
    assert.deepEqual(await page.locator('tr.differs th').allTextContents(), ['replicas', 'learning_rate']);
    await shot(page, 'settings-light');
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('reads timelines of several steps and workers, with packs on their way', async () => {
    const folder = folderOf('traced');
    makeRun(folder, { points: 3 });
    const traceEvents: object[] = [];
    for (const pid of [0, 1]) {
      traceEvents.push({ ph: 'M', name: 'process_name', pid, tid: 0, args: { name: `worker ${pid}` } });
      traceEvents.push({ ph: 'M', name: 'thread_name', pid, tid: 0, args: { name: 'replica 0' } });
      for (const step of [0, 1]) {
        const span = (name: string, ts: number, dur: number) =>
          traceEvents.push({ ph: 'X', name, pid, tid: 0, ts: step * 50_000 + ts, dur });
        span(`step ${step}`, 0, 40_000);
        span('forward', 0, 10_000 + 4000 * pid);
        span('backward', 15_000, 15_000 + 4000 * step);
        span('reduce pack 0', 36_000, 1000);
        span('reduce', 35_000, 3000);
      }
      const pack = { name: 'all-reduce pack 0', id: `${pid}.0`, pid, tid: 0 };
      traceEvents.push({ ...pack, ph: 'b', ts: 20_000 }, { ...pack, ph: 'e', ts: 36_000 });
    }
    writeFileSync(join(folder, 'timeline-20-21.json'), JSON.stringify({ traceEvents, metadata: {} }));
    const { page, wrong } = await open(folder, 'timeline');
    await page.locator('.bar-row').first().waitFor();
    const rows = page.locator('.bar-row');
    assert.deepEqual(
      [await rows.nth(0).getAttribute('aria-label'), await rows.nth(1).getAttribute('aria-label')],
      [
        'worker 0, replica 0: forward 10 ms, backward 17 ms, reduce 3 ms',
        'worker 1, replica 0: forward 14 ms, backward 17 ms, reduce 3 ms',
      ],
    );
    // 27 and 31 ms of their own are both within a tenth of 29.
    assert.equal(await page.locator('.bar-row.marked').count(), 0);
    await page.getByText('No straggler').waitFor();
    assert.equal(await page.locator('select[aria-label="Step"] option').textContent(), 'steps 20–21');
    // Its four tracks: two of replicas, two of what is on its way. The pointer finds a pack there.
    const box = await page.locator('canvas').boundingBox();
    assert.ok(box);
    const lane = { x: box.x + 132 + (box.width - 132) * (28 / 90), y: box.y + 22 + 3 * 18 + 10 + 9 };
    await page.mouse.move(lane.x, lane.y);
    await page.getByText('all-reduce pack 0').waitFor();
    assert.match(
      (await page.locator('.timeline-frame .tip').textContent()) ?? '',
      /^worker 0, replica 0, networkall-reduce pack 016 msfrom 20 to 36 ms$/,
    );
    await shot(page, 'timeline-workers-light');
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('shows what was taken for what, with pictures', async () => {
    const folder = folderOf('evaluated');
    mkdirSync(folder);
    const writer = new EventFileWriter(folder, { warn: assert.fail });
    const tile = (value: number) => Uint8Array.from({ length: 8 * 8 * 3 }, (_, i) => (i * value) % 256);
    const summary = evaluationSummary({
      ...{ classes: 3, names: ['cat', 'dog', '<b>ox</b>'] },
      confusion: Float64Array.of(8, 2, 0, 1, 9, 0, 0, 3, 7),
      samples: [
        { label: 2, prediction: 1, probability: 0.9, shape: [8, 8, 3], pixels: tile(3) },
        { label: 0, prediction: 0, probability: 0.5, shape: [8, 8, 3], pixels: tile(5) },
      ],
    });
    writer.add({ step: 7, scalars: { loss: 1 }, ...summary });
    writer.close();
    const { page, wrong } = await open(folder, 'evaluation');
    await page.locator('.matrix .cell').first().waitFor();
    assert.deepEqual(await page.locator('.matrix .cell').allTextContents(), ['8', '2', '', '1', '9', '', '', '3', '7']);
    await page.locator('.matrix .cell').nth(7).hover();
    await page.getByText('<b>ox</b> taken for dog: 3 of 10 (30.0 %).').waitFor();
    const figures = page.locator('.samples figure');
    assert.deepEqual(await figures.locator('figcaption').allTextContents(), ['dog 90 %is <b>ox</b>', 'cat 50 %right']);
    // The picture is there: its colours are drawn.
    const loaded = await page.evaluate(`(async () => {
      const image = new Image();
      image.src = /url\\("(.*)"\\)/.exec(document.querySelector('.samples i').style.backgroundImage)[1];
      await image.decode();
      return [image.naturalWidth, image.naturalHeight];
    })()`);
    assert.deepEqual(loaded, [32, 8]);
    await shot(page, 'evaluation-light');
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('shows what it can of an evaluation whose texts are another program’s', async () => {
    const folder = folderOf('foreign');
    mkdirSync(folder);
    const writer = new EventFileWriter(folder, { warn: assert.fail });
    const texts = { 'evaluation/confusion': '{"matrix": "none"}', 'evaluation/samples': '[1, 2]' };
    writer.add({ step: 3, scalars: { loss: 1 }, texts });
    writer.close();
    const { page, wrong } = await open(folder, 'evaluation');
    await page.getByText('after step 3').waitFor();
    assert.equal(await page.locator('.matrix').count(), 0);
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('says what to do where there is nothing, and begins by itself when there is something', async () => {
    const folder = folderOf('empty');
    mkdirSync(folder);
    const { page, wrong } = await open(folder);
    await page.getByText('No runs here yet').waitFor();
    await shot(page, 'empty-light');
    makeRun(join(folder, 'first'), { points: 5 });
    await until(
      () => lastStep(page, 'loss'),
      (step) => step === 50,
      'it begins',
    );
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('shows a file that is cut off or damaged up to there, and says so', async () => {
    const folder = folderOf('broken');
    makeRun(join(folder, 'cut'), { points: 10 });
    const file = join(folder, 'cut', readdirSync(join(folder, 'cut'))[0] as string);
    truncateSync(file, readFileSync(file).length - 300);
    const { page, wrong } = await open(folder);
    await page
      .locator('.notes')
      .getByText(/is cut off at byte/)
      .waitFor();
    assert.ok(
      (await until(
        () => lastStep(page, 'loss'),
        (step) => step > 0,
        'what is there',
      )) < 100,
    );
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('stays usable with a thousand runs, and finds some by their names', async () => {
    const folder = folderOf('many');
    for (let i = 0; i < 1000; i++)
      makeRun(join(folder, `size-${i % 10}`, `run-${i}`), { points: 3, seed: i, begin: 1_700_000_000 + i });
    const { page, wrong } = await open(folder);
    await page.getByText(/^1000 runs, 8 drawn; the newest 200 are listed$/).waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('size-3/run-9[0-4]3$');
    await page.getByText(/^5 of 1000 runs, 5 drawn$/).waitFor();
    await page.keyboard.press('Escape');
    const rows = async () => {
      await lastStep(page, 'loss');
      return await page.locator('.chart[data-tag="loss"] .tip-row').count();
    };
    await until(rows, (count) => count === 5, 'five are drawn');
    await page.locator('input[type=search]').first().fill('');
    await page.getByRole('button', { name: 'All', exact: true }).first().click();
    await page.getByText(/^1000 runs, 1000 drawn/).waitFor();
    await until(rows, (count) => count === 10, 'ten rows, and how many more');
    await page.locator('.chart[data-tag="loss"]').getByText('and 990 more').waitFor();
    await page.locator('input[type=search]').first().fill('(');
    await page.getByText('This is no regular expression.').waitFor();
    await shot(page, 'many-light');
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('takes names for text, whatever they say', async () => {
    const folder = folderOf('hostile');
    const name = '<img src=x onerror="window.hacked=1">';
    makeRun(join(folder, name), { points: 3, parameters: { '<script>window.hacked=1</script>': '<b>x' } });
    const writer = new EventFileWriter(join(folder, name), { warn: assert.fail });
    writer.add({
      step: 1,
      scalars: { '"><svg onload=window.hacked=1>/loss': 1 },
      texts: { '<i>': '<script>window.hacked=1</script>' },
    });
    writer.close();
    const { page, wrong } = await open(folder);
    await page.locator('.run-name').getByText(name).waitFor();
    for (const key of ['1', '2', '3', '4', '5', '6']) {
      await page.keyboard.press(key);
      await page.waitForTimeout(200);
    }
    assert.equal(await page.evaluate('window.hacked'), undefined);
    assert.equal(await page.locator('img, script:not([src]), main svg, main b b').count(), 0);
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('zooms all plots together, by drag, wheel and keys, and asks for finer points', async (t) => {
    const folder = folderOf('long');
    makeRun(folder, { points: 20_000, every: 1 });
    const { page, wrong, board } = await open(folder);
    await until(
      () => lastStep(page, 'loss'),
      (step) => step > 19_000,
      'all of it',
    );
    const asked: string[] = [];
    page.on('request', (request) => asked.push(request.url()));
    const box = await page.locator('.chart[data-tag="loss"] .u-over').boundingBox();
    assert.ok(box);
    await page.mouse.move(box.x + box.width * 0.25, box.y + 60);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.5, box.y + 60, { steps: 4 });
    await page.mouse.up();
    await page.getByRole('button', { name: 'whole range' }).waitFor();
    const edge = await until(
      () => lastStep(page, 'train_accuracy'),
      (step) => step < 11_000,
      'the other plot',
    );
    assert.ok(Math.abs(edge - 10_000) < 400, String(edge));
    await until(
      async () => asked.filter((url) => url.includes('from=')).length,
      (count) => count > 0,
      'finer points',
    );
    assert.ok(board.url);
    await page.mouse.move(box.x + box.width / 2, box.y + 60);
    await page.keyboard.down('Control');
    await page.mouse.wheel(0, -400);
    await page.keyboard.up('Control');
    const closer = await until(
      () => lastStep(page, 'loss'),
      (step) => step < edge - 200,
      'the wheel',
    );
    await page.keyboard.press('Shift+ArrowRight');
    await until(
      () => lastStep(page, 'loss'),
      (step) => step > closer,
      'moved',
    );
    await page.keyboard.press('0');
    await until(
      () => lastStep(page, 'loss'),
      (step) => step > 19_000,
      'all again',
    );
    t.diagnostic(`${await zoomRate(page)} pictures a second while all plots zoom`);
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('can be used by keys alone, in the dark, and on a narrow screen', async () => {
    const folder = folderOf('two');
    const { page, wrong } = await open(folder, '', { colorScheme: 'dark', viewport: { width: 400, height: 800 } });
    await page.locator('.chart[data-tag="loss"] .u-over').waitFor();
    assert.equal(await page.evaluate<string>('document.documentElement.dataset.theme'), 'dark');
    await shot(page, 'learning-dark-narrow');
    // Nothing is wider than the screen.
    for (const key of ['1', '2', '3', '4', '5', '6']) {
      await page.keyboard.press(key);
      await page.waitForTimeout(250);
      const [wide, width] = await page.evaluate<number[]>(
        '[document.documentElement.scrollWidth, document.documentElement.clientWidth]',
      );
      assert.equal(wide, width, `view ${key}`);
    }
    await page.keyboard.press('?');
    await page.locator('dialog[open]').waitFor();
    assert.ok((await page.locator('dialog kbd').count()) > 12);
    await page.keyboard.press('Escape');
    await page.keyboard.press('t');
    assert.equal(await page.evaluate<string>('document.documentElement.dataset.theme'), 'light');
    await page.keyboard.press('r');
    await page.locator('.side input[type=checkbox]').first().focus();
    await page.keyboard.press('Space');
    await page.getByText(/^2 runs, 1 drawn$/).waitFor();
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('lets in who follows its address from a page of another site, and keeps the token out of sight', async () => {
    makeRun(folderOf('linked'), { points: 3 });
    const board = await startBoard({ folder: folderOf('linked'), host: '127.0.0.2', port: 0 });
    boards.push(board);
    const other = createServer((_request, response) => {
      response.setHeader('Content-Type', 'text/html').end(`<a href="${board.url}">the board</a>`);
    });
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const page = await browser.newPage();
    try {
      await page.goto(`http://localhost:${(other.address() as AddressInfo).port}/`);
      await page.click('a');
      await page.locator('.chart').first().waitFor();
      assert.ok(!page.url().includes('token'), page.url());
      await page.goBack();
      assert.equal(new URL(page.url()).hostname, 'localhost');
    } finally {
      await page.close();
      other.closeAllConnections();
      other.close();
    }
  });

  it('gives runs colours that stay, when others come and on the next visit', async () => {
    const folder = folderOf('colours');
    makeRun(join(folder, 'b'), { points: 3, begin: 1_700_000_500 });
    const { page } = await open(folder);
    const colorOf = (name: string) => page.locator(`li[data-run="${name}"] .swatch`).getAttribute('style');
    await page.locator('li[data-run="b"]').waitFor();
    const before = await colorOf('b');
    // An older one, which would come first.
    makeRun(join(folder, 'a'), { points: 3, begin: 1_700_000_000 });
    await page.locator('li[data-run="a"]').waitFor();
    assert.equal(await colorOf('b'), before);
    const other = await colorOf('a');
    assert.notEqual(other, before);
    await page.reload();
    await page.locator('li[data-run="a"]').waitFor();
    assert.deepEqual([await colorOf('a'), await colorOf('b')], [other, before]);
    await page.close();
  });
});

describe('a report in a browser', { skip }, () => {
  it('shows the same from a file, and asks nobody for anything', async () => {
    const file = join(base, 'report.html');
    writeFileSync(file, (await makeReport(folderOf('two'), null)).html);
    const page = await browser.newPage({ viewport: { width: 1280, height: 860 } });
    const requests: string[] = [];
    const wrong = watchPage(page, 'null');
    page.on('request', (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(file).href);
    await page.locator('.chart[data-tag="loss"] .u-over').waitFor();
    assert.equal(
      await until(
        () => lastStep(page, 'loss'),
        (step) => step > 0,
        'drawn',
      ),
      2000,
    );
    await page.keyboard.press('3');
    await page.locator('.bar-row.marked').waitFor();
    await page.keyboard.press('5');
    await until(
      () => page.locator('tr.differs th').allTextContents(),
      (all) => all.length === 2,
      'facts',
    );
    await shot(page, 'report-light');
    assert.deepEqual(
      requests.filter((url) => !url.startsWith('data:')),
      [pathToFileURL(file).href],
    );
    assert.deepEqual(
      wrong.filter((one) => !one.startsWith('file:')),
      [],
    );
    await page.close();
  });
});
