// The outside conformance suite: every specification that @tensorflow/tfjs-core ships, run against a backend.
//
//   npm run conformance [-- --backend=onednn|cpu] [--layout=blocked|bf16]
//
// --layout puts every float tensor of 3 to 5 dimensions into a oneDNN layout as soon as it is written (force-layout.mjs).
// The suite's files have no extensions in their imports, so esbuild bundles them for Node; jasmine runs the bundle. The last
// line is `N specs, M failures`.
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import Jasmine from 'jasmine';
import { EXCLUDED, LAYOUTS } from './excluded.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const backend = process.argv.find((word) => word.startsWith('--backend='))?.split('=')[1] ?? 'onednn';
if (backend !== 'onednn' && backend !== 'cpu') {
  console.error(`--backend=${backend}: give onednn or cpu.`);
  process.exit(2);
}
const layout = process.argv.find((word) => word.startsWith('--layout='))?.split('=')[1] ?? null;
if (layout !== null && (backend !== 'onednn' || !Object.hasOwn(LAYOUTS, layout))) {
  console.error(`--layout=${layout}: give blocked or bf16, with the backend onednn.`);
  process.exit(2);
}
// Inside the repository, so that the bundle finds the packages that stay outside of it.
const folder = mkdtempSync(join(here, '.bundle-'));
const bundle = join(folder, 'specs.cjs');
try {
  await build({
    entryPoints: [join(here, 'specs.mjs')],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    mainFields: ['module', 'main'],
    // The package says that its files have no side effects, which would drop every specification.
    ignoreAnnotations: true,
    external: ['koffi'],
    // jasmine_util asks for a deep path that jasmine does not export; it needs nothing of it.
    alias: { 'jasmine-core/lib/jasmine-core/jasmine.js': join(here, 'jasmine-stub.cjs') },
    // A bundle has no module of its own to name; the backend's modules find their neighbours from here.
    define: { 'import.meta.url': JSON.stringify(pathToFileURL(join(here, '../dist/index.js')).href) },
    logLevel: 'error',
  });
  const { excluded, include } = layout === null ? { excluded: EXCLUDED, include: [] } : LAYOUTS[layout];
  globalThis.lockstepConformance = { backend, layout, include, excluded: excluded.map(([name]) => name), forced: 0 };
  const jasmine = new Jasmine();
  jasmine.exitOnCompletion = false;
  jasmine.loadConfig({ spec_dir: '/', spec_files: [], random: false });
  const counts = { specs: 0, failures: 0, pending: 0 };
  const failed = [];
  jasmine.addReporter({
    specDone({ status, fullName }) {
      if (status === 'excluded') return;
      counts.specs++;
      if (status === 'failed') {
        counts.failures++;
        failed.push(fullName);
      }
      if (status === 'pending') counts.pending++;
    },
  });
  createRequire(import.meta.url)(bundle);
  const { overallStatus } = await jasmine.execute();
  for (const [name, reason] of excluded) console.log(`excluded: ${name}: ${reason}`);
  for (const name of failed) console.log(`failed: ${name}`);
  if (layout !== null)
    console.log(`${globalThis.lockstepConformance.forced} tensors were put into the layout ${layout}`);
  console.log(`${counts.specs} specs, ${counts.failures} failures, ${counts.pending} pending`);
  process.exitCode = overallStatus === 'passed' || (counts.failures === 0 && counts.specs > 4000) ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
