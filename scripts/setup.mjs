// Everything that must be there before Lockstep runs: native libraries, npm packages, a build. Plain Node without
// dependencies, because it runs before anything is installed. It says what it does; what is done already is skipped.
//
//   node scripts/setup.mjs [--tests] [--backend=cpu]      --tests: also what tests need of the system; --backend=cpu: no oneDNN
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const forTests = process.argv.includes('--tests');
const STAMP = join(root, 'node_modules', '.lockstep-installed');

const say = (line) => process.stderr.write(`setup: ${line}\n`);

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options });
  if (error) throw error;
  return status === 0;
}

function fail(line) {
  process.stderr.write(`${line}\n`);
  process.exit(1);
}

/** Debian's and Ubuntu's package that brings a library, oldest release first, by the file that proves it is there. */
const LIBRARIES = [
  {
    files: /^libdnnl\.so\.[23](\.\d+)*$/,
    packages: ['libdnnl2', 'libdnnl3.6'],
    // Its name has the version in it: another one in each release.
    family: { prefix: 'libdnnl', name: /^libdnnl\d[\d.]*$/ },
    what: 'oneDNN',
  },
];
/**
 * What some suites need, by the commands and libraries that prove it is there. None of it is needed to train on one machine: where it
 * cannot be installed, those suites are skipped and say so.
 */
const FOR_TESTS = [
  {
    what: 'Open MPI',
    files: /^libmpi\.so\.40$/,
    commands: ['mpirun'],
    packages: ['openmpi-bin libopenmpi3', 'openmpi-bin libopenmpi40'],
  },
  {
    what: 'Slurm',
    files: /^libpmix\.so$/,
    commands: ['slurmctld', 'slurmd', 'srun', 'munged'],
    packages: ['slurm-wlm munge libpmix-dev'],
  },
  { what: 'strace', commands: ['strace'], packages: ['strace'] },
  { what: 'network namespaces', commands: ['ip', 'tc'], packages: ['iproute2'] },
  // Pages are tested in it, and its software renderer is the GPU where there is none (through Vulkan's loader).
  { what: 'Chromium', files: /^libvulkan\.so\.1$/, commands: ['chromium'], packages: ['chromium libvulkan1'] },
];
const FOLDERS = [
  ...(process.env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean),
  '/usr/lib/x86_64-linux-gnu',
  '/usr/lib/aarch64-linux-gnu',
  '/lib/x86_64-linux-gnu',
  '/usr/lib64',
  '/usr/lib',
  '/usr/local/lib',
];

/** Where a user without root unpacks oneDNN's package; packages/onednn/src/ffi/library.ts looks there too. */
const USER_FOLDER = join(process.env.HOME || homedir(), '.local', 'lib', 'lockstep');

function hasLibrary({ files, what }) {
  if (what === 'oneDNN' && process.env.LOCKSTEP_DNNL_LIBRARY) return true;
  const local = ['', 'usr/lib/x86_64-linux-gnu', 'usr/lib/aarch64-linux-gnu'].map((place) => join(USER_FOLDER, place));
  const folders = [...FOLDERS, ...(what === 'oneDNN' ? local : [])];
  return folders.some((folder) => existsSync(folder) && readdirSync(folder).some((name) => files.test(name)));
}

const COMMAND_FOLDERS = (process.env.PATH ?? '').split(':').filter(Boolean);

const isThere = (one) =>
  (one.files === undefined || hasLibrary(one)) &&
  (one.commands ?? []).every((command) => COMMAND_FOLDERS.some((folder) => existsSync(join(folder, command))));

/** What apt-cache prints, '' where there is none. */
const aptCache = (...args) => spawnSync('apt-cache', args, { encoding: 'utf8', timeout: 10_000 }).stdout ?? '';

/**
 * The packages' names on this system: what apt's lists have or, where there are no lists yet, what /etc/os-release says.
 * The rule for oneDNN is that of packages/onednn/src/ffi/system-package.ts.
 */
export function packagesHere({ packages, family }, osRelease = readOsRelease(), cache = aptCache) {
  if (family) {
    const listed = cache('pkgnames', family.prefix)
      .split('\n')
      .filter((name) => family.name.test(name));
    if (listed.length > 0) return listed.sort().at(-1);
  }
  const isListed = (name) => cache('pkgnames', name).split('\n').includes(name);
  const field = (name) => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(osRelease)?.[1] ?? '';
  const isOld = field('ID') === 'debian' ? Number.parseFloat(field('VERSION_ID')) <= 12 : field('ID') !== '';
  return packages.find((list) => list.split(' ').every(isListed)) ?? (isOld ? packages[0] : packages.at(-1));
}

function readOsRelease() {
  return existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
}

/** `--backend=cpu`, as it was typed after `npm start --`: the library is not needed then. */
const isForCpu = process.argv.some(
  (word, i) => /^--?backend=cpu$/.test(word) || (/^--?backend$/.test(word) && process.argv[i + 1] === 'cpu'),
);
const WITHOUT = "Without it: npm start -- --backend=cpu (TensorFlow.js' own kernels, very slow).";

