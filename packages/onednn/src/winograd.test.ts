/** The option `winograd` and LOCKSTEP_WINOGRAD: which implementations run, and what they compute. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { OneDnnBackend, type OneDnnBackendOptions } from './backend.js';
import { loadLibrary } from './ffi/library.js';
import { BACKEND_NAME } from './kernels/kernel.js';
import { assertClose, run, runOn, sample, toTensor } from './testing/backend.js';

/** A convolution that Winograd pays for in all three directions, and its results. */
function convolutions(): tf.Tensor[] {
  const attrs = { strides: [1, 1], dilations: [1, 1], pad: 'same', dataFormat: 'NHWC' };
  const [x, dy] = [toTensor(sample([2, 16, 16, 64], 1)), toTensor(sample([2, 16, 16, 64], 3))];
  const filter = toTensor(sample([3, 3, 64, 64], 2));
  return [
    ...run('Conv2D', { x, filter }, attrs),
    ...run('Conv2DBackpropInput', { dy, filter }, { ...attrs, inputShape: x.shape }),
    ...run('Conv2DBackpropFilter', { x, dy }, { ...attrs, filterShape: filter.shape }),
  ];
}

let backends = 0;

/** Implementations of the convolutions on a backend made with these options, and the values. */
async function computed(options: OneDnnBackendOptions) {
  const name = `winograd-${backends++}`;
  tf.registerBackend(name, () => new OneDnnBackend(options));
  tf.copyRegisteredKernels(BACKEND_NAME, name);
  assert.ok(await tf.setBackend(name));
  const implementations: string[] = [];
  const { runtime } = tf.backend() as OneDnnBackend;
  runtime.observer = ({ label, implementation }) => {
    if (label.startsWith('convolution')) implementations.push(implementation);
  };
  const values = tf.tidy(() => convolutions().map((result) => result.dataSync().slice()));
  assert.equal(implementations.length, 3);
  return { winograd: implementations.filter((one) => one.includes('wino')).length, values, runtime };
}

async function withVariable<T>(value: string, use: () => Promise<T>): Promise<T> {
  const before = process.env.LOCKSTEP_WINOGRAD;
  process.env.LOCKSTEP_WINOGRAD = value;
  try {
    return await use();
  } finally {
    if (before === undefined) delete process.env.LOCKSTEP_WINOGRAD;
    else process.env.LOCKSTEP_WINOGRAD = before;
  }
}

test('winograd: false, and LOCKSTEP_WINOGRAD=0, compute every convolution directly', async (context) => {
  const expected = await runOn('cpu', convolutions);
  for (const direct of [await computed({ winograd: false }), await withVariable('0', () => computed({}))]) {
    assert.equal(direct.winograd, 0);
    // Closer than Winograd is required to be.
    direct.values.forEach((values, i) => {
      assertClose(values, expected[i]!.values, 2e-5, `output ${i}`);
    });
  }
  const on = await withVariable('', () => computed({}));
  if (!on.runtime.hasAvx512 || loadLibrary().version.major > 2) {
    context.skip('there is none to turn off: oneDNN 2 has Winograd for AVX-512, 3.7 has none');
    return;
  }
  assert.equal(on.winograd, 3);
  // The option goes before the environment.
  assert.equal((await withVariable('0', () => computed({ winograd: true }))).winograd, 3);
  assert.equal((await withVariable('1', () => computed({}))).winograd, 3);
});

test('another value of LOCKSTEP_WINOGRAD is an error that says what there is', async () => {
  await withVariable('off', async () => {
    assert.throws(() => new OneDnnBackend(), /LOCKSTEP_WINOGRAD=off is neither 0 nor 1\.\nhelp: 0 computes/);
    const { default: setup } = await import('./device/device.js');
    await assert.rejects(setup({ threads: 1, cores: [], device: 'cpu:0' }), /LOCKSTEP_WINOGRAD=off is neither 0 nor 1/);
  });
});
