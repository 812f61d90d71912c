/**
 * `lockstep serve` and `lockstep export --page` in real Chromium: digits that were held out get the trainer's probabilities, a drawn seven
 * is a seven, and so on for pictures as ImageNet's. The trainer's side is its own reader and its own network.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import '@lockstep/onednn';
import { prepareImage } from '@lockstep/official/data/cifar10-reader';
import { decodeImage } from '@lockstep/official/data/image';
import { centralView } from '@lockstep/official/data/imagenet-preprocessing';
import { readRun, runCheckpoints } from '@lockstep/official/resnet/replica/run-state';
import { cifar10Plan, imagenetPlan, Model, upstreamName } from '@lockstep/official/resnet/resnet-model';
import { Philox } from '@lockstep/official/utils/random/philox';
import * as tf from '@tensorflow/tfjs-core';
import type { Browser, Page } from 'playwright-core';
import sharp from 'sharp';
import { openBrowser, whyNoChromium } from '../testing/browser.js';
import {
  answer,
  answerTo,
  compareAnswers,
  fillModel,
  openClassifier,
  pick,
  probabilitiesOf,
} from '../testing/classifier-page.js';
import { BIN, lockstep, type RunningProcess, start } from '../testing/process.js';

const folder = mkdtempSync(join(tmpdir(), 'serve-'));
const RECORD_BYTES = 3073;
const skip = whyNoChromium();

let browser: Browser;
const servers: RunningProcess[] = [];
before(async () => {
  if (skip) return;
  browser = await openBrowser();
  await tf.setBackend('onednn');
});
after(async () => {
  await browser?.close();
  for (const { child, result } of servers) {
    child.kill('SIGINT');
    await result;
  }
  rmSync(folder, { recursive: true, force: true });
});

/** Serves a model. @returns the page's address */
async function serve(...argv: string[]): Promise<string> {
  const server = start(process.execPath, [BIN, 'serve', ...argv], { cwd: folder, limitSeconds: 300 });
  servers.push(server);
  await server.until(/http:\S+/, 30);
  return /http:\S+/.exec(server.output())?.[0] as string;
}

const open = (url: string, options: Parameters<Browser['newPage']>[0] = {}) => openClassifier(browser, url, options);