function withoutRoot(names) {
  const list = [...names.split(' '), 'libgomp1'].join(' ');
  return (
    `Without root: mkdir -p ${USER_FOLDER} && cd ${USER_FOLDER} && apt-get download ${list} && ` +
    'for deb in *.deb; do dpkg -x "$deb" .; done'
  );
}

function installLibraries() {
  const missing = LIBRARIES.filter((one) => !isThere(one));
  if (missing.length === 0) return;
  const names = missing.map(({ what }) => what).join(' and ');
  if (isForCpu) return say(`${names} is not here, and --backend=cpu does not need it`);
  const packages = missing.map((one) => packagesHere(one)).join(' ');
  const hint = `apt-get install ${packages}`;
  const obstacle = whyNoApt();
  if (obstacle === 'system') {
    fail(
      `setup: ${names} is missing. Install it with this system's package manager (on Debian: ${hint}), then run this again.\n${WITHOUT}`,
    );
  }
  if (obstacle === 'root') {
    fail(
      `setup: ${names} is missing, and installing it needs root. Run: sudo ${hint}\n${withoutRoot(packages)}\n${WITHOUT}`,
    );
  }
  say(`installing ${names} (${hint})`);
  for (const one of missing) {
    if (!install(one)) fail(`setup: ${one.what} could not be installed. Run: ${hint}\n${WITHOUT}`);
  }
}

/** Installs what can be; says what cannot, and that suites will be skipped for it. */
function installForTests() {
  for (const one of FOR_TESTS.filter((each) => !isThere(each))) {
    const hint = `apt-get install ${packagesHere(one)}`;
    const without = `the tests that need it are skipped. To run them: ${hint}`;
    const obstacle = whyNoApt();
    if (obstacle !== null) {
      say(`${one.what} is not here${obstacle === 'root' ? ', and installing it needs root' : ''}; ${without}`);
      continue;
    }
    say(`installing ${one.what}, for its tests (${hint})`);
    if (!install(one)) say(`${one.what} could not be installed; ${without}`);
  }
}

/** Why nothing can be installed here: not a Debian 'system', no 'root'; null where it can. */
function whyNoApt() {
  if (process.platform !== 'linux' || !existsSync('/usr/bin/apt-get')) return 'system';
  return privileges() === null ? 'root' : null;
}

function install(one) {
  const prefix = privileges();
  const apt = (...args) =>
    run(prefix[0] ?? 'apt-get', [...prefix.slice(1), ...(prefix.length ? ['apt-get'] : []), ...args], {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
  const attempt = () =>
    [...new Set([packagesHere(one), ...one.packages])].some((list) =>
      apt('install', '-y', '-qq', '--no-install-recommends', ...list.split(' ')),
    ) && isThere(one);
  // A fresh machine has no package lists yet.
  return attempt() || (apt('update', '-qq') && attempt());
}

/** [] as root, ['sudo', '-n'] where that works without a password, null where neither. */
function privileges() {
  if (process.getuid?.() === 0) return [];
  return spawnSync('sudo', ['-n', 'true']).status === 0 ? ['sudo', '-n'] : null;
}

function installPackages() {
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8');
  const packages = readdirSync(join(root, 'packages')).map((name) =>
    readFileSync(join(root, 'packages', name, 'package.json'), 'utf8'),
  );
  const wanted = `${process.version}\n${lock}\n${packages.join('\n')}`;
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === wanted) return;
  say('installing npm packages (npm ci)');
  if (!run('npm', ['ci', '--no-audit', '--no-fund'])) fail('setup: npm ci failed; its messages are above.');
  writeFileSync(STAMP, wanted);
}

/** Files that a build is made of, pages' styles included. */
const SOURCE = /\.(ts|json|mjs|css|html)$/;

/** The newest change of a source or configuration file below a folder that is like this repository, milliseconds. */
export function newestSource(at = root) {
  let newest = 0;
  const look = (folder, entry) => {
    if (entry.isFile() && SOURCE.test(entry.name)) {
      newest = Math.max(newest, statSync(join(folder, entry.name)).mtimeMs);
    }
  };
  const visit = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (!entry.isDirectory()) look(folder, entry);
      else if (!['node_modules', 'dist', 'docs'].includes(entry.name)) visit(join(folder, entry.name));
    }
  };
  for (const folder of ['packages', 'examples']) visit(join(at, folder));
  // The compiler's settings, and the versions of what is bundled into pages.
  for (const entry of readdirSync(at, { withFileTypes: true })) look(at, entry);
  return newest;
}

function build() {
  const stamp = join(root, 'packages', 'lockstep', 'dist', '.built');
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= newestSource()) return;
  say('building (npm run build)');
  if (!run('npm', ['run', '--silent', 'build'])) fail('setup: the build failed; its messages are above.');
  writeFileSync(stamp, '');
}

/** All of it. Ends the process with what to do where something cannot be had. */
export function setUp() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 11))
    fail(`setup: Node ${process.versions.node} is too old; Lockstep needs 20.11 or newer.`);
  installLibraries();
  if (forTests) installForTests();
  installPackages();
  build();
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) setUp();
