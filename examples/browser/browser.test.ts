/**
 * The page in Chromium: two replicas on two Web Workers learn the digits, with the bits of two replicas on two threads of Node; what the
 * page says is what they did; and a page that is not isolated says what its server has to send.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import type { Server } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { MirroredStrategy, ReplicaError, unregisterDeviceProvider } from '@lockstep/distribute';
import { type Browser, chromium, type Page } from 'playwright-core';
import type { Outcome, Task } from './train.js';

const CHROMIUM = '/usr/bin/chromium';
const skip = existsSync(CHROMIUM) ? false : `no ${CHROMIUM}`;
const STEPS = 25;
const BATCH = 32;

/** The program that serves the page; it is no TypeScript. */
const { serve, digits } = (await import(new URL('../../browser/serve.mjs', import.meta.url).href)) as {
  serve(options?: { isolated?: boolean }): Promise<{ server: Server; url: string }>;
  digits(): Uint8Array;
};

/** The same on Node: threads instead of Web Workers, TensorFlow.js' `cpu` in both. */
async function onNode(replicas: number): Promise<Outcome[]> {
  unregisterDeviceProvider('onednn');
  const bytes = new Uint8Array(new SharedArrayBuffer(digits().length));
  bytes.set(digits());
  const count = bytes.length / (1 + 28 * 28);
  const task: Task = {
    ...{ labels: bytes.subarray(0, count), pixels: bytes.subarray(count), training: Math.floor(0.9 * count) },
    ...{ steps: STEPS, batchSize: BATCH, learningRate: 0.05 },
  };
  const devices = Array.from({ length: replicas }, (_, i) => `cpu:${i}`);
  return await new MirroredStrategy({ devices, log: () => {} }).run(new URL('./train.js', import.meta.url), task);
}

describe('replicas in a browser', { skip }, () => {
  let browser: Browser;
  const servers: Server[] = [];
  before(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  });
  after(async () => {
    await browser?.close();
    for (const server of servers) server.close();
  });

  /** A page, and what went wrong in it that it does not show. */
  async function open(options: { isolated?: boolean } = {}): Promise<{ page: Page; problems: string[] }> {
    const { server, url } = await serve(options);
    servers.push(server);
    const page = await browser.newPage();
    const problems: string[] = [];
    page.on('pageerror', ({ message }) => problems.push(message));
    page.on('console', (message) => {
      if (message.type() === 'error') problems.push(message.text());
    });
    await page.goto(url);
    return { page, problems };
  }

  async function train(page: Page, replicas: number): Promise<Outcome[]> {
    await page.evaluate(() => {
      (globalThis as { outcomes?: unknown }).outcomes = undefined;
    });
    await page.selectOption('#replicas', String(replicas));
    await page.fill('#steps', String(STEPS));
    await page.fill('#batch', String(BATCH));
    await page.click('#start');
    await page.waitForFunction(
      () => (globalThis as { outcomes?: unknown }).outcomes || !document.getElementById('error')?.hidden,
      undefined,
      { timeout: 120_000 },
    );
    assert.equal(await page.textContent('#error'), '');
    const outcomes = await page.evaluate(() =>
      (globalThis as unknown as { outcomes: Outcome[] }).outcomes.map(({ losses, weights, accuracy }) => ({
        ...{ losses, accuracy },
        weights: [...weights],
      })),
    );
    return outcomes.map((outcome) => ({ ...outcome, weights: Float32Array.from(outcome.weights) }));
  }

  test('one and two Web Workers learn, bit by bit, what as many threads of Node learn; the page says what they did', async () => {
    const { page, problems } = await open();
    for (const replicas of [2, 1]) {
      const found = await train(page, replicas);
      assert.deepEqual(found, await onNode(replicas), `${replicas} replicas`);
      const [{ losses }] = found as [Outcome];
      assert.ok((losses.at(-1) as number) < 0.7 * (losses[0] as number), `the loss falls: ${losses}`);
      assert.match(
        (await page.textContent('#summary')) ?? '',
        replicas === 2
          ? /^2 replicas trained 25 steps in [\d.]+ s, \d+ images\/s; loss [\d.]+ to [\d.]+; their weights are the same bits\.$/
          : /^1 replica trained 25 steps in [\d.]+ s, \d+ images\/s; loss [\d.]+ to [\d.]+\.$/,
      );
      assert.equal(await page.textContent('#step'), '25 of 25');
      assert.equal(await page.textContent('#loss'), (losses.at(-1) as number).toFixed(3));
      assert.equal(await page.locator('#list li').count(), replicas);
    }
    assert.deepEqual(problems, []);
  });

  test('a page that is not cross-origin isolated says which headers its server has to send', async () => {
    const { page } = await open({ isolated: false });
    await page.click('#start');
    await page.waitForFunction(() => !document.getElementById('error')?.hidden, undefined, { timeout: 30_000 });
    const message = (await page.textContent('#error')) ?? '';
    assert.match(
      message,
      /cross-origin isolated, and this one is not\.\nhelp: .*`Cross-Origin-Opener-Policy: same-origin`/,
    );
    assert.match(message, /`Cross-Origin-Embedder-Policy: require-corp`/);
    assert.equal(await page.isEnabled('#start'), true);
  });

  test('a replica that fails in a Web Worker ends the run with the error that Node gives', async () => {
    const { page } = await open();
    const failing = await page.evaluate(async () => {
      const text = 'export default () => { throw new RangeError("the dog ate my batch"); }';
      const module = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
      const { strategyOf } = globalThis as unknown as {
        strategyOf(count: number): { run(url: string): Promise<unknown> };
      };
      return await strategyOf(2)
        .run(module)
        .then(
          () => null,
          ({ name, message, kind }: { name: string; message: string; kind: string }) => ({ name, message, kind }),
        );
    });
    const module = `data:text/javascript,${encodeURIComponent('export default () => { throw new RangeError("the dog ate my batch"); }')}`;
    const strategy = new MirroredStrategy({ devices: ['cpu:0', 'cpu:1'], log: () => {} });
    const wanted = await strategy.run(new URL(module)).catch((error: unknown) => error);
    assert.ok(wanted instanceof ReplicaError);
    const first = (text = '') => text.split('\n')[0]?.replace(/Replica \d \(cpu:\d\)/, 'Replica');
    assert.deepEqual(
      [failing?.name, failing?.kind, first(failing?.message)],
      [wanted.name, wanted.kind, first(wanted.message)],
    );
  });
});
