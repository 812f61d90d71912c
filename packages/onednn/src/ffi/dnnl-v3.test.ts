/**
 * The kernels' tests and the conformance suite on oneDNN 3.x, in a root of Debian 13 that `scripts/make-trixie.sh` makes: the
 * library needs a newer C library than Debian 12's, so Node runs inside the root too.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadLibrary } from './library.js';

const repository = fileURLToPath(new URL('../../../..', import.meta.url));
const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
const root = process.env.LOCKSTEP_TRIXIE ?? join(cache, 'lockstep', 'trixie');
const help = 'scripts/make-trixie.sh makes one';

/** Why the tests cannot run here; null if they can. */
function obstacle(): string | null {
  if (loadLibrary().version.major === 3)
    return 'the library of this machine is version 3, so every other test tests it';
  if (!existsSync(join(root, '.lockstep-ready'))) return `no root with oneDNN 3.x at ${root}; ${help}`;
  if (process.getuid?.() !== 0) return 'chroot needs root';
  const { status } = spawnSync('unshare', ['--mount', 'true']);
  return status === 0 ? null : 'no mount namespace may be made here (unshare --mount)';
}

const reason = obstacle();
const skip = reason ?? false;

/** Runs a command inside the root, with the repository at /mnt. The mount is gone with the process. */
function inside(command: readonly string[], limit: number) {
  const script = `mount --bind "$1" "$2/mnt" && mount -t proc proc "$2/proc" && root="$2" && shift 2 &&
    exec chroot "$root" sh -c 'cd /mnt && exec "$@"' sh "$@"`;
  const args = ['--mount', 'sh', '-c', script, 'sh', repository, root, ...command];
  // A library that this process was told to use does not load there.
  const { LOCKSTEP_DNNL_LIBRARY: _, NODE_TEST_CONTEXT: __, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8', timeout: limit, env });
  return { status, output: `${stdout}${stderr}` };
}

test('inside the root oneDNN is 3.x', { skip }, () => {
  const script = "import('./packages/onednn/dist/index.js').then((m) => console.log(m.loadLibrary().version.major))";
  const { status, output } = inside(['node', '-e', script], 60_000);
  assert.equal(status, 0, output);
  assert.equal(output.trim(), '3');
});

test("TensorFlow.js' core suite passes on oneDNN 3.x", { skip }, () => {
  const { output } = inside(['node', 'packages/onednn/conformance/run.mjs'], 240_000);
  assert.match(output, /^\d{4} specs, 0 failures, \d+ pending$/m, output.slice(-4000));
});

const LAYERS = ['convolution', 'convolution-nd', 'batch-norm', 'layer-norm', 'layers', 'fusion', 'bf16'];

const OTHERS = [
  'elementwise',
  'not-finite',
  'arrays',
  'indexing',
  '../winograd',
  '../tfjs/optimizers',
  '../tfjs/recurrent-layers',
];

for (const name of [...LAYERS, ...OTHERS]) {
  test(`the tests of kernels/${name} pass on oneDNN 3.x`, { skip }, () => {
    const { status, output } = inside(['node', '--test', `packages/onednn/dist/kernels/${name}.test.js`], 240_000);
    assert.equal(status, 0, output.slice(-4000));
    assert.match(output, /# pass [1-9]/);
  });
}
