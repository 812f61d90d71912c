// Runs specifications that @tensorflow/tfjs-core ships against a backend, for packages/*/conformance/run.mjs. The suite's files have no
// extensions in their imports, so esbuild bundles them for Node; jasmine runs the bundle.
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import Jasmine from 'jasmine';

/**
 * @param folder of run.mjs, in a package: specs.mjs beside it is what is bundled, ../dist the package's modules
 * @param external what stays outside of the bundle
 * @param settings what environment.mjs finds as globalThis.lockstepConformance
 * @returns counts, what failed, and jasmine's own word for the whole
 */
export async function runSpecs({ folder, external, settings }) {
  // Inside the repository, so that the bundle finds the packages that stay outside of it.
  const temporary = mkdtempSync(join(folder, '.bundle-'));
  try {
    const bundle = join(temporary, 'specs.cjs');
    await build({
      entryPoints: [join(folder, 'specs.mjs')],
      outfile: bundle,
      bundle: true,
      platform: 'node',
      format: 'cjs',
      mainFields: ['module', 'main'],
      // The package says that its files have no side effects, which would drop every specification.
      ignoreAnnotations: true,
      external,
      // jasmine_util asks for a deep path that jasmine does not export; it needs nothing of it.
      alias: {
        'jasmine-core/lib/jasmine-core/jasmine.js': join(dirname(fileURLToPath(import.meta.url)), 'jasmine-stub.cjs'),
      },
      // A bundle has no module of its own to name; the backend's modules find their neighbours from here.
      define: { 'import.meta.url': JSON.stringify(pathToFileURL(join(folder, '../dist/index.js')).href) },
      logLevel: 'error',
    });
    globalThis.lockstepConformance = settings;
    const jasmine = new Jasmine();
    jasmine.exitOnCompletion = false;
    jasmine.loadConfig({ spec_dir: '/', spec_files: [], random: false });
    const counts = { specs: 0, failures: 0, pending: 0 };
    const failed = [];
    jasmine.addReporter({
      specDone({ status, fullName, failedExpectations }) {
        if (status === 'excluded') return;
        counts.specs++;
        if (status === 'pending') counts.pending++;
        if (status !== 'failed') return;
        counts.failures++;
        failed.push({ name: fullName, message: failedExpectations[0]?.message.split('\n')[0] ?? '' });
      },
    });
    createRequire(import.meta.url)(bundle);
    const { overallStatus } = await jasmine.execute();
    return { counts, failed, overallStatus };
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** The last line that a conformance run prints, which scripts/test.mjs reads. */
export function describeCounts({ specs, failures, pending }) {
  return `${specs} specs, ${failures} failures, ${pending} pending`;
}
