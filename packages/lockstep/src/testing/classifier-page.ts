/**
 * For tests: the page that classifies pictures, as a person uses it, and what the trainer's own network says of the same pictures. Not part
 * of the package.
 */
import assert from 'node:assert/strict';
import { type Model, upstreamName } from '@lockstep/official/resnet/resnet-model';
import * as tf from '@tensorflow/tfjs-core';
import type { Browser, Page } from 'playwright-core';
import { watchPage } from './browser.js';

/** Of probabilities, the page's to the trainer's: both are f32, in another order of additions and with batch norm folded. */
export const TOLERANCE = 1e-4;

/** A page with the model loaded. @returns what it did that it may not do */
export async function openClassifier(
  browser: Browser,
  url: string,
  options: Parameters<Browser['newPage']>[0] = {},
): Promise<{ page: Page; wrong: string[] }> {
  const page = await browser.newPage(options);
  const wrong = watchPage(page, new URL(url).origin);
  await page.goto(url);
  await page.waitForSelector('body[data-ready], #status.error', { timeout: 60_000 });
  assert.ok(await page.getAttribute('body', 'data-ready'), `${await page.textContent('#status')} ${wrong}`);
  return { page, wrong };
}

/** Chooses a picture's file, as the page's button does. Its kind is found by its bytes. */
export async function pick(page: Page, picture: Uint8Array): Promise<void> {
  await page.setInputFiles('#picker', { name: 'picture', mimeType: 'image/png', buffer: Buffer.from(picture) });
}

/** Does something, and waits for one more answer. @returns probabilities by class, of the five likeliest */
export async function answerTo(page: Page, give: () => Promise<unknown>): Promise<Map<number, number>> {
  const before = Number((await page.getAttribute('#status', 'data-done')) ?? 0);
  await give();
  await page.waitForFunction(
    (count) =>
      Number(
        (
          globalThis as never as { document: { getElementById(id: string): { dataset: Record<string, string> } } }
        ).document.getElementById('status').dataset.done ?? 0,
      ) > count,
    before,
    { timeout: 60_000 },
  );
  return await answer(page);
}

/** What is shown now. */
export async function answer(page: Page): Promise<Map<number, number>> {
  const rows = await page.$$eval('#results li', (all) =>
    all.map((row) => [row.getAttribute('data-class'), row.getAttribute('data-probability')] as const),
  );
  return new Map(rows.map(([label, probability]) => [Number(label), Number(probability)]));
}

/** The five likeliest, and no other number than the trainer's. @returns the largest difference */
export function compareAnswers(shown: Map<number, number>, expected: Float32Array): number {
  const likeliest = Math.max(...expected);
  assert.ok(Math.abs((shown.get(expected.indexOf(likeliest)) ?? 0) - likeliest) < TOLERANCE);
  assert.equal(shown.size, Math.min(5, expected.length));
  const gaps = Array.from(shown, ([label, probability]) => Math.abs(probability - (expected[label] as number)));
  const gap = Math.max(...gaps);
  assert.ok(gap < TOLERANCE, `${JSON.stringify([...shown])}, expected ${expected}`);
  return gap;
}

/** Gives a network its numbers. @param valuesOf by the names that checkpoints have */
export function fillModel(model: Model, valuesOf: (name: string) => Float32Array): void {
  for (const variable of model.variables) {
    const tensor = tf.tensor(valuesOf(upstreamName(variable.name)), variable.shape);
    variable.assign(tensor);
    tensor.dispose();
  }
  for (const { name, offset } of model.statisticSegments) model.statistics.set(valuesOf(name), offset);
}

/** The network's answers, as evaluation computes them. @param images prepared as for it @returns by picture, then class */
export function probabilitiesOf(model: Model, images: Float32Array, count: number): Float32Array[] {
  const all = tf.tidy(
    () =>
      tf.softmax(model.call(tf.tensor4d(images, [count, ...model.plan.imageShape]), false)).dataSync() as Float32Array,
  );
  const classes = model.plan.numClasses;
  return Array.from({ length: count }, (_, i) => all.slice(i * classes, (i + 1) * classes));
}
