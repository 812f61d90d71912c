// What set-up says where the library is missing: the package of this system, a folder without root, and --backend=cpu, which needs none.
// On a machine of another release, in a root of Debian 13 (scripts/make-trixie.sh) seen through an overlay in which oneDNN is gone.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { libraryPackage } from '../packages/onednn/dist/ffi/system-package.js';
import { root } from './package-fields.mjs';
import { newestSource, packagesHere } from './setup.mjs';

const LIMIT_MS = 120_000;
const ONEDNN = {
  packages: ['libdnnl2', 'libdnnl3.6'],
  family: { prefix: 'libdnnl', name: /^libdnnl\d[\d.]*$/ },
};
const MPI = { packages: ['openmpi-bin libopenmpi3', 'openmpi-bin libopenmpi40'] };
const osRelease = (id, version) => `NAME="x"\nID=${id}\nVERSION_ID="${version}"\n`;
const noLists = () => '';

describe('packages on this system', () => {
  it('are those of the release where apt has no lists, by the same rule as in the backend', () => {
    for (const [id, version, expected] of [
      ['debian', '12', 'libdnnl2'],
      ['debian', '13', 'libdnnl3.6'],
      ['ubuntu', '22.04', 'libdnnl2'],
    ]) {
      assert.equal(packagesHere(ONEDNN, osRelease(id, version), noLists), expected);
      assert.equal(libraryPackage({ osRelease: osRelease(id, version), aptNames: '' }), expected);
    }
    assert.equal(packagesHere(MPI, osRelease('debian', '12'), noLists), MPI.packages[0]);
    assert.equal(packagesHere(MPI, osRelease('debian', '13'), noLists), MPI.packages[1]);
  });

  it('are what the lists have', () => {
    const lists = (names) => (_, prefix) => names.filter((name) => name.startsWith(prefix)).join('\n');
    const newer = ['libdnnl-dev', 'libdnnl3.9', 'openmpi-bin', 'openmpi-bin-extra', 'libopenmpi40'];
    assert.equal(packagesHere(ONEDNN, osRelease('debian', '12'), lists(newer)), 'libdnnl3.9');
    assert.equal(libraryPackage({ osRelease: osRelease('debian', '12'), aptNames: newer.join('\n') }), 'libdnnl3.9');
    assert.equal(packagesHere(MPI, osRelease('debian', '12'), lists(newer)), MPI.packages[1]);
  });
});

const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
const trixie = process.env.LOCKSTEP_TRIXIE ?? join(cache, 'lockstep', 'trixie');
const folder = mkdtempSync(join(tmpdir(), 'lockstep-setup-'));
after(() => rmSync(folder, { recursive: true, force: true }));

describe('a build is made again', () => {
  const at = join(folder, 'clone');
  const write = (name, seconds) => {
    mkdirSync(dirname(join(at, name)), { recursive: true });
    writeFileSync(join(at, name), '');
    utimesSync(join(at, name), seconds, seconds);
  };
  it('after any change of what goes into it: programs, pages and their styles, settings, versions; and after no other', () => {
    for (const name of ['packages/a/src/a.ts', 'examples/e.ts', 'package.json']) write(name, 1000);
    assert.equal(newestSource(at), 1000 * 1000);
    const others = [
      'packages/a/dist/a.json',
      'packages/a/node_modules/b/b.json',
      'packages/a/README.md',
      'CHANGELOG.md',
    ];
    for (const name of others) write(name, 9000);
    assert.equal(newestSource(at), 1000 * 1000);
    const parts = [
      ...[
        'packages/a/src/a.ts',
        'packages/a/scripts/build.mjs',
        'packages/a/page/page.css',
        'packages/a/page/index.html',
      ],
      ...['package-lock.json', 'tsconfig.base.json'],
    ];
    for (const [i, name] of parts.entries()) {
      write(name, 2000 + i);
      assert.equal(newestSource(at), (2000 + i) * 1000, name);
    }
  });
});

const USER_FOLDER = '/tmp/user/.local/lib/lockstep';

/**
 * Debian 13 without oneDNN and OpenMP, the repository at /mnt, as a user who is not root. Everything is gone with the process.
 * @param local whether both are in the user's folder, as `dpkg -x` unpacks them
 */
