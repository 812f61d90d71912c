/**
 * Bundles the pages, each from its folder `page` in src into the one in dist: one script, one stylesheet, one HTML file, nothing to fetch
 * from elsewhere. Runs at build time only, behind `tsc -b`, which checks their types; nobody who installs needs a bundler.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { PAGE_POLICY } from '../dist/web/static-server.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const uplot = createRequire(import.meta.url).resolve('uplot');
const PAGES = [
  // uPlot names its licence, and is to have the text of it.
  { folder: 'board/page', banner: `/*! uPlot\n${readFileSync(join(uplot, '../../LICENSE'), 'utf8').trim()}\n*/` },
  { folder: 'web/classifier/page', banner: '' },
];

for (const { folder, banner } of PAGES) {
  const [source, target] = [join(root, 'src', folder), join(root, 'dist', folder)];
  await build({
    entryPoints: [join(source, 'page.ts'), join(source, 'page.css')],
    outdir: target,
    bundle: true,
    minify: true,
    format: 'iife',
    target: ['es2022', 'chrome115', 'firefox115', 'safari16'],
    platform: 'browser',
    // Licences of what is in it stay in it.
    legalComments: 'eof',
    banner: { js: banner },
    logLevel: 'warning',
    define: { 'process.env.NODE_ENV': '"production"' },
  });
  const html = readFileSync(join(source, 'index.html'), 'utf8').replace('%POLICY%', PAGE_POLICY);
  writeFileSync(join(target, 'index.html'), html);
}
