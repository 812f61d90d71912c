// Runs every check of the repository and adds them up. The last line is `N passed, N failed` (`, N skipped` if any); the exit
// status is 1 if anything failed or nothing ran.
//
//   node scripts/test.mjs [--only=<part of a suite's or file's name>]
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const only = process.argv.find((word) => word.startsWith('--only='))?.slice('--only='.length) ?? '';
/** A file of tests that takes longer hangs. */
const FILE_LIMIT_MS = 300_000;
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

/** Runs a command, collects its output, and ends it when it hangs. */
function run(command, args, { limit = 900_000, env = {} } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    const timer = setTimeout(() => {
      output += `\nended after ${limit / 1000} s\n`;
      child.kill('SIGKILL');
    }, limit);
    child.once('error', (error) => resolve({ status: 1, output: `${output}${error.message}\n` }));
    child.once('close', (status) => {
      clearTimeout(timer);
      resolve({ status, output });
    });
  });
}

/** A suite that passes or fails as a whole. */
async function check(name, command, args) {
  if (!name.includes(only)) return;
  const begin = Date.now();
  const { status, output } = await run(command, args);
  if (status !== 0) console.log(output);
  add(name, { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, skipped: 0 }, (Date.now() - begin) / 1000);
}

function testFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return testFiles(path);
    return entry.name.endsWith('.test.js') ? [path] : [];
  });
}

/** One file in a process of its own; TAP gives the counts, and the failures' details. */
async function testFile(path) {
  const begin = Date.now();
  const name = relative(root, path).replace('/dist/', '/');
  const { status, output } = await run(process.execPath, ['--test', '--test-reporter=tap', path], {
    limit: FILE_LIMIT_MS,
    env: { LOCKSTEP_TEST_PROVIDER: '@lockstep/onednn' },
  });
  const count = (what) => Number(output.match(new RegExp(`^# ${what} (\\d+)$`, 'm'))?.[1] ?? 0);
  const counts = {
    passed: count('pass'),
    failed: count('fail') + count('cancelled'),
    skipped: count('skipped') + count('todo'),
  };
  if (status !== 0 && counts.failed === 0) counts.failed = 1;
  if (counts.passed + counts.failed + counts.skipped === 0) counts.failed = 1;
  if (counts.failed > 0) console.log(output);
  else {
    for (const [, test, why] of output.matchAll(/^\s*ok \d+ - (.*) # SKIP(.*)$/gm))
      console.log(`skipped ${name}: ${test}:${why}`);
  }
  add(name, counts, (Date.now() - begin) / 1000);
}

async function conformance(name, args = []) {
  if (!name.includes(only)) return;
  const begin = Date.now();
  const { status, output } = await run(process.execPath, ['packages/onednn/conformance/run.mjs', ...args]);
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

await check('format and lint, arrows between packages (biome)', 'npx', ['biome', 'ci', '.']);
const files = readdirSync(join(root, 'packages'))
  .flatMap((name) => testFiles(join(root, 'packages', name, 'dist')))
  .concat(testFiles(join(root, 'examples', 'dist')))
  .filter((path) => relative(root, path).includes(only));
// Files that were not told apart by --only must exist: an empty list would pass.
if (files.length === 0 && only === '') add('test files', { passed: 0, failed: 1, skipped: 0 }, 0);
const queue = [...files];
const width = Math.max(1, Math.min(2, availableParallelism()));
await Promise.all(
  Array.from({ length: width }, async () => {
    for (let path = queue.shift(); path !== undefined; path = queue.shift()) await testFile(path);
  }),
);
await conformance('conformance');
await conformance('conformance, every tensor in a blocked layout', ['--layout=blocked']);
await conformance('conformance, every tensor in bf16', ['--layout=bf16']);
for (const script of ['check-arrows', 'check-packages', 'check-text']) {
  const path = join('scripts', `${script}.mjs`);
  if (existsSync(join(root, path))) await check(script, process.execPath, [path]);
}

const { version } = JSON.parse(readFileSync(join(root, 'packages/lockstep/package.json'), 'utf8'));
console.log(`Lockstep ${version}, Node ${process.versions.node}`);
if (total.passed + total.failed === 0) total.failed = 1;
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exitCode = total.failed > 0 ? 1 : 0;
