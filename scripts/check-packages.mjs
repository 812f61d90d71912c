// What would be published: every package's exports resolve to files with types, it says what the root says (licence, repository, links),
// and its archive holds what a user needs and nothing of the build or the tests. publint and "are the types wrong" look at the same archive.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fieldProblems, packageFolders, readManifest, root } from './package-fields.mjs';

/** Anything here that takes longer hangs. */
const LIMIT_MS = 120_000;
/** Tests and what only they use, stamps of the build, and maps: they would lead to sources that are not shipped. */
const UNWANTED = /\.test\.|testing|\.tsbuildinfo$|\.built$|\.stamp$|\.map$/;
/** What a package has beside its code. */
const NEEDED = {
  lockstep: [
    'bin/lockstep.js',
    'peers/stopwatch.py',
    'peers/pytorch_resnet.py',
    'peers/pytorch_models.py',
    'dist/web/classifier/page/index.html',
    'dist/web/classifier/page/page.css',
    'dist/web/classifier/page/page.js',
    'dist/board/page/index.html',
    'dist/board/page/page.js',
    'dist/board/page/page.css',
  ],
  distribute: ['dist/simd/kernels.wasm'],
};

const problems = fieldProblems();
const tars = mkdtempSync(join(tmpdir(), 'lockstep-check-'));

function call(command, args, cwd = root) {
  return spawnSync(command, args, { cwd, encoding: 'utf8', timeout: LIMIT_MS, maxBuffer: 1 << 26 });
}

function checkManifest(folder, manifest) {
  for (const script of ['preinstall', 'install', 'postinstall']) {
    if (manifest.scripts?.[script]) problems.push(`${manifest.name} has an ${script} script`);
  }
  for (const [entry, target] of Object.entries(manifest.exports)) {
    if (entry === './package.json') continue;
    if (Object.keys(target)[0] !== 'types') problems.push(`${manifest.name} "${entry}": "types" must come first`);
    if (entry.includes('*')) continue;
    for (const file of Object.values(target)) {
      if (!existsSync(join(folder, file)))
        problems.push(`${manifest.name} "${entry}" points to ${file}, which is not there`);
    }
  }
  for (const file of Object.values(manifest.bin ?? {})) {
    if (!existsSync(join(folder, file))) problems.push(`${manifest.name}: bin ${file} is not there`);
  }
}

/** What npm would change, or leave out, without asking when it publishes: a bin that begins with './', for one. */
function checkNormal(folder, manifest) {
  const copy = join(tars, manifest.name.replace('/', '-'));
  mkdirSync(copy);
  for (const name of ['package.json', ...Object.values(manifest.bin ?? {})]) {
    mkdirSync(dirname(join(copy, name)), { recursive: true });
    copyFileSync(join(folder, name), join(copy, name));
  }
  const { status, stderr } = call('npm', ['pkg', 'fix'], copy);
  const fixed = readManifest(copy);
  const changed = Object.keys({ ...manifest, ...fixed }).filter(
    (key) => JSON.stringify(manifest[key]) !== JSON.stringify(fixed[key]),
  );
  if (status !== 0) problems.push(`${manifest.name}: npm pkg fix failed: ${stderr}`);
  for (const key of changed) {
    problems.push(`${manifest.name}: npm would publish ${JSON.stringify(fixed[key])} as "${key}". help: npm pkg fix`);
  }
}

/** @returns the archive's path, or null where there is none. */
function checkArchive(name, folder, manifest) {
  const { stdout, status, stderr } = call('npm', ['pack', '--json', '--pack-destination', tars], folder);
  if (status !== 0) {
    problems.push(`${manifest.name}: npm pack failed: ${stderr}`);
    return null;
  }
  const report = JSON.parse(stdout);
  const { filename, files } = Array.isArray(report) ? report[0] : Object.values(report)[0];
  const paths = files.map(({ path }) => path);
  const unwanted = paths.filter((path) => UNWANTED.test(path));
  if (unwanted.length > 0) problems.push(`${manifest.name} would publish ${unwanted.slice(0, 5).join(', ')}`);
  const missing = ['README.md', 'LICENSE', ...(NEEDED[name] ?? [])].filter((path) => !paths.includes(path));
  if (missing.length > 0) problems.push(`${manifest.name} would be published without ${missing.join(', ')}`);
  if (!paths.some((path) => path.endsWith('.d.ts'))) problems.push(`${manifest.name} would publish no types`);
  const mapped = paths.filter(
    (path) => /\.(js|d\.ts)$/.test(path) && readFileSync(join(folder, path), 'utf8').includes('//# sourceMappingURL='),
  );
  if (mapped.length > 0)
    problems.push(`${manifest.name}: ${mapped[0]} names a source map, which is not shipped. help: npx tsc -b --force`);
  return join(tars, filename);
}

function lint(name, archive) {
  const publint = call('npx', ['publint', 'run', archive, '--strict']);
  if (publint.status !== 0) problems.push(`${name}: publint: ${publint.stdout}${publint.stderr}`);
  // ES modules only: what a require() of CommonJS and the resolution of Node 10 would find is not asked.
  const types = call('npx', ['attw', archive, '--profile', 'esm-only', '--no-definitely-typed', '--format', 'ascii']);
  if (types.status !== 0) problems.push(`${name}: are the types wrong: ${types.stdout}${types.stderr}`);
}

try {
  for (const name of packageFolders()) {
    const folder = join(root, 'packages', name);
    const manifest = readManifest(folder);
    checkManifest(folder, manifest);
    checkNormal(folder, manifest);
    const archive = checkArchive(name, folder, manifest);
    if (archive !== null) lint(manifest.name, archive);
  }
} finally {
  rmSync(tars, { recursive: true, force: true });
}
for (const problem of problems) console.log(problem);
console.log(problems.length === 0 ? 'packages are whole' : `${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