describe('the page for digits', { skip }, () => {
  let url: string;
  let records: Uint8Array;
  let expected: Float32Array[];
  const COUNT = 6;

  before(async () => {
    // Enough of an epoch for a seven that is drawn, and quick.
    const trained = await lockstep(
      ['start', '--train_epochs=2', '--epochs_between_evals=2', '--model_dir=digits', '--progress=none'],
      { cwd: folder, limitSeconds: 280 },
    );
    assert.equal(trained.status, 0, trained.describe());
    assert.match(trained.output, /read in your browser:\n {2}npx lockstep serve digits\n/);
    records = readFileSync(join(folder, 'lockstep-data', 'digits', 'cifar-10-batches-bin', 'test_batch.bin'));
    const { tensors } = readRun(join(folder, 'digits'));
    const model = new Model(cifar10Plan(8, 1), 0, { initialize: false });
    fillModel(model, (name) => tensors[name]?.values as Float32Array);
    const images = new Float32Array(COUNT * 3072);
    for (let i = 0; i < COUNT; i++) prepareImage(records, i, images, i * 3072);
    expected = probabilitiesOf(model, images, COUNT);
    model.dispose();
    url = await serve('digits');
  });

  /** A held-out digit as a picture file. */
  const png = (example: number): Promise<Buffer> => {
    const planes = records.subarray(example * RECORD_BYTES + 1, (example + 1) * RECORD_BYTES);
    const pixels = Uint8Array.from({ length: 3072 }, (_, i) => planes[(i % 3) * 1024 + Math.floor(i / 3)] as number);
    return sharp(pixels, { raw: { width: 32, height: 32, channels: 3 } })
      .png()
      .toBuffer();
  };

  for (const backend of ['webgl', 'cpu']) {
    it(`gives the trainer's probabilities on ${backend}`, async (t) => {
      const { page, wrong } = await open(`${url}?backend=${backend}`);
      assert.equal(await page.getAttribute('body', 'data-ready'), backend);
      let gap = 0;
      for (let i = 0; i < COUNT; i++) {
        const picture = await png(i);
        gap = Math.max(
          gap,
          compareAnswers(await answerTo(page, () => pick(page, picture)), expected[i] as Float32Array),
        );
      }
      t.diagnostic(`largest difference: ${gap.toExponential(1)}; ${await page.textContent('#status')}`);
      assert.deepEqual(wrong, []);
      await page.close();
    });
  }

  it('takes pictures that are dropped, pasted and taken by the camera', async () => {
    const { page, wrong } = await open(url);
    const bytes = [...(await png(1))];
    for (const [type, target] of [
      ['drop', 'main'],
      ['paste', 'body'],
    ] as const) {
      const shown = await answerTo(page, () =>
        page.$eval(
          target,
          (element, [kind, data]) => {
            const view = globalThis as never as Record<string, new (...all: unknown[]) => never>;
            const transfer = new view.DataTransfer!() as { items: { add(file: unknown): void } };
            transfer.items.add(new view.File!([new Uint8Array(data as number[])], 'digit.png', { type: 'image/png' }));
            const options = { bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer };
            const event =
              kind === 'drop' ? new view.DragEvent!('drop', options) : new view.ClipboardEvent!('paste', options);
            (element as never as { dispatchEvent(event: unknown): void }).dispatchEvent(event);
          },
          [type, bytes] as const,
        ),
      );
      compareAnswers(shown, expected[1] as Float32Array);
      await answerTo(page, async () => pick(page, await png(2)));
    }
    await page.evaluate(`{
      const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      globalThis.tracks = [];
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await ask(wanted);
        tracks.push(...stream.getTracks());
        return stream;
      };
    }`);
    // Twice: an impatient hand.
    for (const count of [1, 2]) {
      await page.click('#camera');
      await page.waitForSelector('#viewfinder.live');
      for (let i = 0; i < 500 && (await page.evaluate('tracks.length')) !== count; i++) await page.waitForTimeout(20);
    }
    assert.equal((await answerTo(page, () => page.click('#shoot'))).size, 5);
    assert.equal(await page.isVisible('#viewfinder'), false);
    assert.deepEqual(await page.evaluate('tracks.map(({ readyState }) => readyState)'), ['ended', 'ended']);
    await page.setInputFiles('#picker', {
      name: 'notes.txt',
      mimeType: 'text/plain',
      buffer: Buffer.from('no picture'),
    });
    await page.waitForSelector('#status:has-text("notes.txt is no picture")');
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('reads a drawn seven as a seven, by mouse and by keys', async () => {
    const { page, wrong } = await open(url);
    const box = (await (await page.$('#pad'))?.boundingBox()) as NonNullable<
      Awaited<ReturnType<NonNullable<Awaited<ReturnType<Page['$']>>>['boundingBox']>>
    >;
    const move = (x: number, y: number) => page.mouse.move(box.x + x * box.width, box.y + y * box.height, { steps: 8 });
    await move(0.28, 0.2);
    await answerTo(page, async () => {
      await page.mouse.down();
      await move(0.72, 0.18);
      await move(0.42, 0.85);
      await page.mouse.up();
    });
    const likeliest = async () => [...(await answer(page))][0]?.[0];
    await page.waitForSelector('#results li:first-child[data-class="7"]');
    await page.click('#clear');
    await page.waitForSelector('#results.empty');
    // The clear button gives the focus back to the surface; from its top the pen goes to the right, and down from there.
    const press = async (key: string, times: number) => {
      for (let i = 0; i < times; i++) await page.keyboard.press(key);
    };
    await press('ArrowLeft', 6);
    await page.keyboard.down(' ');
    await press('ArrowRight', 12);
    for (let i = 0; i < 6; i++) {
      await press('ArrowDown', 3);
      await press('ArrowLeft', 1);
    }
    await page.keyboard.up(' ');
    await page.waitForSelector('#results li:first-child[data-class="7"]');
    assert.equal(await likeliest(), 7);
    // A picture takes its place.
    await pick(page, await png(2));
    await page.waitForSelector('#preview', { state: 'visible' });
    const isBlank = `document.getElementById('pad').getContext('2d').getImageData(0, 0, 308, 308).data.every((value) => value === 0)`;
    assert.equal(await page.evaluate(isBlank), true);
    assert.deepEqual(wrong, []);
    await page.close();
  });

  it('fits a narrow screen, and follows the system into the dark', async () => {
    const brightness = async (colorScheme: 'light' | 'dark') => {
      const { page } = await open(url, { viewport: { width: 360, height: 640 }, colorScheme });
      const [width, color] = (await page.evaluate(
        '[document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]',
      )) as [number, string];
      assert.ok(width <= 360, `${width} pixels wide`);
      for (const id of ['#pad', '#pick', '#clear']) assert.equal(await page.isVisible(id), true, id);
      await page.close();
      return Number(/\d+/.exec(color)?.[0]);
    };
    assert.ok((await brightness('light')) > 200);
    assert.ok((await brightness('dark')) < 60);
  });

  it('is served by any web server, also below a path, with what export --page wrote', async () => {
    const exported = await lockstep(['export', 'digits', 'site/sub/digits', '--page', '--quantize=float16'], {
      cwd: folder,
    });
    assert.equal(exported.status, 0, exported.describe());
    const server = createServer((request, response) => {
      const path = (request.url as string).replace(/\?.*/, '').replace(/\/$/, '/index.html');
      response.setHeader(
        'Content-Type',
        { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' }[extname(path)] ??
          'application/octet-stream',
      );
      try {
        response.end(readFileSync(join(folder, 'site', path)));
      } catch {
        response.writeHead(404).end();
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const { page, wrong } = await open(`http://127.0.0.1:${(server.address() as AddressInfo).port}/sub/digits/`);
      const shown = await answerTo(page, async () => pick(page, await png(0)));
      const [[label, probability]] = [...shown] as [[number, number]];
      // Half precision, so not to 1e-4.
      assert.ok(Math.abs(probability - (expected[0]?.[label] as number)) < 0.02);
      assert.deepEqual(wrong, []);
      await page.close();
    } finally {
      server.close();
      server.closeAllConnections();
    }
  });
});

describe('the page for pictures', { skip }, () => {
  it("gives the trainer's probabilities for pictures of any size", async (t) => {
    const plan = imagenetPlan(18, 2, { numClasses: 8, imageSize: 64 });
    const model = new Model(plan, 3);
    const random = new Philox(4);
    const tensors: Record<string, { shape: readonly number[]; values: Float32Array }> = {};
    for (const variable of model.variables) {
      const values = (variable.dataSync() as Float32Array).map((value) =>
        variable.name.includes('gamma') ? 1 + 0.2 * random.normal() : value + 0.01 * random.normal(),
      );
      tensors[upstreamName(variable.name)] = { shape: variable.shape, values };
    }
    for (const { name, length } of model.statisticSegments) {
      const values = Float32Array.from({ length }, () =>
        name.endsWith('variance') ? 0.5 + random.uniform() : 0.1 * random.normal(),
      );
      tensors[name] = { shape: [length], values };
    }
    const names = Array.from({ length: 8 }, (_, i) => `kind <b>${i}</b>`);
    const files = [];
    for (const [width, height, kind] of [
      [200, 150, 'png'],
      [97, 280, 'png'],
      [64, 64, 'png'],
      [240, 180, 'webp'],
      [300, 201, 'jpeg'],
    ] as const) {
      const pixels = new Uint8Array(width * height * 3);
      // Of other colours and patterns each.
      const [wave, colour] = [3 + 5 * files.length, files.length % 3];
      for (let i = 0; i < pixels.length; i++) {
        pixels[i] = (i % 3 === colour ? 150 : 90) + 60 * Math.sin(i / (wave * width)) + 30 * Math.cos(i / (7 + wave));
      }
      const image = sharp(pixels, { raw: { width, height, channels: 3 } });
      files.push(await image[kind]({ lossless: true, quality: 90 }).toBuffer());
    }
    const images = new Float32Array(files.length * 64 * 64 * 3);
    for (const [i, file] of files.entries()) {
      let view: ReturnType<typeof centralView> | undefined;
      const decoded = await decodeImage(file, (size) => {
        view = centralView(size, { height: 64, width: 64 });
        return view.box;
      });
      view?.write(decoded, images, i * 64 * 64 * 3);
    }
    const valuesOf = (name: string) => tensors[name]?.values as Float32Array;
    fillModel(model, valuesOf);
    // So that no probability is 0 or 1.
    const logits = tf.tidy(() => model.call(tf.tensor4d(images, [files.length, 64, 64, 3]), false).dataSync());
    const largest = (logits as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const part of ['kernel', 'bias']) {
      const values = valuesOf(`resnet_model/dense/${part}`);
      for (let i = 0; i < values.length; i++) values[i] = (3 * (values[i] as number)) / largest;
    }
    fillModel(model, valuesOf);
    runCheckpoints(join(folder, 'pictures')).save(7, {
      tensors,
      metadata: {
        ...{
          format: 'lockstep-resnet',
          global_step: '7',
          epochs: '1',
          call_epochs: '0',
          step: '0',
          batch_size: '8',
          seed: '1',
        },
        ...{ resnet_size: '18', resnet_version: '2', fine_tune: 'false' },
        ...{ dataset: 'ImageNet', image_size: '64', class_names: JSON.stringify(names) },
      },
    });
    const expected = probabilitiesOf(model, images, files.length);
    model.dispose();
    const [first] = expected as [Float32Array];
    for (const other of expected.slice(1)) {
      assert.ok(Math.max(...other.map((value, i) => Math.abs(value - (first[i] as number)))) > 0.01, `${expected}`);
    }
    const { page, wrong } = await open(await serve('pictures'));
    assert.equal(await page.isVisible('#draw'), false);
    let gap = 0;
    for (const [i, buffer] of files.entries()) {
      const shown = await answerTo(page, () => pick(page, buffer));
      gap = Math.max(gap, compareAnswers(shown, expected[i] as Float32Array));
    }
    t.diagnostic(`largest difference: ${gap.toExponential(1)}; ${await page.textContent('#status')}`);
    // Names are text.
    assert.match((await page.textContent('#results')) as string, /kind <b>\d<\/b>/);
    assert.deepEqual(wrong, []);
    await page.close();
  });
});

describe('lockstep serve', () => {
  it('says what is no model, and ends with Ctrl-C', async () => {
    mkdirSync(join(folder, 'odd'), { recursive: true });
    writeFileSync(join(folder, 'odd', 'model.json'), '{"modelTopology":{}}');
    for (const [argv, status, message] of [
      [['serve'], 2, /lockstep serve takes one model, got none\. Write `lockstep serve MODEL_DIR`\./],
      [['serve', 'nothing'], 1, /There is no checkpoint at nothing\./],
      [['serve', 'odd'], 1, /odd\/model\.json was not written by `lockstep export`/],
      [['serve', 'odd', '--port=70000'], 2, /--port=70000/],
      [
        ['export', 'odd', 'x', '--page', '--export_format=safetensors'],
        2,
        /flag --page: a page needs --export_format=tfjs/,
      ],
    ] as const) {
      const result = await lockstep(argv, { cwd: folder });
      assert.equal(result.status, status, result.describe());
      assert.match(result.output, message);
    }
  });
});
