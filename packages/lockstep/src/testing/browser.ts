/** For tests: the system's own Chromium, computing WebGL on the processor, with a camera that shows a test picture. Not part of the package. */
import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';

const CHROMIUM = process.env.LOCKSTEP_TEST_CHROMIUM ?? '/usr/bin/chromium';

/** Why tests in a browser cannot run here, or false: fits node:test's `skip`. */
export function whyNoChromium(): string | false {
  return existsSync(CHROMIUM) ? false : `there is no ${CHROMIUM} (apt-get install chromium)`;
}

export async function openBrowser(): Promise<Browser> {
  return await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      '--no-sandbox',
      '--use-angle=swiftshader',
      '--enable-unsafe-swiftshader',
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
    ],
  });
}

/** What a page did that it may not do: errors, refusals of its policy, requests to other places than its own. */
export function watchPage(page: Page, origin: string): string[] {
  const wrong: string[] = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  page.on('console', (message) => {
    if (message.type() === 'error') wrong.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    if (!/^(blob|data):/.test(request.url()) && new URL(request.url()).origin !== origin) wrong.push(request.url());
  });
  return wrong;
}