function inside(command, local = false) {
  const script = `mount -t tmpfs tmpfs "$1" && mkdir "$1/up" "$1/work" "$1/top" &&
    mount -t overlay overlay -o lowerdir="$2",upperdir="$1/up",workdir="$1/work" "$1/top" &&
    mkdir -p "$1/top/tmp/user" && for folder in "$1"/top/usr/lib/*-linux-gnu; do
      place="$1/top$4/usr/lib/$(basename "$folder")" && mkdir -p "$place" && mv "$folder"/libdnnl* "$folder"/libgomp* "$place"
    done && chmod -R a+rwX "$1/top/tmp/user" &&
    mount --bind "$3" "$1/top/mnt" && mount -o remount,bind,ro "$1/top/mnt" && mount -t proc proc "$1/top/proc" && root="$1/top" && shift 4 &&
    exec chroot --userspec=65534:65534 "$root" env HOME=/tmp/user sh -c 'cd /tmp/user && exec "$@"' sh "$@"`;
  const { LOCKSTEP_DNNL_LIBRARY: _, LD_LIBRARY_PATH: __, NODE_TEST_CONTEXT: ___, ...env } = process.env;
  const args = [
    '--mount',
    'sh',
    '-c',
    script,
    'sh',
    folder,
    trixie,
    root,
    local ? USER_FOLDER : '/tmp/elsewhere',
    ...command,
  ];
  const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8', timeout: LIMIT_MS, env });
  return { status, output: `${stdout}${stderr}` };
}

/** Why it cannot be tried here, or false. */
function obstacle() {
  if (!existsSync(join(trixie, '.lockstep-ready')))
    return `no root of Debian 13 at ${trixie}; scripts/make-trixie.sh makes one`;
  const { status, output } = inside(['true']);
  return status === 0 ? false : `no overlay of it can be mounted here: ${output.trim().split('\n')[0]}`;
}

describe('Debian 13 without root and without the library', { skip: obstacle() }, () => {
  it('npm start names its package, a folder, and the way without', () => {
    const { status, output } = inside(['node', '/mnt/scripts/lockstep.mjs', 'start']);
    assert.equal(status, 1, output);
    assert.match(
      output,
      /^setup: oneDNN is missing, and installing it needs root\. Run: sudo apt-get install libdnnl3\.6$/m,
    );
    assert.match(
      output,
      /^Without root: .*\/tmp\/user\/\.local\/lib\/lockstep && apt-get download libdnnl3\.6 libgomp1 && .*dpkg -x/m,
    );
    assert.match(output, /^Without it: npm start -- --backend=cpu/m);
  });

  it('npm start -- --backend=cpu trains', () => {
    for (const flag of [['--backend=cpu'], ['--backend', 'cpu']]) {
      assert.match(inside(['node', '/mnt/scripts/setup.mjs', ...flag]).output, /--backend=cpu does not need it/);
    }
    // Set-up's last two steps are done, and would need npm; this is what comes after them.
    const size = ['--max_train_steps=1', '--batch_size=2', '--num_cpus=1', '--distribution_strategy=off'];
    const command = ['node', '/mnt/packages/lockstep/dist/bin.js', 'start', '--backend=cpu', '--use_synthetic_data'];
    const { status, output } = inside([...command, ...size]);
    assert.equal(status, 0, output);
    assert.match(output, /^Evaluation at step 1: /m);
  });

  it('a folder of the user has the library, and OpenMP beside it', () => {
    const devices = ['node', '/mnt/packages/lockstep/dist/bin.js', 'devices'];
    const { status, output } = inside(devices, true);
    assert.equal(status, 0, output);
    assert.match(output, /^cpu:0 .*onednn/m);
    const size = ['--max_train_steps=2', '--use_synthetic_data', '--batch_size=8', '--resnet_size=8'];
    const run = inside(['node', '/mnt/packages/lockstep/dist/bin.js', 'cifar10', ...size], true);
    assert.equal(run.status, 0, run.output);
    assert.match(run.output, /^Evaluation at step 2: /m);
    // Set-up finds it too: what it asks for next is npm, which this root has not.
    assert.doesNotMatch(inside(['node', '/mnt/scripts/setup.mjs'], true).output, /oneDNN/);
    const named = ['env', 'HOME=/', `LOCKSTEP_DNNL_LIBRARY=${USER_FOLDER}`, ...devices];
    assert.equal(inside(named, true).status, 0);
    // And without either it ends with the remedy: the folder was what made the difference.
    const without = inside(devices);
    assert.equal(without.status, 1);
    assert.match(without.output, /^oneDNN was not found\. .*\nhelp: run `apt-get install libdnnl3\.6` as root/m);
  });
});
