// Publishes the five packages to npm, in the order of their dependencies, with provenance: whoever installs them can see which commit and
// which workflow they were built from. It refuses what would be wrong in a release before anything is published, builds anew, and goes on
// where it stopped if it is run again.
//
//   node scripts/release.mjs --dry_run [--tag=next]      everything but the build and the publishing
//   node scripts/release.mjs [--tag=next]                in a workflow of GitHub or GitLab, which vouches for the provenance
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fieldProblems, isPlaceholder, packageFolders, readManifest, repositoryUrl, root } from './package-fields.mjs';

const LIMIT_MS = 600_000;
const DEPENDENCIES = ['dependencies', 'peerDependencies', 'optionalDependencies'];

/** What is wrong with releasing this tree, one line each. */
function problemsOf(isDryRun) {
  const problems = [...fieldProblems()];
  const git = (...args) => spawnSync('git', args, { cwd: root, encoding: 'utf8', timeout: LIMIT_MS });
  const status = git('status', '--porcelain');
  if (status.status !== 0) problems.push(`${root} is no git repository: ${status.stderr.trim()}`);
  else if (status.stdout.trim() !== '')
    problems.push(`the working tree has changes:\n${status.stdout.trimEnd()}\nhelp: commit them, or put them away`);

  const manifests = packageFolders().map((name) => readManifest(join(root, 'packages', name)));
  const [{ version }] = manifests;
  for (const manifest of manifests) {
    if (manifest.version !== version)
      problems.push(
        `${manifest.name} is ${manifest.version}, ${manifests[0].name} is ${version}: all have one version`,
      );
    for (const kind of DEPENDENCIES) {
      for (const { name, version: theirs } of manifests) {
        const wanted = manifest[kind]?.[name];
        if (wanted !== undefined && wanted !== theirs)
          problems.push(`${manifest.name} needs ${name} ${wanted}, which is ${theirs}`);
      }
    }
  }
  const heading = new RegExp(`^## \\[?${version.replaceAll('.', '\\.')}\\b.*`, 'm').exec(
    readFileSync(join(root, 'CHANGELOG.md'), 'utf8'),
  )?.[0];
  if (heading === undefined) {
    problems.push(`CHANGELOG.md says nothing of ${version}. help: a heading "## ${version}" over what is new`);
  }
  const tagged = git('rev-list', '-n', '1', `v${version}`).stdout.trim();
  const head = git('rev-parse', 'HEAD').stdout.trim();
  if (tagged !== '' && tagged !== head)
    problems.push(`v${version} is the tag of another commit, ${tagged.slice(0, 10)}`);

  const url = repositoryUrl();
  /** What a dry run can do without. */
  const outside = [];
  if (/unreleased/i.test(heading ?? ''))
    outside.push(`CHANGELOG.md calls ${version} unreleased. help: its date instead`);
  if (isPlaceholder(url)) {
    outside.push(
      `${url} stands for an address that is not known yet. help: node scripts/package-fields.mjs --repository=URL`,
    );
  }
  if (!process.env.GITHUB_ACTIONS && !process.env.GITLAB_CI) {
    outside.push('provenance needs a workflow of GitHub (permission id-token: write) or GitLab. help: run it there');
  }
  if (!isDryRun) return [...problems, ...outside];
  for (const line of outside) say(`a release will be refused: ${line}`);
  return problems;
}

function say(line) {
  process.stderr.write(`release: ${line}\n`);
}

/** Runs a command with its output shown. */
function run(command, args, cwd = root) {
  const { status, error } = spawnSync(command, args, {
    cwd,
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: LIMIT_MS,
  });
  if (error) say(`${command}: ${error.message}`);
  return status === 0;
}

/** Whether npm has it: a release that was cut off goes on behind it. */
function isPublished({ name, version }) {
  const { stdout } = spawnSync('npm', ['view', `${name}@${version}`, 'version'], {
    encoding: 'utf8',
    timeout: LIMIT_MS,
  });
  return stdout?.trim() === version;
}

/** From nothing: what lies in dist may be of another commit. */
function buildAnew() {
  for (const folder of [...packageFolders().map((name) => join('packages', name)), 'examples']) {
    rmSync(join(root, folder, 'dist'), { recursive: true, force: true });
  }
  return run('npm', ['ci', '--no-audit', '--no-fund']) && run('npm', ['run', '--silent', 'build']);
}

function release({ isDryRun, tag }) {
  const problems = problemsOf(isDryRun);
  for (const problem of problems) say(problem);
  if (problems.length > 0) return 1;
  if (!isDryRun && !buildAnew()) return 1;
  if (!existsSync(join(root, 'packages/lockstep/dist/bin.js'))) {
    say('nothing is built. help: npm run build');
    return 1;
  }
  if (!run(process.execPath, ['scripts/check-packages.mjs'])) return 1;
  for (const folder of packageFolders()) {
    const manifest = readManifest(join(root, 'packages', folder));
    if (!isDryRun && isPublished(manifest)) {
      say(`${manifest.name} ${manifest.version} is published already`);
      continue;
    }
    say(`${isDryRun ? 'would publish' : 'publishing'} ${manifest.name} ${manifest.version} as ${tag}`);
    // The tag is named: without it npm asks which version is the latest.
    const args = ['publish', '--provenance', '--access', 'public', '--tag', tag, ...(isDryRun ? ['--dry-run'] : [])];
    if (!run('npm', args, join(root, 'packages', folder))) {
      say(`${manifest.name} was not published. help: npm's message is above; the same command goes on from here`);
      return 1;
    }
  }
  const { version } = readManifest(join(root, 'packages/lockstep'));
  say(
    isDryRun ? 'nothing was published' : `published. What is left: git tag v${version} && git push origin v${version}`,
  );
  return 0;
}

const words = process.argv.slice(2);
const tag = words.find((word) => word.startsWith('--tag='))?.slice('--tag='.length) ?? 'latest';
const unknown = words.find((word) => word !== '--dry_run' && !/^--tag=[a-z][\w.-]*$/.test(word));
if (unknown !== undefined) {
  say(`'${unknown}' means nothing here. help: node scripts/release.mjs [--dry_run] [--tag=next]`);
  process.exitCode = 2;
} else {
  process.exitCode = release({ isDryRun: words.includes('--dry_run'), tag });
}
