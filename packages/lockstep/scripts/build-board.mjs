/**
 * Checks the types of the board's page and bundles it into dist/board/page: one script, one stylesheet, one HTML file. Runs at build time
 * only; nobody who installs needs a bundler.
 *
 * Incremental: does nothing while a stamp beside the output says that it was made from these sources.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../', import.meta.url));
const source = join(root, 'src/board/page');
const target = join(root, 'dist/board/page');
const stampFile = join(target, '.stamp');
const require = createRequire(import.meta.url);

const files = readdirSync(source, { recursive: true })
  .map(String)
  .filter((name) => /\.\w+$/.test(name))
  .map((name) => join(source, name))
  .concat(join(root, 'src/board/protocol.ts'), fileURLToPath(import.meta.url))
  .sort();
const hash = createHash('sha256').update(require('esbuild/package.json').version);
hash.update(readFileSync(require.resolve('uplot')));
for (const file of files) hash.update(file.slice(root.length)).update(readFileSync(file));
const stamp = hash.digest('hex');

if (!existsSync(stampFile) || readFileSync(stampFile, 'utf8') !== stamp) {
  const tsc = spawnSync('npx', ['tsc', '-p', source], { stdio: 'inherit', cwd: root });
  if (tsc.status !== 0) process.exit(1);
  const { build } = await import('esbuild');
  mkdirSync(target, { recursive: true });
  const licence = readFileSync(join(require.resolve('uplot'), '../../LICENSE'), 'utf8').trim();
  await build({
    entryPoints: [join(source, 'page.ts'), join(source, 'page.css')],
    bundle: true,
    minify: true,
    format: 'iife',
    target: ['es2022', 'chrome115', 'firefox115', 'safari16'],
    outdir: target,
    legalComments: 'none',
    banner: { js: `/*! uPlot\n${licence}\n*/` },
    logLevel: 'warning',
  });
  copyFileSync(join(source, 'index.html'), join(target, 'index.html'));
  writeFileSync(stampFile, stamp);
}
