// The outside conformance suite for what this package adds: specifications that @tensorflow/tfjs-core ships, of the operations whose kernels or
// gradients are ours, run on the first GPU that counts.
//
//   LOCKSTEP_SOFTWARE_GPU=1 node packages/webgpu/conformance/run.mjs
//
// The suite's files have no extensions in their imports, so esbuild bundles them for Node; jasmine runs the bundle. The last line is
// `N specs, M failures, K pending`.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import Jasmine from 'jasmine';

const here = dirname(fileURLToPath(import.meta.url));
/** Parts of their names. */
const OPERATIONS = ['conv2d', 'batchNorm', 'relu', 'moments', 'add ', 'customGrad', 'variable'];

// Inside the repository, so that the bundle finds the packages that stay outside of it.
const folder = mkdtempSync(join(here, '.bundle-'));
try {
  const bundle = join(folder, 'specs.cjs');
  const stub = join(folder, 'stub.cjs');
  // jasmine_util asks for a deep path that jasmine does not export; it needs nothing of it.
  writeFileSync(stub, 'module.exports = { core: () => ({}) };\n');
  await build({
    entryPoints: [join(here, 'specs.mjs')],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    mainFields: ['module', 'main'],
    // The package says that its files have no side effects, which would drop every specification.
    ignoreAnnotations: true,
    external: ['webgpu'],
    alias: { 'jasmine-core/lib/jasmine-core/jasmine.js': stub },
    define: { 'import.meta.url': JSON.stringify(pathToFileURL(join(here, '../dist/index.js')).href) },
    logLevel: 'error',
  });
  globalThis.lockstepConformance = { include: OPERATIONS };
  const jasmine = new Jasmine();
  jasmine.exitOnCompletion = false;
  jasmine.loadConfig({ spec_dir: '/', spec_files: [], random: false });
  const counts = { specs: 0, failures: 0, pending: 0 };
  jasmine.addReporter({
    specDone({ status, fullName, failedExpectations }) {
      if (status === 'excluded') return;
      counts.specs++;
      if (status === 'pending') counts.pending++;
      if (status !== 'failed') return;
      counts.failures++;
      console.log(`failed: ${fullName}: ${failedExpectations[0]?.message.split('\n')[0]}`);
    },
  });
  createRequire(import.meta.url)(bundle);
  await jasmine.execute();
  console.log(`${counts.specs} specs, ${counts.failures} failures, ${counts.pending} pending`);
  process.exitCode = counts.failures === 0 && counts.specs > 100 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
