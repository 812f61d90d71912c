// What readers meet: every relative link in the documentation leads to a file, every test that it names is there, and no text names
// a path of the machine it was written on.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const files = spawnSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).stdout.split('\n').filter(Boolean);
const problems = [];
let links = 0;
for (const file of files.filter((name) => name.endsWith('.md'))) {
  const text = readFileSync(join(root, file), 'utf8').replace(/```[\s\S]*?```/g, '');
  for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target) || target.startsWith('#')) continue;
    links++;
    const path = resolve(root, dirname(file), target.replace(/#.*/, ''));
    if (!existsSync(path)) problems.push(`${file}: link to ${target}, which is not there`);
  }
  // The changelog names what there was.
  if (file === 'CHANGELOG.md') continue;
  for (const [name] of text.matchAll(/[\w/-]+\.test\.ts\b/g)) {
    if (!files.some((known) => `/${known}`.endsWith(`/${name}`))) problems.push(`${file}: no test ${name}`);
  }
}
const machinePath = new RegExp(['/', 'work/|/', 'home/|/', 'root/'].join(''));
for (const file of files.filter(
  (name) => /\.(md|ts|mjs|json|py|sh|yaml)$/.test(name) && name !== 'package-lock.json',
)) {
  const line = readFileSync(join(root, file), 'utf8')
    .split('\n')
    .findIndex((text) => machinePath.test(text));
  if (line >= 0) problems.push(`${file}:${line + 1} names a path of one machine`);
}
for (const problem of problems) console.log(problem);
console.log(`${links} links checked, ${problems.length} problems`);
process.exitCode = problems.length > 0 ? 1 : 0;
