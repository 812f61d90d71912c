// Writes the API reference, HTML made of the docstrings of all that the packages export, to docs/api (which git ignores).
//
//   node scripts/api-reference.mjs [--out=FOLDER]
//   node scripts/api-reference.mjs --check      writes it nowhere; a warning is an error: an export whose type is not exported, a link that leads nowhere
//
// The tool has a TypeScript of its own beside it (scripts/api): it reads programs through the compiler's JavaScript interface, which the one
// that builds the packages does not have.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { isPlaceholder, packageFolders, repositoryUrl, root } from './package-fields.mjs';
import { run } from './run-test-file.mjs';

const LIMIT_MS = 300_000;
const tool = join(root, 'scripts', 'api');
const check = process.argv.includes('--check');
const out = process.argv.find((word) => word.startsWith('--out='))?.slice('--out='.length) ?? join('docs', 'api');

/** Names that public types mention and that are not to be used; each package lists its own. */
function internalNames() {
  return packageFolders().flatMap((name) => {
    const file = join(root, 'packages', name, 'typedoc.json');
    return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')).intentionallyNotExported ?? []) : [];
  });
}

const temporary = check ? mkdtempSync(join(tmpdir(), 'lockstep-api-')) : null;
try {
  const url = repositoryUrl();
  const sources = isPlaceholder(url)
    ? ['--disableSources']
    : ['--sourceLinkTemplate', `${url}/blob/main/{path}#L{line}`];
  const { status, output } = await run(
    process.execPath,
    [
      join(tool, 'node_modules', 'typedoc', 'bin', 'typedoc'),
      ...['--options', join(tool, 'typedoc.json'), '--out', temporary ?? resolve(root, out)],
      ...[...sources, ...(check ? ['--treatWarningsAsErrors'] : [])],
    ],
    { limit: LIMIT_MS, cwd: root, env: { NO_COLOR: '1' } },
  );
  console.log(output.trimEnd());
  const pages = packageFolders().length;
  if (status === 0) {
    console.log(
      `${pages} packages ${check ? 'have an API reference without a warning' : `are described in ${out}/index.html`}; ` +
        `${internalNames().length} internal names are left out on purpose`,
    );
  }
  process.exitCode = status === 0 ? 0 : 1;
} finally {
  if (temporary !== null) rmSync(temporary, { recursive: true, force: true });
}
