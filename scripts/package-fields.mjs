// What the five packages say in common, from one place: the root's package.json (licence, Node, repository, homepage, bugs), its
// LICENSE, and one range for TensorFlow.js. Links of the packages' READMEs lead to the same repository.
//
//   node scripts/package-fields.mjs                    says what differs; status 1 if anything does
//   node scripts/package-fields.mjs --write            makes it the same
//   node scripts/package-fields.mjs --repository=URL   first gives the project another address, then --write
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
/** The package whose peer range is everybody's. */
const RANGE_OF = 'onednn';
/** Names that nobody owns (RFC 2606): an address of that kind stands for one that is not known yet. */
const PLACEHOLDER = /^https:\/\/([\w.-]+\.)?(example(\.(com|net|org))?|invalid)\//;

/** Folders of the packages, in the order of their dependencies: what is published first needs none of the later ones. */
export function packageFolders(at = root) {
  const manifests = new Map(
    readdirSync(join(at, 'packages')).map((name) => [readManifest(join(at, 'packages', name)).name, name]),
  );
  const ordered = [];
  const visit = (packageName) => {
    const folder = manifests.get(packageName);
    if (folder === undefined || ordered.includes(folder)) return;
    for (const dependency of Object.keys(readManifest(join(at, 'packages', folder)).dependencies ?? {}))
      visit(dependency);
    ordered.push(folder);
  };
  for (const packageName of [...manifests.keys()].sort()) visit(packageName);
  return ordered;
}

export function readManifest(folder) {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
}

/** The project's address without `git+` and `.git`. */
export function repositoryUrl(at = root) {
  return readManifest(at)
    .repository.url.replace(/^git\+/, '')
    .replace(/\.git$/, '');
}

export function isPlaceholder(url) {
  return PLACEHOLDER.test(`${url}/`);
}

/** A package's manifest as the root's has it. */
function expectedManifest(folder, at) {
  const manifest = readManifest(join(at, 'packages', folder));
  const common = readManifest(at);
  const url = repositoryUrl(at);
  const range = readManifest(join(at, 'packages', RANGE_OF)).peerDependencies['@tensorflow/tfjs-core'];
  for (const kind of ['dependencies', 'peerDependencies']) {
    for (const name of Object.keys(manifest[kind] ?? {})) {
      if (name.startsWith('@tensorflow/')) manifest[kind][name] = range;
    }
  }
  return {
    ...manifest,
    license: common.license,
    engines: common.engines,
    repository: { ...common.repository, directory: `packages/${folder}` },
    homepage: `${url}/tree/main/packages/${folder}#readme`,
    bugs: common.bugs,
  };
}

/** Links to the project's own pages, wherever it was before, lead to where it is now. */
const withLinks = (text, url) => text.replace(/https:\/\/[^\s)]+?(?=\/blob\/main\/)/g, url);

/** Every file that should say the same, with what it says and what it should say. */
function* files(at) {
  const url = repositoryUrl(at);
  for (const folder of packageFolders(at)) {
    const path = (name) => join('packages', folder, name);
    const text = (name) => (existsSync(join(at, name)) ? readFileSync(join(at, name), 'utf8') : null);
    const json = (value) => `${JSON.stringify(value, null, 2)}\n`;
    const manifest = path('package.json');
    yield {
      path: manifest,
      is: json(readManifest(join(at, 'packages', folder))),
      should: json(expectedManifest(folder, at)),
    };
    yield { path: path('LICENSE'), is: text(path('LICENSE')), should: text('LICENSE') };
    const readme = text(path('README.md'));
    yield { path: path('README.md'), is: readme, should: readme === null ? '' : withLinks(readme, url) };
  }
}

/** @returns one line for each file that says something else than the root does, and each package without keywords. */
export function fieldProblems(at = root) {
  const problems = [];
  for (const { path, is, should } of files(at)) {
    if (is === null) problems.push(`${path} is not there`);
    else if (is !== should)
      problems.push(`${path} differs from the root's. help: node scripts/package-fields.mjs --write`);
  }
  for (const folder of packageFolders(at)) {
    const { name, keywords = [], description = '' } = readManifest(join(at, 'packages', folder));
    if (keywords.length === 0 || description === '') problems.push(`${name} has no keywords, or no description`);
  }
  return problems;
}

/** Makes every file say what the root says. @param repository the project's new address, if it has one */
export function writeFields(at = root, repository = undefined) {
  if (repository !== undefined) {
    const url = repository.replace(/^git\+/, '').replace(/\.git$/, '');
    const manifest = readManifest(at);
    Object.assign(manifest, {
      repository: { ...manifest.repository, url: `git+${url}.git` },
      homepage: `${url}#readme`,
      bugs: { url: `${url}/issues` },
    });
    writeFileSync(join(at, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  }
  for (const { path, is, should } of files(at)) {
    if (is !== should && should !== '') writeFileSync(join(at, path), should);
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const repository = process.argv.find((word) => word.startsWith('--repository='))?.slice('--repository='.length);
  if (repository !== undefined || process.argv.includes('--write')) writeFields(root, repository);
  const problems = fieldProblems();
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
