/** How long libgomp's threads wait, as it says itself when it is loaded (OMP_DISPLAY_ENV); in a worker thread, and as the user wants it. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);
const LIBRARY = new URL('./library.js', import.meta.url).href;
const skip = process.platform === 'linux' ? false : 'libgomp is only asked on Linux';

/** What libgomp prints when `program` has loaded oneDNN; and the variable as a child process of it would have it. */
async function displayed(program: string, environment: NodeJS.ProcessEnv = {}) {
  const { GOMP_SPINCOUNT: _, OMP_WAIT_POLICY: __, ...inherited } = process.env;
  const env = { ...inherited, OMP_DISPLAY_ENV: 'VERBOSE', ...environment };
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', program], { env });
  return {
    spins: /GOMP_SPINCOUNT = '(\w+)'/.exec(stderr)?.[1],
    policy: /OMP_WAIT_POLICY = '(\w+)'/.exec(stderr)?.[1],
    stdout,
  };
}

const LOAD = `const { loadLibrary } = await import('${LIBRARY}'); loadLibrary();`;
const CHILD = `const { execFileSync } = await import('node:child_process');
process.stdout.write(execFileSync(process.execPath, ['-e', 'process.stdout.write(String(process.env.GOMP_SPINCOUNT))']));`;

test('waiting is bounded where nobody has said otherwise, and child processes decide anew', { skip }, async () => {
  const { spins, stdout } = await displayed(LOAD + CHILD);
  assert.equal(spins, '50000');
  assert.equal(stdout, 'undefined');
});

test('in a worker thread that loads it first, too', { skip }, async () => {
  const program = `const { Worker } = await import('node:worker_threads');
    new Worker(${JSON.stringify(`import('${LIBRARY}').then(({ loadLibrary }) => loadLibrary())`)}, { eval: true });`;
  assert.equal((await displayed(program)).spins, '50000');
});

test('whoever sets one of libgomp’s variables decides', { skip }, async () => {
  assert.equal((await displayed(LOAD, { GOMP_SPINCOUNT: '77' })).spins, '77');
  const active = await displayed(LOAD, { OMP_WAIT_POLICY: 'ACTIVE' });
  assert.equal(active.policy, 'ACTIVE');
  assert.notEqual(active.spins, '50000');
});

test('small matrix products and element-wise kernels start no second thread, large ones do', { skip }, async () => {
  const index = new URL('../index.js', import.meta.url).href;
  const program = `const { readdirSync } = await import('node:fs');
    const { configure } = await import('${index}');
    const tf = (await import('@tensorflow/tfjs-core')).default ?? (await import('@tensorflow/tfjs-core'));
    configure({ threads: 2 });
    await tf.ready();
    const threads = () => readdirSync('/proc/self/task').length;
    // What Node makes by itself is there, and so is what the first kernel makes that has no other threads.
    tf.ones([4, 64]).matMul(tf.ones([64, 64])).dataSync();
    await new Promise((done) => setTimeout(done, 200));
    const counts = [threads()];
    const value = tf.ones([128, 64]).matMul(tf.ones([64, 128])).relu().dataSync();
    counts.push(threads());
    const large = tf.ones([512, 512]).matMul(tf.ones([512, 512])).dataSync();
    counts.push(threads());
    process.stdout.write(JSON.stringify({ counts, values: [value[5], large[5]] }));`;
  const { counts, values } = JSON.parse((await displayed(program)).stdout);
  assert.deepEqual(values, [64, 512]);
  assert.equal(counts[1], counts[0]);
  assert.equal(counts[2], counts[0] + 1);
});
