/**
 * The hazards of native code called from JavaScript, each in a process of its own: exit with OpenMP threads alive, garbage
 * collection under a running kernel, recycled memory, threads per replica, older CPUs, a missing library, no memory.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const index = new URL('./index.js', import.meta.url).href;
const testing = new URL('./testing/backend.js', import.meta.url).href;
const folder = fileURLToPath(new URL('.', import.meta.url));

interface Outcome {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

function node(source: string, environment: Record<string, string> = {}, flags: string[] = []): Outcome {
  const head = `import '${index}'; import * as tf from '@tensorflow/tfjs-core'; import { sample, toTensor, run } from '${testing}';
    await tf.setBackend('onednn');`;
  return spawnSync(
    process.execPath,
    [...flags, '--input-type=module', '-e', environment.NO_HEAD ? source : head + source],
    {
      encoding: 'utf8',
      timeout: 60_000,
      cwd: folder,
      env: { ...process.env, ...environment },
    },
  );
}

const convolve = `
  const attrs = { strides: [1, 1], dilations: [1, 1], pad: 'same', dataFormat: 'NHWC' };
  const x = toTensor(sample([4, 16, 16, 32], 1)), filter = toTensor(sample([3, 3, 32, 32], 2));
  const [y] = run('Conv2D', { x, filter }, attrs);`;

test('a process that used several OpenMP threads exits cleanly, every time', () => {
  for (let i = 0; i < 6; i++) {
    const { status, signal, stderr } = node(`${convolve} y.dataSync(); ${i % 2 ? 'process.exit(0)' : ''}`, {
      OMP_NUM_THREADS: '4',
    });
    assert.deepEqual({ status, signal }, { status: 0, signal: null }, stderr);
  }
});

test('worker threads keep their own number of OpenMP threads, and the process exits cleanly after them', () => {
  const worker = `
    import { OneDnnBackend } from '${index}';
    import * as tf from '@tensorflow/tfjs-core';
    import { parentPort, workerData } from 'node:worker_threads';
    import setup from '${new URL('./device/device.js', import.meta.url).href}';
    import { sample, toTensor, run } from '${testing}';
    await setup({ threads: workerData, cores: [], device: 'cpu:' + workerData });
    ${convolve}
    y.dataSync();
    parentPort.postMessage(tf.backend().runtime.threads);`;
  const { status, signal, stdout, stderr } = node(
    `import { Worker } from 'node:worker_threads';
     tf.backend().runtime.threads = 2;
     const counts = await Promise.all([1, 3].map((workerData) => new Promise((resolve, reject) => {
       import('node:fs').then((fs) => {
         const file = ${JSON.stringify(folder)} + '/.hazard-' + process.pid + '-' + workerData + '.mjs';
         fs.writeFileSync(file, ${JSON.stringify(worker)});
         const w = new Worker(file, { workerData, execArgv: [] });
         w.once('message', resolve); w.once('error', reject); w.once('exit', () => fs.unlinkSync(file));
       });
     })));
     console.log(JSON.stringify([...counts, tf.backend().runtime.threads]));`,
  );
  assert.deepEqual({ status, signal }, { status: 0, signal: null }, stderr);
  assert.equal(stdout.trim(), '[1,3,2]');
});

test('garbage collection between and under kernels changes no value', () => {
  const { status, stdout, stderr } = node(
    `import assert from 'node:assert/strict';
     ${convolve}
     const expected = y.dataSync();
     for (let i = 0; i < 60; i++) {
       const again = tf.tidy(() => {
         const inputs = { x: toTensor(sample([4, 16, 16, 32], 1)), filter: toTensor(sample([3, 3, 32, 32], 2)) };
         globalThis.gc();
         const [result] = run('Conv2D', inputs, attrs);
         globalThis.gc();
         return result;
       });
       assert.deepEqual(again.dataSync(), expected);
       again.dispose();
     }
     console.log('same');`,
    {},
    ['--expose-gc'],
  );
  assert.equal(status, 0, stderr);
  assert.equal(stdout.trim(), 'same');
});

test('values that were read stay what they were when their memory is used again', () => {
  const { status, stderr } = node(
    `import assert from 'node:assert/strict';
     ${convolve}
     const read = y.dataSync();
     const copy = read.slice();
     const view = tf.slice(y, [0, 0, 0, 0], [1, 16, 16, 32]);
     const viewed = view.dataSync().slice();
     y.dispose();
     for (let i = 0; i < 5; i++) run('Conv2D', { x: tf.mul(x, i), filter }, attrs);
     assert.deepEqual(read, copy);
     assert.deepEqual(view.dataSync(), viewed);`,
  );
  assert.equal(status, 0, stderr);
});

test('a step allocates nothing new after warm-up', () => {
  const { status, stderr } = node(
    `import assert from 'node:assert/strict';
     ${convolve}
     y.dispose();
     const { pool } = tf.backend().runtime;
     const step = () => tf.tidy(() => { const [a] = run('Conv2D', { x, filter }, attrs); run('AddRelu', { a, b: a }); });
     step();
     const before = pool.statistics().allocations;
     for (let i = 0; i < 100; i++) step();
     assert.equal(pool.statistics().allocations, before);
     assert.equal(tf.memory().numTensors, 2);`,
  );
  assert.equal(status, 0, stderr);
});

test('a CPU without AVX-512, and one without AVX2, computes the same', () => {
  const [reference, ...others] = ['ALL', 'AVX2', 'SSE41'].map((isa) => {
    const { status, stdout, stderr } = node(
      `${convolve}
       const [bn, mean, variance] = run('FusedBatchNormV3', { x: y, scale: tf.ones([32]), offset: tf.zeros([32]) }, { epsilon: 1e-3, activation: 'relu' });
       const gradients = run('FusedBatchNormGradV3', { dy: y, x: y, scale: tf.ones([32]), y: bn, mean, variance }, { epsilon: 1e-3, activation: 'relu' });
       const [dw] = run('Conv2DBackpropFilter', { x, dy: gradients[0] }, { ...attrs, filterShape: filter.shape });
       console.log(JSON.stringify([y, bn, dw].map((t) => tf.sum(tf.abs(t)).dataSync()[0])));`,
      { ONEDNN_MAX_CPU_ISA: isa },
    );
    assert.equal(status, 0, `${isa}: ${stderr}`);
    return JSON.parse(stdout) as number[];
  });
  for (const other of others) {
    other.forEach((sum, i) => {
      assert.ok(Math.abs(sum - reference![i]!) < 1e-4 * Math.abs(reference![i]!), `${sum} and ${reference![i]}`);
    });
  }
});

const linuxOnly = process.platform === 'linux' ? false : 'threads are pinned on Linux only';

test('threads, cores and the cap of memory are options; every OpenMP thread keeps to the cores', {
  skip: linuxOnly,
}, () => {
  const { status, stdout, stderr } = node(
    `import { configure } from '${index}';
     import * as tf from '@tensorflow/tfjs-core';
     import fs from 'node:fs';
     import { sample, toTensor } from '${testing}';
     configure({ threads: 3, cores: [0], maxBytes: 2 ** 30 });
     const before = new Set(fs.readdirSync('/proc/self/task'));
     await tf.setBackend('onednn');
     tf.conv2d(toTensor(sample([8, 32, 32, 32], 1)), toTensor(sample([3, 3, 32, 32], 2)), 1, 'same').dataSync();
     const made = fs.readdirSync('/proc/self/task').filter((id) => !before.has(id));
     const allowed = [process.pid, ...made].map((id) =>
       fs.readFileSync('/proc/self/task/' + id + '/status', 'utf8').match(/Cpus_allowed_list:\\t(.*)/)[1]);
     console.log(JSON.stringify([tf.backend().runtime.threads, made.length >= 2, [...new Set(allowed)]]));`,
    { NO_HEAD: '1' },
  );
  assert.equal(status, 0, stderr);
  assert.equal(stdout.trim(), '[3,true,["0"]]');
  const refused = node(
    `import { configure } from '${index}'; import { OneDnnBackend } from '${index}'; new OneDnnBackend({ cores: [1000] });`,
    { NO_HEAD: '1' },
  );
  assert.match(refused.stderr, /refused to pin the thread to cores 1000/);
});

test('bf16 on a CPU without such instructions is an error that names the ways out; emulated it computes', () => {
  const use = (isa: string, precision: string) =>
    node(
      `tf.backend().precision = '${precision}';
       const filter = toTensor(sample([3, 3, 16, 16], 2)), x = toTensor(sample([1, 8, 8, 16], 1));
       const y = tf.conv2d(x, filter, 1, 'same');
       console.log(tf.backend().storage(y.dataId).layout.current.dataType, tf.sum(tf.abs(y)).dataSync()[0]);`,
      { ONEDNN_MAX_CPU_ISA: isa },
    );
  const refused = use('AVX512_CORE', 'bf16');
  assert.notEqual(refused.status, 0);
  assert.match(refused.stderr, /PrecisionError: This CPU has no bf16 instructions/);
  assert.match(refused.stderr, /help: use f32 .*--dtype=bf16_emulated/);
  assert.match(use('AVX2', 'bf16_emulated').stderr, /oneDNN emulates bf16 with AVX-512/);
  assert.match(use('ALL', 'f16').stderr, /does not compute in f16\.\nhelp: use bf16/);
  const emulated = use('AVX512_CORE', 'bf16_emulated');
  // A machine that has no AVX-512 cannot stand in for one that has it.
  if (/with AVX-512/.test(emulated.stderr)) return;
  assert.equal(emulated.status, 0, emulated.stderr);
  const [type, sum] = emulated.stdout.trim().split(' ');
  assert.equal(type, 'bf16');
  const [, exact] = node(
    `console.log('f32', tf.sum(tf.abs(tf.conv2d(toTensor(sample([1, 8, 8, 16], 1)), toTensor(sample([3, 3, 16, 16], 2)), 1, 'same'))).dataSync()[0])`,
  )
    .stdout.trim()
    .split(' ');
  assert.ok(Math.abs(Number(sum) / Number(exact) - 1) < 0.01, `${sum} and ${exact}`);
});

test('without the library the error says what was tried and what to install', () => {
  const { status, stderr } = node(
    `import setup from '${new URL('./device/device.js', import.meta.url).href}'; await setup({ threads: 1, cores: [], device: 'cpu:0' });`,
    {
      NO_HEAD: '1',
      LOCKSTEP_DNNL_LIBRARY: '/nowhere/libdnnl.so.2',
    },
  );
  assert.notEqual(status, 0);
  assert.match(stderr, /OneDnnNotFoundError: oneDNN was not found\. Tried: \/nowhere\/libdnnl\.so\.2/);
  assert.match(stderr, /apt-get install libdnnl2/);
});

test('out of memory is an error with the sizes, and the engine stays usable', () => {
  const { status, stderr } = node(
    `import assert from 'node:assert/strict';
     import { OneDnnBackend, OutOfMemoryError } from '${index}';
     tf.registerBackend('small', () => new OneDnnBackend({ maxBytes: 1e6 }));
     tf.copyRegisteredKernels('onednn', 'small');
     await tf.setBackend('small');
     const attrs = { strides: [1, 1], dilations: [1, 1], pad: 'same', dataFormat: 'NHWC' };
     const filter = toTensor(sample([1, 1, 32, 32], 2));
     const { pool } = tf.backend().runtime;
     const before = pool.statistics().bytesInUse;
     assert.throws(() => run('Conv2D', { x: toTensor(sample([8, 32, 32, 32], 1)), filter }, attrs),
       (error) => error instanceof OutOfMemoryError && /tensor of \\d+ bytes was refused by the limit of 1000000 bytes/.test(error.message));
     assert.equal(pool.statistics().bytesInUse, before, 'what was taken before the failure is given back');
     const [y] = run('Conv2D', { x: toTensor(sample([1, 8, 8, 32], 1)), filter }, attrs);
     assert.equal(y.dataSync().length, 2048);`,
  );
  assert.equal(status, 0, stderr);
});
