// What would be wrong in a release is refused before anything is published, and a dry run does everything else. The project is copied to a
// repository of its own; its registry is a port where nobody listens.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { packageFolders, readManifest, root, writeFields } from './package-fields.mjs';

const LIMIT_MS = 240_000;
const copy = mkdtempSync(join(tmpdir(), 'lockstep-release-'));
after(() => rmSync(copy, { recursive: true, force: true }));

function call(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: copy,
    encoding: 'utf8',
    timeout: LIMIT_MS,
    env: {
      ...process.env,
      GITHUB_ACTIONS: '',
      GITLAB_CI: '',
      npm_config_registry: 'http://127.0.0.1:9',
      npm_config_fetch_retries: '0',
    },
  });
  return { status, output: `${stdout}${stderr}` };
}

const release = (...args) => call(process.execPath, ['scripts/release.mjs', ...args]);

function commit() {
  const name = ['-c', 'user.name=a', '-c', 'user.email=a@example.org'];
  for (const args of [
    ['add', '-A'],
    [...name, 'commit', '-qm', 'all'],
  ]) {
    const { status, output } = call('git', args);
    assert.equal(status, 0, output);
  }
}

describe('a release', () => {
  const lockstep = join(copy, 'packages/lockstep');
  let version = '';

  before(() => {
    for (const name of ['package.json', 'LICENSE', 'CHANGELOG.md', '.gitignore', 'packages', 'scripts']) {
      cpSync(join(root, name), join(copy, name), { recursive: true });
    }
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    // "node_modules/" in .gitignore is a folder, and this is a link.
    writeFileSync(join(copy, '.git-exclude'), 'node_modules\n.git-exclude\n');
    writeFields(copy, 'https://example.org/lockstep');
    version = readManifest(lockstep).version;
    writeFileSync(join(copy, 'CHANGELOG.md'), `# Changelog\n\n## ${version} (unreleased)\n`);
    assert.equal(call('git', ['init', '-q']).status, 0);
    assert.equal(call('git', ['config', 'core.excludesFile', join(copy, '.git-exclude')]).status, 0);
    commit();
  });

  it('is tried with --dry_run: everything is checked and packed, in order, and nothing published', () => {
    const { status, output } = release('--dry_run', '--tag=next');
    assert.equal(status, 0, output);
    const order = [...output.matchAll(/^release: would publish (\S+) (\S+) as next$/gm)].map(([, name, said]) => {
      assert.equal(said, version);
      return name;
    });
    assert.deepEqual(
      order,
      packageFolders().map((folder) => readManifest(join(root, 'packages', folder)).name),
    );
    for (const name of order) assert.match(output, new RegExp(`^\\+ ${name}@${version}$`, 'm'));
    assert.match(output, /^packages are whole$/m);
    assert.match(output, /a release will be refused: https:\/\/example\.org\/lockstep stands for an address/);
    assert.match(output, /^release: nothing was published$/m);
  });

  it('is refused where its address is not known, or nobody can vouch for it; nothing is packed', () => {
    const { status, output } = release();
    assert.equal(status, 1, output);
    assert.match(output, /stands for an address that is not known yet\. help: .*--repository=URL/);
    assert.match(output, /provenance needs a workflow/);
    assert.match(output, /CHANGELOG\.md calls .* unreleased/);
    assert.doesNotMatch(output, /publishing|packages are whole/);
  });

  it('is refused with changes in the tree', () => {
    writeFileSync(join(copy, 'new.txt'), 'x');
    const { status, output } = release('--dry_run');
    rmSync(join(copy, 'new.txt'));
    assert.equal(status, 1, output);
    assert.match(output, /the working tree has changes:\n\?\? new\.txt\nhelp: /);
    assert.doesNotMatch(output, /would publish/);
  });

  it('is refused where versions, their dependencies, the changelog or the tag differ', () => {
    const path = join(copy, 'packages/official/package.json');
    const manifest = readManifest(join(copy, 'packages/official'));
    writeFileSync(path, `${JSON.stringify({ ...manifest, version: '9.9.9' }, null, 2)}\n`);
    commit();
    const { status, output } = release('--dry_run');
    assert.equal(status, 1, output);
    assert.match(output, /@lockstep\/official is 9\.9\.9, .* is .*: all have one version/);
    assert.match(output, new RegExp(`lockstep needs @lockstep/official ${version}, which is 9\\.9\\.9`));
    assert.doesNotMatch(output, /would publish/);

    writeFileSync(path, `${JSON.stringify(manifest, null, 2)}\n`);
    writeFileSync(join(copy, 'CHANGELOG.md'), '# Changelog\n\n## Unreleased\n');
    assert.equal(call('git', ['tag', `v${version}`]).status, 0);
    commit();
    const again = release('--dry_run');
    assert.equal(again.status, 1, again.output);
    assert.match(again.output, /CHANGELOG\.md says nothing of /);
    assert.match(again.output, new RegExp(`v${version} is the tag of another commit`));
  });

  it('says so when it is called with words that mean nothing', () => {
    const { status, output } = release('--dry-run');
    assert.equal(status, 2, output);
    assert.match(output, /'--dry-run' means nothing here\. help: /);
  });
});
