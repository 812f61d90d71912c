// Runs every check of the repository and adds them up. The last line is `N passed, N failed` (`, N skipped` if any); the exit
// status is 1 if anything failed or nothing ran.
//
//   node scripts/test.mjs [--only=<part of a suite's or file's name>]
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inOrder, runJobs } from './job-queue.mjs';
import { run, runTestFile } from './run-test-file.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const only = process.argv.find((word) => word.startsWith('--only='))?.slice('--only='.length) ?? '';
/** A file of tests that takes longer hangs. */
const FILE_LIMIT_MS = 600_000;
const CHECK_LIMIT_MS = 900_000;
const total = { passed: 0, failed: 0, skipped: 0 };

function add(name, { passed, failed, skipped }, seconds) {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
  const mark = failed > 0 ? 'FAILED' : 'ok';
  console.log(
    `${mark.padEnd(7)} ${name}: ${passed} passed, ${failed} failed, ${skipped} skipped (${seconds.toFixed(1)} s)`,
  );
}

const nameOf = (path) => relative(root, path).replace('/dist/', '/');

/** A suite that passes or fails as a whole. */
async function check(name, command, args) {
  const begin = Date.now();
  const { status, output } = await run(command, args, { limit: CHECK_LIMIT_MS, cwd: root });
  if (status !== 0) console.log(output);
  add(name, { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 }, (Date.now() - begin) / 1000);
  // What it looked at, and what it left out.
  if (status === 0 && command === process.execPath) console.log(`        ${output.trim().split('\n').at(-1)}`);
}

/** Tests below a folder, which may not be there. @param isTest of a file's name @param skips folders that are left out */
function testsBelow(folder, isTest, skips = []) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return skips.includes(entry.name) ? [] : testsBelow(path, isTest, skips);
    return isTest(entry.name) ? [path] : [];
  });
}

const testFiles = (folder) => testsBelow(folder, (name) => /\.test\.m?js$/.test(name), ['node_modules']);
const testSources = (folder) => testsBelow(folder, (name) => name.endsWith('.test.ts'), ['dist', 'node_modules']);

/** One file in a process of its own, with the details of what failed and the reasons of what was skipped. */
async function testFile(path) {
  const begin = Date.now();
  const name = nameOf(path);
  const { output, reasons, ...counts } = await runTestFile(path, {
    limit: FILE_LIMIT_MS,
    env: { LOCKSTEP_TEST_PROVIDER: '@lockstep/onednn' },
    cwd: root,
  });
  if (counts.failed > 0) console.log(output);
  for (const reason of reasons) console.log(`skipped ${name}: ${reason}`);
  add(name, counts, (Date.now() - begin) / 1000);
}

async function conformance(name, args = []) {
  const begin = Date.now();
  const { status, output } = await run(process.execPath, ['packages/onednn/conformance/run.mjs', ...args], {
    limit: CHECK_LIMIT_MS,
    cwd: root,
  });
  const [, specs, failures, pending] = output.match(/(\d+) specs?, (\d+) failures?(?:, (\d+) pending)?/) ?? [];
  const failed = specs === undefined ? 1 : Number(failures) || (status === 0 ? 0 : 1);
  if (failed > 0) console.log(output);
  const skipped = Number(pending ?? 0);
  add(
    name,
    { passed: Number(specs ?? 0) - Number(failures ?? 0) - skipped, failed, skipped },
    (Date.now() - begin) / 1000,
  );
}

const wanted = (jobs) => jobs.filter(({ name }) => name.includes(only));
const script = (name, path, ...args) => ({ name, run: () => check(name, process.execPath, [path, ...args]) });
const checkScript = (name) => script(name, join('scripts', `${name}.mjs`));

// Alone, and one after another: two of them look at all files, and the arrows' probes are some for a moment.
const first = wanted([
  {
    name: 'format and lint, arrows between packages (biome)',
    run: () => check('format and lint, arrows between packages (biome)', 'npx', ['biome', 'ci', '.']),
  },
  ...['check-arrows', 'check-circles', 'check-text'].map(checkScript),
]);
for (const job of first) await job.run();
const files = readdirSync(join(root, 'packages'))
  .flatMap((name) => testFiles(join(root, 'packages', name, 'dist')))
  .concat(testFiles(join(root, 'examples', 'dist')), testFiles(join(root, 'scripts')))
  .filter((path) => relative(root, path).includes(only));
// Files that were not told apart by --only must exist: an empty list would pass.
if (files.length === 0 && only === '') add('test files', { passed: 0, failed: 1, skipped: 0 }, 0);
// A test that was not built would never run, and nobody would know.
const sources = ['packages', 'examples'].flatMap((folder) => testSources(join(root, folder)));
const built = new Set(files.map((path) => relative(root, path).replace('/dist/', '/src/').replace(/\.js$/, '.ts')));
const unbuilt = sources
  .map((path) => relative(root, path))
  .filter((path) => !built.has(path) && !built.has(path.replace('examples/', 'examples/src/')) && path.includes(only));
for (const path of unbuilt) {
  console.log(`${path} was not built, so it cannot run. help: name its folder in tsconfig.json`);
  add(path, { passed: 0, failed: 1, skipped: 0 }, 0);
}
const suite = (name, ...args) => ({ name, run: () => conformance(name, args) });
const jobs = [
  ...files.map((path) => ({ name: nameOf(path), run: () => testFile(path) })),
  ...wanted([
    suite('conformance'),
    suite('conformance, every tensor in a blocked layout', '--layout=blocked'),
    suite('conformance, every tensor in bf16', '--layout=bf16'),
    ...['check-docs', 'check-packages'].map(checkScript),
    script('check-api', join('scripts', 'api-reference.mjs'), '--check'),
  ]),
];
await runJobs(inOrder(jobs), Math.max(1, Math.min(2, availableParallelism())));

const { version } = JSON.parse(readFileSync(join(root, 'packages/lockstep/package.json'), 'utf8'));
console.log(`Lockstep ${version}, Node ${process.versions.node}`);
if (total.passed + total.failed + total.skipped === 0) {
  console.log(`No suite has '${only}' in its name.`);
  total.failed = 1;
}
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed > 0 ? 1 : 0;
