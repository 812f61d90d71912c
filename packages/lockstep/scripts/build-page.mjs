// The page that uses an exported model, whole: TensorFlow.js in it, nothing to fetch from elsewhere. Written into dist/page.
//
//   node packages/lockstep/scripts/build-page.mjs
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { PAGE_POLICY } from '../dist/web/static-server.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const target = join(root, 'dist', 'page');
mkdirSync(target, { recursive: true });
await build({
  entryPoints: [join(root, 'page', 'page.ts')],
  outfile: join(target, 'page.js'),
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  platform: 'browser',
  // Licences of what is in it stay in it.
  legalComments: 'eof',
  logLevel: 'warning',
  define: { 'process.env.NODE_ENV': '"production"' },
});
const page = (name) => readFileSync(join(root, 'page', name), 'utf8');
writeFileSync(join(target, 'page.css'), page('page.css'));
writeFileSync(join(target, 'index.html'), page('index.html').replace('%POLICY%', PAGE_POLICY));
