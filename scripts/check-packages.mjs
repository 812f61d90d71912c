// What would be published: every package's exports resolve to files with types, and its archive holds no tests, no test
// support and no source maps of the build's bookkeeping.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const problems = [];
for (const name of readdirSync(join(root, 'packages'))) {
  const folder = join(root, 'packages', name);
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  for (const script of ['preinstall', 'install', 'postinstall']) {
    if (manifest.scripts?.[script]) problems.push(`${manifest.name} has an ${script} script`);
  }
  for (const [entry, target] of Object.entries(manifest.exports)) {
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
  const { stdout, status, stderr } = spawnSync('npm', ['pack', '--dry-run', '--json'], {
    cwd: folder,
    encoding: 'utf8',
  });
  if (status !== 0) {
    problems.push(`${manifest.name}: npm pack failed: ${stderr}`);
    continue;
  }
  const report = JSON.parse(stdout);
  const files = (Array.isArray(report) ? report[0] : Object.values(report)[0]).files.map(({ path }) => path);
  const unwanted = files.filter((path) => /\.test\.|testing|\.tsbuildinfo$|\.built$/.test(path));
  if (unwanted.length > 0) problems.push(`${manifest.name} would publish ${unwanted.slice(0, 5).join(', ')}`);
  if (!files.some((path) => path.endsWith('.d.ts'))) problems.push(`${manifest.name} would publish no types`);
}
for (const problem of problems) console.log(problem);
console.log(problems.length === 0 ? 'packages are whole' : `${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
