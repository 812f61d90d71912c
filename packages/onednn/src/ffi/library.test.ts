/**
 * Where oneDNN is found and what is said where it is not: a folder without root, the name of the package on each system, and a program
 * that neither goes on with `cpu` unasked nor buries the remedy in a stack.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { librarySearchOrder, loadLibrary, userFolder } from './library.js';
import { installCommand, libraryPackage } from './system-package.js';

const index = new URL('../index.js', import.meta.url).href;
const folder = mkdtempSync(join(tmpdir(), 'lockstep-library-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function program(source: string, environment: Record<string, string>) {
  const code = `import * as tf from '@tensorflow/tfjs-core'; import '${index}'; ${source}`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    encoding: 'utf8',
    timeout: 60_000,
    cwd: new URL('.', import.meta.url).pathname,
    env: { ...process.env, ...environment },
  });
}

/** A folder as `dpkg -x` leaves it, whose library is this machine's. */
function unpacked(name: string): { root: string; file: string } {
  const root = join(folder, name);
  const libraries = join(root, 'usr', 'lib', 'x86_64-linux-gnu');
  mkdirSync(libraries, { recursive: true });
  // The file behind the name that the loader knows.
  loadLibrary();
  const maps = readFileSync('/proc/self/maps', 'utf8');
  const loaded = /\S*\/libdnnl\.so\.[\d.]+/.exec(maps)?.[0] as string;
  const file = join(libraries, `libdnnl.so.${loadLibrary().version.major}`);
  symlinkSync(loaded, file);
  return { root, file };
}

const linuxOnly = process.platform === 'linux' ? false : 'the folders are those of Linux';

describe('a folder for the library, without root', { skip: linuxOnly }, () => {
  it('is named by LOCKSTEP_DNNL_LIBRARY, as a package was unpacked there', () => {
    const { root, file } = unpacked('named');
    assert.deepEqual(librarySearchOrder({ LOCKSTEP_DNNL_LIBRARY: root }), [file]);
    assert.equal(loadLibrary({ LOCKSTEP_DNNL_LIBRARY: root }).path, file);
    const { status, stdout, stderr } = program(
      'await tf.ready(); console.log(tf.getBackend(), tf.tensor([2]).mul(3).dataSync()[0]);',
      { LOCKSTEP_DNNL_LIBRARY: root },
    );
    assert.equal(status, 0, stderr);
    assert.equal(stdout.trim(), 'onednn 6');
  });

  it('or is ~/.local/lib/lockstep, which is looked at last', () => {
    const { root, file } = unpacked('home/.local/lib/lockstep');
    const environment = { HOME: join(folder, 'home') };
    assert.equal(userFolder(environment), root);
    assert.equal(librarySearchOrder(environment).at(-1), file);
  });

  it('is said to be empty where it is', () => {
    const empty = join(folder, 'empty');
    mkdirSync(empty);
    assert.throws(() => loadLibrary({ LOCKSTEP_DNNL_LIBRARY: empty }), {
      name: 'OneDnnNotFoundError',
      message: new RegExp(`Tried: ${empty} \\(a folder without libdnnl.so.2 or libdnnl.so.3\\)\\.\nhelp: `),
    });
  });
});

// What these systems have: packages.debian.org and packages.ubuntu.com, and the first lines of their /etc/os-release.
const SYSTEMS = {
  'Debian 12': ['PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n', 'libdnnl2'],
  'Debian 13': ['PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n', 'libdnnl3.6'],
  'Ubuntu 22.04': ['NAME="Ubuntu"\nVERSION_ID="22.04"\nID=ubuntu\nID_LIKE=debian\n', 'libdnnl2'],
} as const;

describe('the package that brings the library', () => {
  for (const [name, [osRelease, expected]] of Object.entries(SYSTEMS)) {
    it(`is ${expected} on ${name}, where apt has no lists yet`, () => {
      assert.equal(libraryPackage({ osRelease, aptNames: '' }), expected);
      assert.equal(installCommand({ osRelease, aptNames: '' }), `run \`apt-get install ${expected}\` as root`);
    });
  }

  it('is what the lists of apt have, wherever that is', () => {
    const [osRelease] = SYSTEMS['Debian 13'];
    assert.equal(libraryPackage({ osRelease, aptNames: 'libdnnl-dev\nlibdnnl3.9\n' }), 'libdnnl3.9');
  });

  it('is not guessed', () => {
    const fedora = { osRelease: 'NAME="Fedora Linux"\nVERSION_ID=42\nID=fedora\n', aptNames: '' };
    assert.equal(libraryPackage(fedora), null);
    assert.match(installCommand(fedora), /this system's package manager/);
    const later = { osRelease: 'VERSION_ID="26.04"\nID=ubuntu\nID_LIKE=debian\n', aptNames: '' };
    assert.match(installCommand(later), /`apt-cache pkgnames libdnnl` names after `apt-get update`/);
  });
});

describe('a program without the library', () => {
  const environment = { LOCKSTEP_DNNL_LIBRARY: join(folder, 'nowhere', 'libdnnl.so.2') };
  const print = 'console.log(tf.tensor([1]).add(1).dataSync()[0], tf.getBackend());';

  for (const [name, source] of Object.entries({
    'tf.ready()': 'await tf.ready();',
    "tf.setBackend('onednn')": "await tf.setBackend('onednn');",
    'the first operation': '',
    'the first operation after a failure that was caught': "await tf.setBackend('onednn').catch(() => {});",
  })) {
    it(`fails in ${name}, with one line and the remedy`, () => {
      const { status, stdout, stderr } = program(source + print, environment);
      assert.equal(status, 1, stdout);
      assert.equal(stdout, '');
      assert.match(
        stderr,
        /^\[?OneDnnNotFoundError: oneDNN was not found\. Tried: .*nowhere.*\nhelp: .*tf\.setBackend\('cpu'\)/m,
      );
      assert.doesNotMatch(stderr, /^ {4}at /m);
      assert.doesNotMatch(stderr, /Initialization of backend/);
    });
  }

  it('goes on with cpu when it is asked to', () => {
    const { status, stdout, stderr } = program(`await tf.setBackend('cpu'); ${print}`, environment);
    assert.equal(status, 0, stderr);
    assert.equal(stdout.trim(), '2 cpu');
  });

  it('shows where with LOCKSTEP_STACK=1', () => {
    const { stderr } = program(print, { ...environment, LOCKSTEP_STACK: '1' });
    assert.match(stderr, /^ {4}at /m);
  });
});

it('a setting of the backend that cannot be is an error too, not a step to cpu', () => {
  const { status, stderr } = program(
    `import { configure } from '${index}'; configure({ threads: -1 }); await tf.ready();`,
    {},
  );
  assert.equal(status, 1);
  assert.match(stderr, /RangeError: threads must be a positive integer, got -1/);
});
