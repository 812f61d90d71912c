// What packages have in common is kept in one place, and what differs from it is found.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  fieldProblems,
  isPlaceholder,
  packageFolders,
  readManifest,
  repositoryUrl,
  root,
  writeFields,
} from './package-fields.mjs';

const folder = mkdtempSync(join(tmpdir(), 'lockstep-fields-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function copyOfProject() {
  const copy = mkdtempSync(join(folder, 'project-'));
  for (const file of ['package.json', 'LICENSE']) cpSync(join(root, file), join(copy, file));
  for (const name of packageFolders()) {
    mkdirSync(join(copy, 'packages', name), { recursive: true });
    for (const file of ['package.json', 'LICENSE', 'README.md']) {
      cpSync(join(root, 'packages', name, file), join(copy, 'packages', name, file));
    }
  }
  return copy;
}

test('this project says the same everywhere, and packages come after what they need', () => {
  assert.deepEqual(fieldProblems(), []);
  const order = packageFolders();
  assert.equal(order.length, 5);
  assert.equal(order.at(-1), 'lockstep');
  assert.ok(order.indexOf('distribute') < order.indexOf('official'));
});

test('another licence, another range, an old link and a missing README are found; --write mends what can be', () => {
  const copy = copyOfProject();
  const path = (name) => join(copy, 'packages', name);
  writeFileSync(join(path('onednn'), 'LICENSE'), 'other');
  const manifest = readManifest(path('distribute'));
  manifest.peerDependencies['@tensorflow/tfjs-core'] = '4.1.0';
  writeFileSync(join(path('distribute'), 'package.json'), JSON.stringify(manifest));
  const readme = join(path('official'), 'README.md');
  writeFileSync(readme, 'See [flags](https://elsewhere.example/x/blob/main/docs/flags.md).');
  rmSync(join(path('lockstep'), 'README.md'));
  const found = fieldProblems(copy).join('\n');
  for (const file of ['onednn/LICENSE', 'distribute/package.json', 'official/README.md']) {
    assert.match(found, new RegExp(`packages/${file} differs`));
  }
  assert.match(found, /lockstep\/README.md is not there/);
  writeFields(copy);
  assert.deepEqual(fieldProblems(copy), ['packages/lockstep/README.md is not there']);
  assert.match(readFileSync(readme, 'utf8'), /\(https:\/\/example\.org\/lockstep\/blob\/main\/docs\/flags\.md\)/);
});

test('the project moves with one command', () => {
  const copy = copyOfProject();
  assert.equal(isPlaceholder(repositoryUrl(copy)), true);
  writeFields(copy, 'https://code.somewhere.net/team/lockstep.git');
  assert.equal(repositoryUrl(copy), 'https://code.somewhere.net/team/lockstep');
  assert.equal(isPlaceholder(repositoryUrl(copy)), false);
  assert.deepEqual(fieldProblems(copy), []);
  const { homepage, bugs } = readManifest(join(copy, 'packages', 'onednn'));
  assert.match(homepage, /^https:\/\/code\.somewhere\.net\/team\/lockstep\/tree\/main\/packages\/onednn/);
  assert.equal(bugs.url, 'https://code.somewhere.net/team/lockstep/issues');
  assert.doesNotMatch(readFileSync(join(copy, 'packages', 'onednn', 'README.md'), 'utf8'), /example\.org/);
});
